"""Increasing subsequences against all subsequences, one by one."""

from itertools import combinations, pairwise

import numpy as np
import pytest

from models.common.errors import ConfigError
from models.relay.tasks.increasing import LongestIncreasing

PAPER = LongestIncreasing()
OWN = LongestIncreasing(values=5, fold=2, runs=0, own_tokens=True)


def longest_that_ends(numbers: list[int], place: int) -> int:
    """By trying all subsequences that end at a place, the longest first."""
    for size in range(place, -1, -1):
        for before in combinations(numbers[:place], size):
            row = [*before, numbers[place]]
            if all(one < other for one, other in pairwise(row)):
                return size + 1
    raise AssertionError


@pytest.mark.parametrize(
    "task", [PAPER, PAPER.but(values=20, fold=3), PAPER.but(runs=0, fold=1), PAPER.but(values=19), OWN]
)
@pytest.mark.parametrize("length", [1, 2, 3, 9])
def test_counts_are_those_of_trying_all_subsequences(task: LongestIncreasing, length: int):
    problems = task.draw(np.random.default_rng(length), length, 12)
    for problem, rounds, answer in zip(problems, *task.work(problems, length), strict=True):
        numbers = [int(word.lstrip("#")) for word in task.text(problem).removesuffix("<sep>").split()]
        counts = [longest_that_ends(numbers, place) for place in range(length)]
        fold = min(task.fold, length)
        groups = [counts[start : start + fold] for start in range(0, length, fold)]
        groups[-1] += groups[-1][-1:] * (fold - len(groups[-1]))
        assert [task.text(tokens) for tokens in rounds] == [f"{' '.join(map(str, group))} <sep>" for group in groups]
        assert task.text(answer) == str(max(counts))


def test_runs_of_numbers_that_are_few_are_refused():
    with pytest.raises(ConfigError, match="runs=0"):
        PAPER.but(own_tokens=True)


def test_equal_numbers_do_not_increase():
    problem = "7 7 9 8 9 <sep>"
    assert PAPER.text(PAPER.solutions(PAPER.read(problem)[None], 5)[0]) == "1 1 2 2 3 <sep> 3 <eos>"


def test_the_last_round_repeats_its_last_count():
    numbers = range(120, 132)  # 12 numbers that rise: counts 1 to 12
    problem = PAPER.read(f"{' '.join(map(str, numbers))} <sep>")[None]
    rounds = PAPER.work(problem, 12).rounds_PTR[0]
    assert PAPER.loops(12) == 2
    assert PAPER.text(rounds[1]) == "11 12 12 12 12 12 12 12 12 12 <sep>"


@pytest.mark.parametrize("length", [1, 2, 50, 124])
def test_numbers_are_larger_than_any_count_and_have_tokens(length: int):
    problems = PAPER.draw(np.random.default_rng(0), length, 300)
    numbers = np.array([PAPER.text(problem).split()[:-1] for problem in problems], int)
    assert numbers.shape == (300, length)
    assert numbers.min() > length
    assert numbers.max() < 250


def test_planted_runs_make_the_answer_longer():
    """Of 50 random numbers the longest has about 2 sqrt(50) - 1.77 * 50^(1/6) = 10.7 (Baik, Deift, Johansson 1999)."""
    means = {}
    for runs in (0, 1, 3):
        task = PAPER.but(runs=runs, values=2000)
        worked = task.work(task.draw(np.random.default_rng(0), 50, 500), 50)
        means[runs] = np.mean([int(task.text(answer)) for answer in worked.answers_PA])
    assert abs(means[0] - 10.7) < 1
    assert means[1] > 25  # a run of 1 to 50 numbers that are all kept: 25.5 on average, or more by chance
    assert means[3] > means[0] + 5


def test_problems_too_long_for_the_values_are_refused():
    assert PAPER.draw(np.random.default_rng(0), 124, 1).shape == (1, 125)
    with pytest.raises(ConfigError, match="values=251, or up to 124 numbers"):
        PAPER.draw(np.random.default_rng(0), 125, 1)
