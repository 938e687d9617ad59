"""Edit distances against the recursive definition, textbook pairs and the paper's example; words against promises."""

from functools import cache

import numpy as np
import pytest

from models.common.errors import ConfigError
from models.relay.tasks.edit_distance import EditDistance

PAPER = EditDistance()
CONSISTENT = EditDistance(border="consistent", most_value=200)


def parts(task: EditDistance, problem: np.ndarray) -> tuple[str, str]:
    words = task.text(problem).replace(" ", "").removesuffix("<sep>").split("|")
    return words[0], words[1]


def table(first: str, second: str, task: EditDistance) -> list[list[int]]:
    @cache
    def distance(i: int, j: int) -> int:
        if not i or not j:
            paper = task.border == "paper"
            return i + j if paper else i * task.delete_cost + j * task.insert_cost
        return min(
            distance(i - 1, j) + task.delete_cost,
            distance(i, j - 1) + task.insert_cost,
            distance(i - 1, j - 1) + (0 if first[i - 1] == second[j - 1] else task.replace_cost),
        )

    return [[distance(i, j) for j in range(1, len(second) + 1)] for i in range(1, len(first) + 1)]


@pytest.mark.parametrize("task", [PAPER, CONSISTENT, CONSISTENT.but(insert_cost=1, delete_cost=5, replace_cost=4)])
@pytest.mark.parametrize("length", [1, 2, 7, 20])
def test_rounds_are_the_rows_of_the_table(task: EditDistance, length: int):
    problems = task.draw(np.random.default_rng(length), length, 30)
    for problem, rounds, answer in zip(problems, *task.work(problems, length), strict=True):
        rows = table(*parts(task, problem), task)
        assert [task.text(tokens) for tokens in rounds] == [f"{' '.join(map(str, row))} ," for row in rows]
        assert task.text(answer) == str(rows[-1][-1])


@pytest.mark.parametrize(("task", "last"), [(PAPER, 7), (CONSISTENT, 8)])
def test_the_first_row_of_the_papers_example(task: EditDistance, last: int):
    rounds = task.work(task.read("o t m l | o t t m l <sep>")[None], 4).rounds_PTR[0]
    assert task.text(rounds[0]) == f"0 2 4 6 {last} ,"


@pytest.mark.parametrize(("words", "edits"), [("kitten sitting", 3), ("sunday saturday", 3), ("flaw lawn", 2)])
def test_textbook_distances(words: str, edits: int):
    task = CONSISTENT.but(insert_cost=1, delete_cost=1, replace_cost=1)
    first, second = (" ".join(word) for word in words.split())
    answers = task.answers(task.read(f"{first} | {second} <sep>")[None], len(words.split()[0]))
    assert task.text(answers[0]) == str(edits)


@pytest.mark.parametrize("length", [1, 2, 9, 40])
def test_words_are_as_long_as_said_and_never_the_same(length: int):
    pairs = [parts(PAPER, problem) for problem in PAPER.draw(np.random.default_rng(0), length, 400)]
    assert {len(first) for first, _ in pairs} == {length}
    assert {len(second) - length for _, second in pairs} == {0, 1, 2, 3}
    assert all(first != second for first, second in pairs)
    assert max(len(set(first + second)) for first, second in pairs) <= 10


def test_a_share_of_the_words_is_independent_and_the_others_are_edited():
    length, count = 25, 400
    gaps = {}
    for share in (0.0, 0.4, 1.0):
        task = PAPER.but(random_share=share, least_letters=10)
        problems = task.draw(np.random.default_rng(0), length, count)
        gaps[share] = task.answers(problems, length)[:, 0].astype(float).mean()
    # means of a mixture are the mixture of means, whatever the words are
    assert gaps[0.0] + 8 < gaps[1.0]
    assert abs(gaps[0.4] - (0.6 * gaps[0.0] + 0.4 * gaps[1.0])) < 2.5


def test_one_edit_of_one_letter_gives_each_word_as_often_as_it_should():
    """Of `x`: replaced by the other of 2 letters, or joined by a letter on either side; never deleted to nothing."""
    task = EditDistance(letters=2, least_letters=2, most_letters=2, random_share=0, shorter_by=0)
    texts = [task.text(problem) for problem in task.draw(np.random.default_rng(0), 1, 6000)]
    pairs = [tuple(text.replace(" ", "").removesuffix("<sep>").split("|")) for text in texts]
    # replacing gives the other letter half the time, else the pair is rejected; inserting always gives another word
    replaced = sum(len(second) == 1 for _, second in pairs)
    assert abs(replaced / 6000 - 1 / 3) < 0.03
    inserted = [(first, second) for first, second in pairs if len(second) == 2]
    doubled = sum(second == first * 2 for first, second in inserted)
    assert abs(doubled / len(inserted) - 1 / 2) < 0.03
    assert all(first in second for first, second in inserted)


def test_lengths_whose_distances_have_no_token_are_refused():
    task = PAPER.but(most_value=30, shorter_by=2, longer_by=2)
    longest = max(
        length for length in range(1, 30) if max(map(max, table("a" * length, "b" * (length + 2), task))) <= 30
    )
    assert task.draw(np.random.default_rng(0), longest, 3).shape[0] == 3
    with pytest.raises(ConfigError, match="most_value=") as refusal:
        task.draw(np.random.default_rng(0), longest + 1, 3)
    largest = max(map(max, table("a" * (longest + 1), "b" * (longest + 3), task)))
    assert f"most_value={largest}" in str(refusal.value)


def test_alphabets_that_are_not_there_are_refused():
    with pytest.raises(ConfigError, match="least_letters"):
        PAPER.but(letters=5)
