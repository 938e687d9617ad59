"""A study over seeds: what each of them trains, what it is tested on, and what is written of it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.common.contract import World
from models.relay.arms import NO_LABELS
from models.relay.config import RelayConfig, StudyStage
from models.relay.decoding import room, write_chains
from models.relay.network import read_student, read_teacher
from models.relay.presets import tiny
from models.relay.problems import Group, Problems
from models.relay.reading import read_problems
from models.relay.reports.scores import score
from models.relay.study import (
    Study,
    digits,
    outcomes_of,
    outcomes_of_loop,
    outcomes_of_student,
    process,
    shards,
    trained_stages,
)
from models.relay.task import EOS, PAD

WorldOf = Callable[..., World]
ALWAYS = {"teacher", "student_before", "control", "relay"}


def small() -> RelayConfig:
    few = {f"{stage}.max_steps": 3 for stage in ("teacher", "student", "fine_tuning", "control")}
    return tiny().with_overrides(few | {"data.tests_per_length": 6, "labels.problems_per_length": 8})


def stage_of(**changes: object) -> StudyStage:
    return small().study_stage.with_overrides(changes)


@pytest.fixture
def beside(tmp_path: Path, world_of: WorldOf) -> World:
    """The world of a study that is given the run's problems alone."""
    folder = tmp_path / "problems"
    folder.mkdir()
    small().data.prepare(folder)
    return world_of({"problems": folder})


@pytest.fixture
def run(tmp_path: Path, world_of: WorldOf, beside: World) -> World:
    """The world of a study whose run has its own pipeline already."""
    folder = tmp_path / "run"
    folder.mkdir()
    return world_of(trained_stages(stage_of(), 0, beside, folder))


def test_the_runs_own_seed_is_always_there_and_comes_last() -> None:
    assert shards(stage_of()) == [{"number": 0}]
    assert [shard["number"] for shard in shards(stage_of(**{"study.seeds": 2}))] == [1, 2, 0]


def test_the_runs_own_seed_is_scored_with_the_networks_that_it_was_given(run: World) -> None:
    seed = process(stage_of(), {"number": 0}, run)
    assert set(seed.arms) == ALWAYS
    problems = Problems.read(run.inputs["problems"])
    student = read_student(run.inputs["student"], len(problems.vocabulary), run.device)
    for group in problems.groups:
        written = write_chains(student, problems, group, problems.tests(group), most=room(problems, group)).written_PW
        expected = score(problems.tasks[group.task], problems.tests(group), group.length, written)
        found = seed.arms["relay"].outcomes[group]
        assert (found.answers.count("1"), found.chains.count("1")) == (expected.right_answers, expected.right_chains)
        assert (found.right_tokens, found.tokens) == (expected.right_tokens, expected.tokens)
        assert len(found.answers) == len(found.chains) == expected.problems


def test_the_teacher_is_scored_by_what_it_writes(run: World) -> None:
    problems = Problems.read(run.inputs["problems"])
    teacher = read_teacher(run.inputs["teacher"], len(problems.vocabulary), run.device)
    outcomes = outcomes_of_loop(problems, run.inputs["teacher"], run)
    for group in problems.groups:
        written = read_problems(teacher, problems, group, problems.tests(group)).written(problems.tasks[group.task])
        expected = score(problems.tasks[group.task], problems.tests(group), group.length, written)
        found = outcomes[group]
        assert (found.answers.count("1"), found.right_tokens) == (expected.right_answers, expected.right_tokens)


def test_an_arm_of_answers_alone_has_no_chains(run: World) -> None:
    seed = process(stage_of(**{"study.arms": ("vanilla_loop",)}), {"number": 0}, run)
    groups = list(seed.arms["relay"].outcomes)
    assert seed.arms["relay"].writes_chains(groups)
    assert not seed.arms["vanilla_loop"].writes_chains(groups)
    assert all(len(outcomes.answers) == 6 for outcomes in seed.arms["vanilla_loop"].outcomes.values())


