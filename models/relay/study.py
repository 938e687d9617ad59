"""The pipeline again at further seeds, and the arms beside it: what each of them writes after the test problems."""

# P problems   W tokens written   A tokens of an answer

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.common.contract import World
from models.common.in_process import train_in_process
from models.relay.arms import ANSWERS_ONLY, ARMS, NO_LABELS, Pipeline, TrainedArm, accuracy_of
from models.relay.comparison import ArmResult, Outcomes, Seed
from models.relay.config import StudyStage
from models.relay.decoding import room, write_chains
from models.relay.labels import write_labels
from models.relay.network import Decoder, read_student, read_teacher
from models.relay.problems import Group, Problems
from models.relay.reading import read_problems
from models.relay.reports.scores import hits, key_to
from models.relay.task import Tokens, exact_matches, stacked, written_answers

STUDY_FILE = "study.json"
_TESTS_AT_ONCE = 512

# What every seed has, by the arms' names: the stage that it is read from.
ALWAYS = {"teacher": "teacher", "student_before": "student_before", "control": "control", "relay": "student"}
LOOPED = {"teacher"} | ANSWERS_ONLY


@dataclass(frozen=True)
class Study:
    """What the seeds gave, the run's own first."""

    seeds: list[Seed]

    @classmethod
    def read(cls, folder: Path) -> Study:
        """What a study's stage wrote."""
        found = json.loads((folder / STUDY_FILE).read_text())
        return cls([Seed.from_json(seed) for seed in found["seeds"]])


def shards(config: StudyStage) -> list[dict[str, Any]]:
    """Each further seed, then the run's own, number 0, whose pipeline is there already."""
    return [{"number": number} for number in (*range(1, config.study.seeds + 1), 0)]


def process(config: StudyStage, shard: dict[str, Any], world: World) -> Seed:
    """All arms of one seed, one after the other in this process, and what they write after the test problems."""
    number = shard["number"]
    world = replace(world, seed=world.seed + number)
    with TemporaryDirectory(prefix="orchard-study-") as place:
        folder = Path(place)
        stages = dict(_run_of(world)) if number == 0 else trained_stages(config, number, world, folder)
        pipeline = Pipeline(config, world, folder, stages)
        arms = {name: _always(pipeline, stage) for name, stage in ALWAYS.items()}
        arms |= {name: ARMS[name](pipeline, folder / f"arm_{name}") for name in config.study.arms}
        results = {name: _result(pipeline, name, arm) for name, arm in arms.items()}
    return Seed(number, results)


def collect(config: StudyStage, parts: Sequence[Seed], folder: Path) -> None:
    """Writes what every seed gave, the run's own first."""
    by_number = {shard["number"]: seed.as_json() for shard, seed in zip(shards(config), parts, strict=True)}
    seeds = [by_number[number] for number in sorted(by_number)]
    (folder / STUDY_FILE).write_text(json.dumps({"seeds": seeds}, sort_keys=True) + "\n")


def trained_stages(config: StudyStage, number: int, world: World, folder: Path) -> dict[str, Path]:
    """The pipeline of a further seed, with tests of its own: what its stages wrote, by name.

    Without labels and student where no label was kept.
    """
    problems = {"problems": folder / "problems"}
    problems["problems"].mkdir()
    data = Problems.read(world.inputs["problems"]).data
    data.but(seed=data.seed + number).prepare(problems["problems"])
    stages = dict(problems)
    stages["teacher"] = train_in_process(config.teacher, world, folder / "teacher", problems).folder
    before = train_in_process(config.student, world, folder / "student_before", problems).folder
    stages["student_before"] = before
    stages["control"] = train_in_process(config.control, world, folder / "control", problems, before).folder
    writers = problems | {"teacher": stages["teacher"], "student": before}
    if write_labels(config.labels, world, writers, folder / "labels"):
        stages["labels"] = folder / "labels"
        inputs = problems | {"labels": stages["labels"]}
        stages["student"] = train_in_process(config.fine_tuning, world, folder / "student", inputs, before).folder
    return stages


def _run_of(world: World) -> dict[str, Path]:
    """The run's own stages, as they were given."""
    return {name: world.inputs[name] for name in ("problems", "labels", *ALWAYS.values())}


def _always(pipeline: Pipeline, stage: str) -> TrainedArm:
    """One of the stages as an arm."""
    stages = pipeline.stages
    if stage not in stages:
        return TrainedArm(stages["student_before"], stopped=NO_LABELS)
    return TrainedArm(stages[stage], label_accuracy=accuracy_of({0: stages["labels"]}) if stage == "student" else {})


def _result(pipeline: Pipeline, name: str, arm: TrainedArm) -> ArmResult:
    """What the arm's network does with the test problems of every group, and what the arm says about itself."""
    problems, world = pipeline.read_problems(), pipeline.world
    if name in LOOPED:
        outcomes = outcomes_of_loop(problems, arm.network, world, answers_only=name in ANSWERS_ONLY)
    else:
        outcomes = outcomes_of_student(problems, arm.network, world)
    return ArmResult(outcomes, arm.counted, arm.label_accuracy, arm.stopped)


def outcomes_of_loop(
    problems: Problems, folder: Path, world: World, *, answers_only: bool = False
) -> dict[Group, Outcomes]:
    """Of a looped network that is run T times, as the length of a problem says."""
    network = read_teacher(folder, len(problems.vocabulary), world.device)
    outcomes = {}
    for group in problems.groups:
        reading = read_problems(network, problems, group, problems.tests(group))
        written_PW = None if answers_only else reading.written(problems.tasks[group.task])
        outcomes[group] = outcomes_of(problems, group, reading.answers_PA, written_PW)
    return outcomes


def outcomes_of_student(problems: Problems, folder: Path, world: World) -> dict[Group, Outcomes]:
    """Of a student that writes greedily and on its own."""
    network = read_student(folder, len(problems.vocabulary), world.device)
    outcomes = {}
    for group in problems.groups:
        written_PW = chains_of_student(network, problems, group)
        answers_PA = written_answers(written_PW, problems.tasks[group.task].answer_width(group.length))
        outcomes[group] = outcomes_of(problems, group, answers_PA, written_PW)
    return outcomes


def chains_of_student(network: Decoder, problems: Problems, group: Group) -> Tokens:
    """What a student writes after a group's test problems (P, W).

    As many at a time as keys and values of long chains leave room for.
    """
    tests_PL, most = problems.tests(group), room(problems, group)
    return stacked(
        [
            write_chains(network, problems, group, tests_PL[first : first + _TESTS_AT_ONCE], most=most).written_PW
            for first in range(0, len(tests_PL), _TESTS_AT_ONCE)
        ]
    )


def outcomes_of(problems: Problems, group: Group, answers_PA: Tokens, written_PW: Tokens | None) -> Outcomes:
    """Answers and chains beside the solver's, test problem by test problem; None: no chains were written."""
    key = key_to(problems.tasks[group.task], problems.tests(group), group.length)
    answers = digits((answers_PA == key.answers_PA).all(axis=1))
    if written_PW is None:
        return Outcomes(answers)
    return Outcomes(
        answers=answers,
        chains=digits(exact_matches(written_PW, key.solutions_PW)),
        right_tokens=int(hits(key, written_PW).sum()),
        tokens=int(np.count_nonzero(key.solutions_PW)),
    )


def digits(right_P: NDArray[np.bool_]) -> str:
    """1 where it is right and 0 where it is not."""
    return "".join("01"[right] for right in right_P.astype(int))
