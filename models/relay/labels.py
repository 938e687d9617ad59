"""The teacher works off new, longer problems, and what it writes becomes the student's data, right or wrong."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from models.common.contract import World
from models.relay.arithmetic import EOS, Tokens, exact_matches, widened, written_answers
from models.relay.batches import LABELS, Labels
from models.relay.config import LabelsConfig
from models.relay.problems import Problems

ACCURACY_FILE = "label_accuracy.json"


def shards(config: LabelsConfig, inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Pieces of at most `shard_size` problems, the longest problems first."""
    lengths = sorted(Problems.read(inputs["problems"]).label_lengths, reverse=True)
    starts = range(0, config.problems_per_length, config.shard_size)
    return [
        {"length": length, "first": first, "count": min(config.shard_size, config.problems_per_length - first)}
        for length in lengths
        for first in starts
    ]


def process(shard: dict[str, Any], world: World) -> dict[str, Any]:
    """The shard's problems, drawn by the run's seed, and what the teacher writes after each."""
    from models.relay.network import read_teacher  # here: the rest of this file needs no torch
    from models.relay.teacher import work_off

    problems = Problems.read(world.inputs["problems"])
    rng = np.random.default_rng([world.seed, LABELS, shard["length"], shard["first"]])
    problems_PL = problems.draw(rng, shard["length"], shard["count"])
    teacher = read_teacher(world.inputs["teacher"], len(problems.arithmetic.vocabulary), world.device)
    return {"length": shard["length"], "problems": problems_PL, "written": work_off(teacher, problems_PL)}


def collect(parts: list[Any], inputs: Mapping[str, Path], folder: Path) -> None:
    """Writes one file of rows a length, and beside them how many are right, which no training reads."""
    problems = Problems.read(inputs["problems"])
    rows_by_length, accuracy = {}, {}
    for length in sorted({part["length"] for part in parts}):
        mine = [part for part in parts if part["length"] == length]
        widest = max(part["written"].shape[1] for part in mine)
        problems_PL = np.concatenate([part["problems"] for part in mine])
        written_PW = np.concatenate([widened(part["written"], widest) for part in mine])
        rows_by_length[length] = np.concatenate([problems_PL, written_PW], axis=1)
        accuracy[str(length)] = _accuracy(problems, problems_PL, written_PW)
    Labels(rows_by_length).write(folder)
    (folder / ACCURACY_FILE).write_text(json.dumps(accuracy, indent=1, sort_keys=True) + "\n")


def _accuracy(problems: Problems, problems_PL: Tokens, written_PW: Tokens) -> dict[str, int]:
    right_answers_P = written_answers(written_PW) == problems.arithmetic.answers(problems_PL)
    right_chains_P = exact_matches(written_PW, problems.arithmetic.solutions(problems_PL))
    return {
        "labels": len(problems_PL),
        "right_answers": int(right_answers_P.sum()),
        "right_chains": int(right_chains_P.sum()),
    }


def write_made_up_labels(problems_folder: Path, folder: Path) -> Path:
    """Labels of the right form, for a trial of the stages that read them: each chain repeats its problem once."""
    problems = Problems.read(problems_folder)
    folder.mkdir()
    rows_by_length = {}
    for length in problems.label_lengths:
        problems_PL = problems.draw(np.random.default_rng(length), length, 16)
        answer_P1 = problems_PL[:, :1]
        end_P1 = np.full((len(problems_PL), 1), EOS, np.uint8)
        rows_by_length[length] = np.concatenate([problems_PL, problems_PL, answer_P1, end_P1], axis=1)
    Labels(rows_by_length).write(folder)
    return folder
