"""Addition, parity and permutations against Python's own numbers and lists."""

import numpy as np
import pytest

from models.relay.tasks.addition import BinaryAddition
from models.relay.tasks.parity import Parity
from models.relay.tasks.permutations import WordProblem


@pytest.mark.parametrize("length", [1, 2, 5, 30])
def test_binary_sums_are_those_of_integers(length: int):
    task = BinaryAddition()
    problems = task.draw(np.random.default_rng(length), length, 50)
    for problem, rounds, answer in zip(problems, *task.work(problems, length), strict=True):
        first, second = task.text(problem).replace(" ", "").removesuffix("=").split("+")
        total = int(first, 2) + int(second, 2)
        assert task.text(answer).replace(" ", "") == format(total, f"0{length + 1}b")
        assert task.text(rounds[-1]) == task.text(answer)
        for done, tokens in enumerate(rounds[:-1], start=1):
            left, low = first[:-done], int(first[-done:], 2) + int(second[-done:], 2)
            bits = format(low % 2**done, f"0{done}b")
            shown = [*left, "+", *second[:-done], f"carry{low >> done}", *bits, "="]
            assert task.text(tokens) == " ".join(shown)


def test_every_bit_of_a_sum_is_drawn():
    problems = BinaryAddition().draw(np.random.default_rng(0), 1, 100)
    assert {BinaryAddition().text(problem) for problem in problems} == {"0 + 0 =", "0 + 1 =", "1 + 0 =", "1 + 1 ="}


@pytest.mark.parametrize("fold", [1, 4, 7])
@pytest.mark.parametrize("length", [1, 3, 4, 9, 40])
def test_parities_are_those_of_counting_ones(fold: int, length: int):
    task = Parity(fold=fold)
    problems = task.draw(np.random.default_rng(length), length, 40)
    for problem, rounds, answer in zip(problems, *task.work(problems, length), strict=True):
        bits = task.text(problem).removesuffix("=").split()
        parities = [str(bits[: place + 1].count("1") % 2) for place in range(length)]
        width = min(fold, length)
        expected = [" ".join([*parities[start : start + width], ","]) for start in range(0, length, width)]
        assert [task.text(tokens) for tokens in rounds] == expected
        assert len(expected) == task.loops(length)
        assert task.text(answer) == parities[-1]


@pytest.mark.parametrize("degree", [2, 3, 5])
@pytest.mark.parametrize("length", [1, 2, 12])
def test_permutations_are_composed_as_lists_are_looked_up(degree: int, length: int):
    task = WordProblem(degree=degree)
    problems = task.draw(np.random.default_rng(length), length, 30)
    for problem, rounds, answer in zip(problems, *task.work(problems, length), strict=True):
        *words, _ = task.text(problem).split()
        expected = []
        while len(words) > 1:
            left, right = (word.strip("<>") for word in words[:2])
            product = "".join(right[int(image) - 1] for image in left)  # the left one acts first
            words = [f"<{product}>", *words[2:]]
            expected.append(" ".join([*words, "="] if len(words) > 1 else words))
        assert [task.text(tokens) for tokens in rounds] == expected
        assert task.text(answer) == words[0]


def test_all_permutations_are_drawn_and_each_has_one_token():
    task = WordProblem(degree=4)
    problems = task.draw(np.random.default_rng(0), 3, 500)
    assert len(np.unique(problems[:, :-1])) == 24
    assert len(set(task.symbols)) == 25


def test_a_product_is_first_left_then_right():
    task = WordProblem(degree=3)
    assert (
        task.text(task.answers(task.read("<231> <213> =")[None], 1)[0]) == "<132>"
    )  # 1 to 2 to 1, 2 to 3, 3 to 1 to 2