def test_answers_and_chains_are_told_problem_by_problem(problems: Problems) -> None:
    group = Group("arithmetic", 3)
    solutions = problems.solutions(group, problems.tests(group))
    answers = problems.tasks["arithmetic"].answers(problems.tests(group), 3)
    written, said = solutions.copy(), answers.copy()
    written[1, 0] = np.where(written[1, 0] == 9, 8, 9)  # a fault in the first round
    said[4] = np.where(said[4] == 9, 8, 9)
    written[5:, -1] = PAD  # never ends
    found = outcomes_of(problems, group, said, written)
    assert found.answers == "1111" + "0" + "1" * 59
    assert found.chains == "1011" + "1" + "0" * 59
    assert found.tokens - found.right_tokens == 1 + 59
    assert found.tokens == np.isin(solutions, [PAD], invert=True).sum()
    assert (solutions[5:, -1] == EOS).all()


def test_digits_say_which_are_right() -> None:
    assert digits(np.array([True, False, False, True])) == "1001"


@pytest.mark.parametrize("number", [1, 2])
def test_a_further_seed_has_tests_of_its_own(beside: World, tmp_path: Path, number: int) -> None:
    config = stage_of()
    for each in (0, number):
        (tmp_path / str(each)).mkdir()
        trained_stages(config, each, beside, tmp_path / str(each))
    own, further = (Problems.read(tmp_path / str(each) / "problems") for each in (0, number))
    assert further.data.seed == own.data.seed + number
    group = own.train[-1]
    assert own.tests(group).tolist() != further.tests(group).tolist()


def test_a_further_seed_needs_nothing_of_the_run_and_is_the_same_each_time(beside: World) -> None:
    config = stage_of(**{"study.arms": ("truth", "self_vote"), "study.phases": 1})
    first, second = (process(config, {"number": 1}, beside) for _ in range(2))
    assert first == second
    assert set(first.arms) == ALWAYS | {"truth", "self_vote"}
    other = process(config, {"number": 2}, beside)
    assert other.as_json()["arms"] != first.as_json()["arms"]


def test_a_seed_of_which_no_label_is_kept_goes_on_without_them(beside: World) -> None:
    changes = {"labels.filters.kept": ("confidence",), "labels.filters.least_confidence": 1.0}
    seed = process(stage_of(**changes, **{"study.arms": ("equal_tokens", "truth")}), {"number": 1}, beside)
    assert seed.arms["relay"].stopped == seed.arms["equal_tokens"].stopped == NO_LABELS
    assert seed.arms["relay"].outcomes == seed.arms["student_before"].outcomes
    assert not seed.arms["truth"].stopped


def test_labels_of_the_pipeline_are_told_with_its_student(run: World) -> None:
    seed = process(stage_of(), {"number": 0}, run)
    counts = seed.arms["relay"].label_accuracy[Group("arithmetic", 3)]
    assert counts["labels"] == counts["kept"] == 8
    assert not seed.arms["control"].label_accuracy


def test_a_study_is_read_back_with_the_runs_own_seed_first(run: World, tmp_path: Path) -> None:
    own = process(stage_of(), {"number": 0}, run)
    further = replace(own, number=1)
    folder = tmp_path / "study"
    folder.mkdir()
    stage_of(**{"study.seeds": 1}).collect([further, own], {}, folder)
    assert Study.read(folder).seeds == [own, further]


def test_many_tests_are_worked_off_in_parts_as_in_one(run: World, monkeypatch: pytest.MonkeyPatch) -> None:
    problems = Problems.read(run.inputs["problems"])
    whole = outcomes_of_student(problems, run.inputs["student"], run)
    monkeypatch.setattr("models.relay.study._TESTS_AT_ONCE", 4)
    assert outcomes_of_student(problems, run.inputs["student"], run) == whole
