"""The evaluation's shards, what they write, and the files that are made of it, on networks that know nothing yet."""

import csv
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models.common.contract import World
from models.common.report import Report
from models.relay import evaluate
from models.relay.config import EvaluationConfig, StudentConfig, TeacherConfig
from models.relay.data_config import ProblemsData, TaskLengths
from models.relay.evaluate import Part
from models.relay.network import Decoder, LoopedTransformer
from models.relay.network_config import NetworkConfig
from models.relay.problems import Group, Problems
from models.relay.reports.scores import score
from models.relay.task import exact_matches
from models.relay.tasks.edit_distance import EditDistance
from tests.models.relay import made_up

NETWORK = NetworkConfig(layers=1, width=8, heads=2, feed_forward_width=8)
CONFIG = EvaluationConfig(more_loops=(-1, 0, 2, 2), halting=("last_round", "confidence"))


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    """All folders that the evaluation reads, of two tasks."""
    tasks = (
        TaskLengths(train_lengths=(1, 2), label_lengths=(3,), untouched_lengths=(4,)),
        TaskLengths(task=EditDistance(), train_lengths=(2,), label_lengths=(3,), untouched_lengths=()),
    )
    folders = {name: tmp_path / name for name in ("problems", "labels", "study", *evaluate.MODELS)}
    for folder in folders.values():
        folder.mkdir()
    ProblemsData(tasks=tasks, tests_per_length=6).prepare(folders["problems"])
    problems = Problems.read(folders["problems"])
    torch.manual_seed(0)
    for model in evaluate.MODELS:
        stage = TeacherConfig(network=NETWORK) if model == "teacher" else StudentConfig(network=NETWORK)
        network = (
            LoopedTransformer(stage, len(problems.vocabulary))
            if isinstance(stage, TeacherConfig)
            else Decoder(NETWORK, len(problems.vocabulary))
        )
        weights = {name: value.contiguous() for name, value in network.state_dict().items()}
        save_file(weights, folders[model] / "weights.safetensors")
        _write(folders[model] / "config.json", stage.model_dump(mode="json"))
        _write(folders[model] / "curves.json", {"steps": [1, 2], "metrics": {"loss": [2.0, 1.0]}})
    counts = {"labels": 4, "right_answers": 3, "right_chains": 2}
    kept = {"kept": 4, "kept_right_answers": 3, "kept_right_chains": 2}
    labelled = {str(group): {**counts, **kept, "alone": {}} for group in problems.label}
    _write(folders["labels"] / "label_accuracy.json", labelled)
    own = made_up.seed(problems, 0, {"relay": 2, "control": 1})
    _write(folders["study"] / "study.json", {"seeds": [own.as_json()]})
    return folders


def _write(file: Path, values: Any) -> None:
    file.write_text(json.dumps(values))


def _parts_by(problems: Problems, inputs: dict[str, Path], faults: dict[str, int]) -> list[Part]:
    """What models would write that have so many faults in every group."""
    parts = []
    for shard in CONFIG.shards(inputs):
        group = Group(shard["task"], shard["length"])
        loops = np.full(len(problems.tests(group)), problems.loops(group)) if shard["model"] == "teacher" else None
        count = min(faults[shard["model"]], len(problems.tests(group)))
        parts.append(Part(made_up.written(problems, group, count), loops))
    return parts


def test_each_model_has_each_group_once_and_the_teacher_other_rules_too(inputs: dict[str, Path]) -> None:
    shards = CONFIG.shards(inputs)
    assert shards == CONFIG.shards(inputs)
    assert json.loads(json.dumps(shards)) == shards
    given = [shard for shard in shards if shard["reading"] == {"halting": "given", "more_loops": 0}]
    of_models = [(shard["model"], shard["task"], shard["length"]) for shard in given]
    assert len(set(of_models)) == len(of_models) == 4 * 6
    other: dict[tuple[str, int], set[Any]] = {}
    for shard in shards:
        if shard not in given:
            assert shard["model"] == "teacher"
            halting, more = shard["reading"]["halting"], shard["reading"]["more_loops"]
            other.setdefault((shard["task"], shard["length"]), set()).add(more if halting == "given" else halting)
    assert other["arithmetic", 1] == {2, "last_round", "confidence"}, "T - 1 would be no loop at all"
    assert other["arithmetic", 3] == {-1, 2, "last_round", "confidence"}
    assert other["edit_distance", 3] == {-1, 2, "confidence"}, "no row of a table says that it is the last"
    assert len(shards) == len(given) + sum(len(rules) for rules in other.values()), "each rule once"


