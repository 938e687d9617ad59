"""The solver against Python's own arithmetic, and the prepared folder against its promises."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from models.common.errors import ConfigError
from models.relay.arithmetic import (
    EOS,
    PAD,
    Arithmetic,
    exact_matches,
    solution_width,
    steps,
    widened,
    written_answers,
)
from models.relay.config import ArithmeticData
from models.relay.problems import Problems

MOD_7 = Arithmetic(7, ("+", "-"))


def some(arithmetic: Arithmetic, length: int, count: int = 50) -> np.ndarray:
    codes = np.random.default_rng(length).integers(arithmetic.space(length), size=count)
    return arithmetic.problems(codes, length)


@pytest.mark.parametrize("length", [1, 2, 5, 10])
@pytest.mark.parametrize("arithmetic", [MOD_7, Arithmetic(11, ("-",)), Arithmetic(2, ("-", "+"))])
def test_every_round_keeps_the_value_that_python_finds(arithmetic: Arithmetic, length: int):
    problems = some(arithmetic, length)
    rounds = arithmetic.rounds(problems)
    assert len(rounds) == length
    for row, problem in enumerate(problems):
        value = eval(arithmetic.text(problem[:-1])) % arithmetic.modulus  # noqa: S307 our own sums
        for tokens in rounds:
            text = arithmetic.text(tokens[row]).removesuffix(" =")
            assert eval(text) % arithmetic.modulus == value  # noqa: S307 our own sums
        assert arithmetic.vocabulary[arithmetic.answers(problems)[row]] == str(value)


def test_rounds_work_off_the_leftmost_operation():
    text = "3 - 5 + 6 - 1 ="
    tokens = [MOD_7.vocabulary.index(word) for word in text.split()]
    rounds = MOD_7.rounds(np.array([tokens], np.uint8))
    assert [MOD_7.text(each[0]) for each in rounds] == ["5 + 6 - 1 =", "4 - 1 =", "3"]
    solution = MOD_7.solutions(np.array([tokens], np.uint8))[0]
    assert MOD_7.text(solution) == "5 + 6 - 1 = 4 - 1 = 3 <eos>"
    assert [MOD_7.text(step) for step in steps(solution)] == ["5 + 6 - 1 =", "4 - 1 =", "3"]


@pytest.mark.parametrize("length", range(1, 11))
def test_widths(length: int):
    assert MOD_7.solutions(some(MOD_7, length, 1)).shape[1] == solution_width(length)


def test_codes_number_the_problems():
    every_code = np.arange(MOD_7.space(2))
    problems = MOD_7.problems(every_code, 2)
    assert len({row.tobytes() for row in problems}) == MOD_7.space(2)
    np.testing.assert_array_equal(MOD_7.codes(problems), every_code)


def test_what_a_row_answers_is_the_token_before_its_end():
    rows = np.array([[9, 2, 7, EOS, PAD], [7, EOS, 9, EOS, PAD], [EOS, 9, 9, 9, 9], [9, 9, 9, 9, 9]], np.uint8)
    assert written_answers(rows).tolist() == [7, 7, PAD, PAD]


def test_a_chain_matches_whole_or_not_at_all():
    solutions = MOD_7.solutions(some(MOD_7, 3))
    written = widened(solutions, solutions.shape[1] + 4)
    assert exact_matches(written, solutions).all()
    written[0, 2] += 1
    written[1, solutions.shape[1]] = 5  # something after the end
    assert exact_matches(written, solutions).tolist() == [False, False, *[True] * 48]


def test_tests_and_training_are_disjoint(problems: Problems):
    rng = np.random.default_rng(0)
    for length in problems.all_lengths:
        tests = {row.tobytes() for row in problems.tests(length)}
        drawn = {row.tobytes() for row in problems.draw(rng, length, 3000)}
        assert len(tests) == min(64, MOD_7.space(length) // 4)
        assert not tests & drawn
    assert len({row.tobytes() for row in problems.draw(rng, 1, 3000)}) == 98 - 24  # all the others do occur


def test_prepare_writes_the_same_bytes_for_the_same_config(tmp_path: Path):
    def digest(name: str, config: ArithmeticData) -> dict[str, str]:
        folder = tmp_path / name
        folder.mkdir()
        config.prepare(folder)
        return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}

    first = digest("first", ArithmeticData())
    assert first == digest("second", ArithmeticData())
    assert first["test_08.npy"] != digest("third", ArithmeticData(seed=1))["test_08.npy"]
    assert first.keys() == {"problems.json", *(f"test_{length:02d}.npy" for length in range(1, 11))}


def test_reading_gives_what_was_prepared(tmp_path: Path):
    config = ArithmeticData(modulus=5, operators=("-",), train_lengths=(2, 3), label_lengths=(4,), untouched_lengths=())
    config.prepare(tmp_path)
    problems = Problems.read(tmp_path)
    assert problems.arithmetic == Arithmetic(5, ("-",))
    assert (problems.train_lengths, problems.label_lengths, problems.untouched_lengths) == ((2, 3), (4,), ())
    assert json.loads((tmp_path / "problems.json").read_text())["modulus"] == 5


@pytest.mark.parametrize(
    "changes",
    [
        {"modulus": 1},
        {"operators": ("+", "+")},
        {"label_lengths": (5, 6)},
        {"label_lengths": (3,), "train_lengths": (1, 4)},
        {"untouched_lengths": (40,)},
    ],
)
def test_data_that_cannot_be_prepared_is_refused(changes: dict):
    with pytest.raises(ConfigError):
        ArithmeticData().but(**changes)
