"""What the four models can do, by task and length: within training, at the labelled lengths, and beyond."""

# P problems   W tokens written after a problem

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.common.contract import World
from models.common.report import Curve
from models.relay.config import EvaluationConfig
from models.relay.labels import read_filter_accuracy, read_label_accuracy
from models.relay.labels_config import ReadingConfig
from models.relay.network import read_student, read_teacher
from models.relay.problems import Group, Problems
from models.relay.reading import read_problems
from models.relay.reports.findings import GIVEN, MODELS, TRAINED, Found, LabelCounts, rule_name
from models.relay.reports.report import make_report
from models.relay.reports.scores import KINDS, Score, score
from models.relay.study import Study, chains_of_student
from models.relay.task import Tokens

SCORES_FILE = "scores.csv"


@dataclass(frozen=True)
class Part:
    """What a model wrote after a group's test problems, in the task's own tokens, and the loops it took, if any."""

    written_PW: Tokens
    loops_P: NDArray[np.int64] | None = None


def shards(config: EvaluationConfig, inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Each model on each group, the longest chains first; the teacher also by each rule that it may stop by."""
    problems = Problems.read(inputs["problems"])
    longest_first = sorted(problems.groups, key=lambda group: (-_chain_width(problems, group), group))
    given = ReadingConfig()
    return [
        {"model": model, "task": group.task, "length": group.length, "reading": reading.model_dump(mode="json")}
        for group in longest_first
        for model in MODELS
        for reading in ((given, *_other_readings(config, problems, group)) if model == "teacher" else (given,))
    ]


def _chain_width(problems: Problems, group: Group) -> int:
    return problems.solutions(group, problems.tests(group)).shape[1]


def _other_readings(config: EvaluationConfig, problems: Problems, group: Group) -> Iterator[ReadingConfig]:
    """Rules beside the given T, without those that leave no loop or that the task's rounds cannot tell."""
    for more_loops in dict.fromkeys(config.more_loops):
        if more_loops and problems.loops(group) + more_loops > 0:
            yield ReadingConfig(more_loops=more_loops)
    rounds_tell = problems.tasks[group.task].is_last(problems.tests(group)[:1]) is not None
    for halting in dict.fromkeys(config.halting):
        if halting == "confidence" or rounds_tell:
            yield ReadingConfig(halting=halting)


def process(config: EvaluationConfig, shard: dict[str, Any], world: World) -> Part:
    """What the model writes after each test problem of the shard's group, greedily and on its own."""
    problems = Problems.read(world.inputs["problems"])
    group = Group(shard["task"], shard["length"])
    folder = world.inputs[shard["model"]]
    if shard["model"] == "teacher":
        teacher = read_teacher(folder, len(problems.vocabulary), world.device)
        rule = ReadingConfig.model_validate(shard["reading"])
        reading = read_problems(teacher, problems, group, problems.tests(group), rule)
        return Part(reading.written(problems.tasks[group.task]), reading.loops_P)
    student = read_student(folder, len(problems.vocabulary), world.device)
    return Part(chains_of_student(student, problems, group))


def collect(config: EvaluationConfig, parts: Sequence[Part], inputs: Mapping[str, Path], folder: Path) -> None:
    """Scores what was written, and writes the report and a file of all scores."""
    problems = Problems.read(inputs["problems"])
    written: dict[tuple[str, Group], Tokens] = {}
    scores: dict[str, dict[Group, Score]] = {model: {} for model in MODELS}
    loops: dict[str, dict[Group, Score]] = {}
    for shard, part in zip(shards(config, inputs), parts, strict=True):
        group, rule = Group(shard["task"], shard["length"]), rule_name(ReadingConfig.model_validate(shard["reading"]))
        found = score(problems.tasks[group.task], problems.tests(group), group.length, part.written_PW, part.loops_P)
        if rule == GIVEN:
            written[shard["model"], group] = part.written_PW
            scores[shard["model"]][group] = found
        else:
            loops.setdefault(rule, {})[group] = found
    filters = read_filter_accuracy(inputs["labels"])
    labels = {
        group: LabelCounts(**counts, alone=filters[group])
        for group, counts in read_label_accuracy(inputs["labels"]).items()
    }
    losses = {label: loss_curve(inputs[name], label) for name, label in TRAINED.items()}
    seeds = Study.read(inputs["study"]).seeds
    make_report(config, Found(problems, written, scores, loops, labels, losses, seeds)).write(folder)
    write_scores(folder / SCORES_FILE, scores, loops)


def loss_curve(folder: Path, label: str) -> Curve:
    """The stage's loss, step by step."""
    curves = json.loads((folder / "curves.json").read_text())
    loss = tuple(curves["metrics"].get("loss", ()))
    return Curve(label=label, x=tuple(float(step) for step in curves["steps"][: len(loss)]), y=loss)


def write_scores(
    file: Path, scores: Mapping[str, Mapping[Group, Score]], loops: Mapping[str, Mapping[Group, Score]]
) -> None:
    """Every score as a row: task, length, model, the rule it stops by, and each share with its 95 % interval."""
    ends = [f"{kind}_{end}" for kind in KINDS for end in ("", "low", "high")]
    rows = [(model, GIVEN if model == "teacher" else "", of_group) for model, of_group in scores.items()]
    rows += [("teacher", rule, of_group) for rule, of_group in loops.items()]
    with file.open("w", newline="", encoding="utf-8") as opened:
        lines = csv.writer(opened, lineterminator="\n")
        lines.writerow(
            ["task", "length", "model", "stops_after", "problems", *(end.rstrip("_") for end in ends), "mean_loops"]
        )
        for model, rule, of_group in rows:
            for group, found in sorted(of_group.items()):
                shares = [f"{value:.6f}" for kind in KINDS for value in (found.share(kind), *found.interval(kind))]
                taken = "" if found.loops is None else f"{found.loops:.3f}"
                lines.writerow([group.task, group.length, model, rule, found.problems, *shares, taken])
