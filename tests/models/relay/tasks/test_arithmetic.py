"""Arithmetic against a reader of expressions of our own, and against the paper's examples."""

import re
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from pydantic import ValidationError

from models.common.errors import ConfigError, DataError
from models.relay.task import Task, Tokens
from models.relay.tasks.arithmetic import Arithmetic
from tests.models.relay.tasks.expressions import modular, parse, reduce_leftmost, value, write

LAPTOP = Arithmetic()
PAPER = Arithmetic(modulus=11, operators=("+", "-", "*", "/"), brackets=True)
IN_A_ROW = PAPER.but(brackets=False)
KINDS = [LAPTOP, PAPER, IN_A_ROW, PAPER.but(modulus=2), LAPTOP.but(modulus=12, operators=("*", "-"), brackets=True)]


def drawn(task: Arithmetic, length: int, count: int = 60) -> Tokens:
    return task.draw(np.random.default_rng(length), length, count)


def chain(task: Task, problem: str, length: int) -> list[str]:
    return [task.text(tokens) for tokens in task.work(task.read(problem)[None], length).rounds_PTR[0]]


@pytest.mark.parametrize("task", KINDS)
@pytest.mark.parametrize("length", [1, 2, 5, 12])
def test_rounds_are_those_of_reducing_a_tree_from_the_left(task: Arithmetic, length: int):
    problems = drawn(task, length)
    worked = task.work(problems, length)
    compute = modular(task.modulus)
    for problem, rounds, answer in zip(problems, *worked, strict=True):
        tree, expected = parse(task.text(problem).removesuffix(" =").split()), []
        in_all = value(tree, compute)
        for _ in range(length):
            tree = reduce_leftmost(tree, compute)
            expected.append(write(tree) + " =")
        expected[-1] = str(in_all)
        assert [task.text(tokens) for tokens in rounds] == expected
        assert task.text(answer) == str(in_all)


@pytest.mark.parametrize(
    ("problem", "rounds"),
    [
        (
            "( 6 + 9 ) / ( 7 + 2 * 5 - 4 * 3 ) =",
            [
                "15 / ( 7 + 2 * 5 - 4 * 3 ) =",
                "15 / ( 7 + 10 - 4 * 3 ) =",
                "15 / ( 17 - 4 * 3 ) =",
                "15 / ( 17 - 12 ) =",
                "15 / 5 =",
                "3",
            ],
        ),
        ("3 * 2 + 6 / 3 =", ["6 + 6 / 3 =", "6 + 2 =", "8"]),
    ],
)
def test_the_examples_of_the_paper(problem: str, rounds: list[str]):
    assert chain(PAPER.but(modulus=19), problem, len(rounds)) == rounds


def test_the_laptop_setting_works_off_sums_from_the_left():
    assert chain(LAPTOP, "3 - 5 + 6 - 1 =", 3) == ["5 + 6 - 1 =", "4 - 1 =", "3"]
    solution = LAPTOP.solutions(LAPTOP.read("3 - 5 + 6 - 1 =")[None], 3)[0]
    assert LAPTOP.text(solution) == "5 + 6 - 1 = 4 - 1 = 3 <eos>"
    assert [LAPTOP.text(np.array(step)) for step in LAPTOP.steps(solution)] == ["5 + 6 - 1 =", "4 - 1 =", "3"]


def test_without_brackets_all_problems_are_drawn_alike():
    task = LAPTOP.but(modulus=3)
    times = Counter(map(task.text, task.draw(np.random.default_rng(0), 1, 18_000)))
    assert set(times) == {f"{a} {sign} {b} =" for a in range(3) for b in range(3) for sign in "+-"}
    assert sum((count - 1000) ** 2 / 1000 for count in times.values()) < 41  # chi squared of 17, once in 1000


@pytest.mark.parametrize("operator", "+-*/")
def test_what_a_number_grows_into_is_any_pair_of_its_value_alike(operator: str):
    task = PAPER.but(modulus=5, operators=(operator,))
    times = Counter(map(task.text, task.draw(np.random.default_rng(0), 1, 20_000)))
    compute = modular(5)
    pairs = [(a, b) for a in range(5) for b in range(5) if operator != "/" or b]
    ways = Counter(compute(operator, a, b) for a, b in pairs)
    expected = {f"{a} {operator} {b} =": 4000 / ways[compute(operator, a, b)] for a, b in pairs}
    assert set(times) == set(expected)
    assert sum((times[text] - mean) ** 2 / mean for text, mean in expected.items()) < 51  # of 24, once in 1000


def test_values_of_grown_expressions_are_uniform():
    problems = PAPER.draw(np.random.default_rng(0), 6, 11_000)
    times = np.bincount(PAPER.answers(problems, 6)[:, 0])[PAPER.first_number :]
    assert times.shape == (11,)
    assert ((times - 1000) ** 2 / 1000).sum() < 30  # chi squared of 10, once in 1000


def test_each_pair_of_brackets_changes_what_an_expression_gives():
    def exact(operator: str, left: Fraction, right: Fraction) -> Fraction:
        return left / right if operator == "/" else modular_free[operator](left, right)

    modular_free = {"+": Fraction.__add__, "-": Fraction.__sub__, "*": Fraction.__mul__}
    rng = np.random.default_rng(0)
    pairs = 0
    for problem in drawn(PAPER, 8, 100):
        text = re.sub(r"\d+", lambda _: str(rng.integers(10**6, 10**9)), PAPER.text(problem).removesuffix(" ="))
        words = text.split()
        for opening in [place for place, word in enumerate(words) if word == "("]:
            depths = np.cumsum([(word == "(") - (word == ")") for word in words[opening:]])
            closing = opening + int((depths == 0).argmax())
            without = words[:opening] + words[opening + 1 : closing] + words[closing + 1 :]
            assert value(parse(words, Fraction), exact) != value(parse(without, Fraction), exact)
            pairs += 1
    assert pairs > 100


@pytest.mark.parametrize(
    ("operators", "widest"),
    [(("+",), 8), (("+", "*"), 12), (("-",), 12), (("/",), 12), (("*",), 8)],
)
def test_the_widest_problem_is_one_that_is_drawn(operators: tuple, widest: int):
    task = PAPER.but(operators=operators)
    assert task.widest_problem(3) == widest
    assert task.draw(np.random.default_rng(0), 3, 20_000).shape[1] == widest


def test_problems_of_other_lengths_and_divisions_by_0_are_refused():
    with pytest.raises(DataError, match="not 3 operators"):
        PAPER.work(PAPER.read("1 + ( 2 + 3 ) =")[None], 3)
    with pytest.raises(DataError, match="divides by 0"):
        PAPER.work(PAPER.read("1 / ( 2 - 2 ) =")[None], 2)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"modulus": 12, "operators": ("+", "/")}, "11, 13"),
        ({"operators": ("+", "+")}, "once"),
        ({"operators": ()}, "at least 1"),
        ({"operators": ("+", "%")}, "'%'"),
        ({"modulus": 1}, "greater than or equal to 2"),
    ],
)
def test_settings_that_have_no_arithmetic_are_refused(settings: dict, says: str):
    with pytest.raises(ValidationError):
        Arithmetic(**settings)
    with pytest.raises(ConfigError, match=re.escape(says)):
        LAPTOP.but(**settings)
