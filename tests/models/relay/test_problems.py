"""The prepared folder: what it promises about test problems, bytes and reading; and which data it refuses."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from models.common.errors import ConfigError, DataError
from models.relay.data_config import ProblemsData, TaskLengths
from models.relay.problems import Group, Problems, distinct, fingerprints
from models.relay.tasks.arithmetic import Arithmetic
from models.relay.tasks.edit_distance import EditDistance
from models.relay.tasks.increasing import LongestIncreasing
from models.relay.tasks.parity import Parity
from models.relay.tasks.permutations import WordProblem
from models.relay.tasks.user import UserTask

BRACKETS = Arithmetic(modulus=5, operators=("+", "*"), brackets=True)
SEVERAL = ProblemsData(
    tasks=(
        TaskLengths(task=BRACKETS, train_lengths=(1, 3), label_lengths=(4,), untouched_lengths=(9,)),
        TaskLengths(task=EditDistance(), train_lengths=(1, 2), label_lengths=(6, 7), untouched_lengths=()),
        TaskLengths(task=Parity(), train_lengths=(1, 2, 5), label_lengths=(20,), untouched_lengths=(40,)),
    ),
    tests_per_length=32,
)


def prepared(folder: Path, data: ProblemsData) -> Path:
    folder.mkdir()
    data.prepare(folder)
    return folder


def texts(problems: Problems, group: Group, tokens: np.ndarray) -> list[str]:
    return [problems.tasks[group.task].text(row) for row in tokens]


@pytest.mark.parametrize("data", [ProblemsData(tests_per_length=64), SEVERAL], ids=["arithmetic", "several"])
def test_no_problem_is_both_for_tests_and_for_training(data: ProblemsData):
    problems = Problems.choose(data)
    rng = np.random.default_rng(0)
    for group in problems.groups:
        tests = texts(problems, group, problems.tests(group))
        drawn = texts(problems, group, problems.draw(rng, group, 1500))
        assert len(drawn) == 1500
        assert len(set(tests)) == len(tests) <= data.tests_per_length
        assert not set(tests) & set(drawn)


def test_few_problems_leave_most_for_training():
    problems = Problems.choose(ProblemsData(tests_per_length=64))
    group = Group("arithmetic", 1)  # 7 x 2 x 7 = 98 problems
    assert len(problems.tests(group)) == 98 // 4
    assert len(set(texts(problems, group, problems.draw(np.random.default_rng(0), group, 3000)))) == 98 - 98 // 4
    one_bit = Problems.choose(SEVERAL)
    group = Group("parity", 1)  # 0 and 1
    assert len(one_bit.tests(group)) == 1
    assert len(set(texts(one_bit, group, one_bit.draw(np.random.default_rng(0), group, 50)))) == 1


def test_a_length_of_which_nothing_is_left_is_named():
    data = ProblemsData(tasks=(TaskLengths(task=WordProblem(degree=2)),))
    problems = Problems.choose(data)
    group = Group("word_problem", 1)
    held = {**problems.held_out, group: problems.tasks["word_problem"].read("<12> <12> =")[None]}
    assert len(Problems(data, held).draw(np.random.default_rng(0), group, 20)) == 20
    every = np.array([[a, b, 2] for a in (3, 4) for b in (3, 4)], np.uint16)
    with pytest.raises(DataError, match="all problems of length 1 that were drawn are held out"):
        Problems(data, {**held, group: every}).draw(np.random.default_rng(0), group, 20)


def test_prepare_writes_the_same_bytes_for_the_same_config(tmp_path: Path):
    def digests(name: str, data: ProblemsData) -> dict[str, str]:
        folder = prepared(tmp_path / name, data)
        return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}

    first = digests("first", SEVERAL)
    assert first == digests("second", SEVERAL)
    other = digests("third", SEVERAL.but(seed=1))
    assert first.keys() == other.keys()
    few = {"test_parity_001.npy", "test_parity_002.npy"}  # one of two problems, and one of four
    assert {name for name in first if first[name] == other[name]} <= few
    parity, distance = [f"test_parity_{n:03d}.npy" for n in (1, 2, 5, 20, 40)], "test_edit_distance_007.npy"
    assert {"problems.json", distance, "test_arithmetic_009.npy", *parity} < first.keys()
    assert len(first) == 1 + 4 + 4 + 5


def test_reading_gives_what_was_written(tmp_path: Path):
    problems, chosen = Problems.read(prepared(tmp_path / "folder", SEVERAL)), Problems.choose(SEVERAL)
    assert problems.data == SEVERAL
    assert problems.groups == chosen.groups
    assert [str(group) for group in problems.train[:3]] == ["arithmetic_001", "arithmetic_003", "edit_distance_001"]
    assert [group.length for group in problems.label] == [4, 6, 7, 20]
    assert [group.length for group in problems.untouched] == [9, 40]
    for group in chosen.groups:
        np.testing.assert_array_equal(problems.tests(group), chosen.tests(group))
        assert problems.loops(group) == problems.tasks[group.task].loops(group.length)
    assert json.loads((tmp_path / "folder" / "problems.json").read_text())["tasks"][0]["task"]["modulus"] == 5


def test_a_folder_without_problems_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"holds no problems\.json"):
        Problems.read(tmp_path)


def test_a_problem_is_told_from_others_whatever_stands_on_its_right():
    task, rng = EditDistance(), np.random.default_rng(0)
    drawn = task.draw(rng, 3, 3000)
    wider = np.pad(drawn, ((0, 0), (0, 5)))
    np.testing.assert_array_equal(fingerprints(drawn), fingerprints(wider))
    first = list(dict.fromkeys(task.text(row) for row in drawn))
    assert [task.text(row) for row in distinct(wider)] == first
    assert len(set(fingerprints(distinct(wider)).tolist())) == len(first)


def test_lengths_are_drawn_in_proportion_and_tasks_alike():
    problems, rng = Problems.choose(SEVERAL), np.random.default_rng(0)
    times = Counter(problems.draw_group(rng) for _ in range(6000))
    shares = {
        "arithmetic": {1: 1 / 4, 3: 3 / 4},
        "edit_distance": {1: 1 / 3, 2: 2 / 3},
        "parity": {1: 1 / 8, 2: 1 / 4, 5: 5 / 8},
    }
    for group in problems.train:
        assert abs(times[group] / 2000 - shares[group.task][group.length]) < 0.07


@pytest.mark.parametrize(
    "changes",
    [
        {"label_lengths": (5, 6)},
        {"label_lengths": (3,), "train_lengths": (1, 4)},
        {"train_lengths": ()},
        {"label_lengths": ()},
        {"train_lengths": (0, 1)},
        {"untouched_lengths": (8, 8)},
        {"untouched_lengths": (1001,)},
        {"task": {"kind": "arithmetic", "modulus": 10, "operators": ("/",)}},
        {"task": {"kind": "juggling"}},
    ],
)
def test_lengths_and_tasks_that_cannot_be_are_refused(changes: dict):
    with pytest.raises(ConfigError):
        TaskLengths().but(**changes)


@pytest.mark.parametrize(
    ("task", "length", "says"),
    [(LongestIncreasing(values=30), 15, "values=31"), (EditDistance(most_value=40), 30, "most_value=")],
)
def test_a_length_that_a_task_does_not_have_is_refused_before_anything_is_drawn(task: object, length: int, says: str):
    with pytest.raises(ConfigError, match=says):
        TaskLengths(task=task, label_lengths=(length,))  # pyright: ignore[reportArgumentType] either task


def test_two_tasks_of_one_name_are_refused():
    with pytest.raises(ValidationError, match="arithmetic, arithmetic"):
        ProblemsData(tasks=(TaskLengths(), TaskLengths(task=BRACKETS)))


def test_a_users_task_is_prepared_like_the_others(tmp_path: Path):
    source = Path(__file__).parent / "tasks" / "largest.py"
    mine = UserTask(source=source, class_name="Largest", settings={"numbers": 9})
    data = ProblemsData(tasks=(TaskLengths(task=mine), TaskLengths(task=Parity())), tests_per_length=16)
    problems = Problems.read(prepared(tmp_path / "folder", data))
    assert data.sources() == (source,)
    assert len(problems.tests(Group("largest", 6))) == 16
    assert problems.vocabulary.task_token.keys() == {"largest", "parity"}
    assert problems.solutions(Group("largest", 6), problems.tests(Group("largest", 6))).shape == (
        16,
        6 + 5 + 4 + 3 + 2 + 1 + 6,
    )