def test_the_longest_chains_come_first(inputs: dict[str, Path]) -> None:
    problems = Problems.read(inputs["problems"])
    widths = []
    for shard in CONFIG.shards(inputs):
        group = Group(shard["task"], shard["length"])
        widths.append(problems.solutions(group, problems.tests(group)).shape[1])
    assert widths == sorted(widths, reverse=True)


def test_every_shard_can_be_worked_on_and_collected(
    inputs: dict[str, Path], world_of: Callable[..., World], tmp_path: Path
) -> None:
    world, problems = world_of(inputs), Problems.read(inputs["problems"])
    shards = CONFIG.shards(inputs)
    parts = [pickle.loads(pickle.dumps(CONFIG.process(shard, world))) for shard in shards]  # noqa: S301 our own bytes
    for shard, part in zip(shards, parts, strict=True):
        group = Group(shard["task"], shard["length"])
        assert len(part.written_PW) == len(problems.tests(group))
        assert (part.loops_P is None) == (shard["model"] != "teacher")
        if shard["reading"]["halting"] == "given" and part.loops_P is not None:
            assert set(part.loops_P) == {problems.loops(group) + shard["reading"]["more_loops"]}
    (tmp_path / "out").mkdir()
    CONFIG.collect(parts, inputs, tmp_path / "out")
    report = Report.read(tmp_path / "out")
    assert set(report.metrics["loops"]["arithmetic"]) == {"T-1", "T", "T+2", "last_round", "confidence"}
    assert set(report.metrics["loops"]["edit_distance"]) == {"T-1", "T", "T+2", "confidence"}


def test_what_was_written_is_what_is_scored(inputs: dict[str, Path], tmp_path: Path) -> None:
    problems = Problems.read(inputs["problems"])
    faults = {"teacher": 0, "student_before": 4, "control": 3, "student": 1}
    (tmp_path / "out").mkdir()
    CONFIG.collect(_parts_by(problems, inputs, faults), inputs, tmp_path / "out")
    metrics = Report.read(tmp_path / "out").metrics
    for task, length in (("arithmetic", 3), ("arithmetic", 4), ("edit_distance", 2), ("edit_distance", 3)):
        of_task = metrics["tasks"][task]
        found = {model: of_task[model]["chain_exact_match"][str(length)] for model in faults}
        assert found == pytest.approx({model: 1 - count / 6 for model, count in faults.items()}, abs=1e-6)
    assert metrics["labels"]["arithmetic"]["3"]["chains"] == 0.5
    assert metrics["arms"]["arithmetic"]["control"]["relay_minus_this"]["mean"] == pytest.approx(1 / 6, abs=1e-6)


def test_every_score_is_a_row_with_its_intervals(inputs: dict[str, Path], tmp_path: Path) -> None:
    problems = Problems.read(inputs["problems"])
    (tmp_path / "out").mkdir()
    faults = {"teacher": 0, "student_before": 4, "control": 3, "student": 1}
    CONFIG.collect(_parts_by(problems, inputs, faults), inputs, tmp_path / "out")
    with (tmp_path / "out" / evaluate.SCORES_FILE).open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert len(rows) == len(CONFIG.shards(inputs))
    [row] = [row for row in rows if (row["task"], row["length"], row["model"]) == ("edit_distance", "3", "control")]
    assert (row["problems"], row["chain_exact_match"], row["mean_loops"]) == ("6", "0.500000", "")
    assert float(row["chain_exact_match_low"]) < 0.5 < float(row["chain_exact_match_high"])
    rules = {row["stops_after"] for row in rows if row["model"] == "teacher"}
    assert rules == {"T", "T-1", "T+2", "last_round", "confidence"}


def test_a_chain_that_differs_is_counted_as_one_loop_over_the_problems_would(inputs: dict[str, Path]) -> None:
    problems = Problems.read(inputs["problems"])
    for group in problems.groups:
        tests_PL = problems.tests(group)
        written_PW = made_up.written(problems, group, 2)
        right = problems.solutions(group, tests_PL)
        by_hand = sum(one.tolist() == other.tolist() for one, other in zip(written_PW, right, strict=True))
        found = score(problems.tasks[group.task], tests_PL, group.length, written_PW)
        assert found.right_chains == by_hand == exact_matches(written_PW, right).sum() == len(tests_PL) - 2
