"""Each filter beside a loop written by hand, and beside what the solver writes."""

import numpy as np
import pytest

from models.relay import filters
from models.relay.task import EOS, PAD, Task, Tokens
from models.relay.tasks.addition import BinaryAddition
from models.relay.tasks.arithmetic import Arithmetic
from models.relay.tasks.edit_distance import EditDistance
from models.relay.tasks.increasing import LongestIncreasing
from models.relay.tasks.parity import Parity
from models.relay.tasks.permutations import WordProblem

TASKS = [Arithmetic(), BinaryAddition(), EditDistance(), LongestIncreasing(), Parity(), WordProblem()]
LENGTH = 4


def rows(*tokens: list[int]) -> Tokens:
    width = max(map(len, tokens))
    return np.array([[*row, *[PAD] * (width - len(row))] for row in tokens], np.uint16)


def solved(task: Task) -> tuple[Tokens, Tokens, Tokens]:
    """Problems, solutions and answers."""
    problems_PL = task.draw(np.random.default_rng(5), LENGTH, 32)
    return problems_PL, task.solutions(problems_PL, LENGTH), task.answers(problems_PL, LENGTH)


def row_of(tokens: Tokens) -> list[int]:
    return [int(token) for token in tokens if token != PAD]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_what_the_solver_writes_has_the_right_length_and_answer(task: Task) -> None:
    _, solutions, answers = solved(task)
    assert filters.has_right_length(solutions, task, LENGTH).all()
    assert filters.has_right_answer(solutions, answers).all()
    assert filters.has_own_tokens(solutions, task).all()


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_chain_that_lacks_a_round_or_repeats_one_has_not_the_right_length(task: Task) -> None:
    _, solutions, _ = solved(task)
    end = task.token(task.round_end)
    lacking, repeating, endless = [], [], []
    for solution in map(row_of, solutions):
        first = solution.index(end) + 1
        lacking.append(solution[first:])
        repeating.append([*solution[:first], *solution])
        endless.append(solution[:-1])
    for wrong in (lacking, repeating, endless):
        assert not filters.has_right_length(rows(*wrong), task, LENGTH).any()


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_what_follows_the_end_does_not_count_as_a_round(task: Task) -> None:
    _, solutions, answers = solved(task)
    longer = rows(*([*row_of(solution), task.token(task.round_end), 2] for solution in solutions))
    assert filters.has_right_length(longer, task, LENGTH).all()
    assert filters.has_right_answer(longer, answers).all()


def test_a_chain_with_half_an_answer_has_not_the_right_length() -> None:
    task = BinaryAddition()
    _, solutions, _ = solved(task)
    halves = rows(*([*row_of(solution)[:-3], EOS] for solution in solutions))
    assert not filters.has_right_length(halves, task, LENGTH).any()


def test_only_the_tokens_before_the_end_are_the_answer() -> None:
    written = rows([4, 5, 6, EOS], [6, EOS], [5, 6, EOS, 9], [5, 6], [6, 5, EOS])
    assert filters.has_right_answer(written, rows(*[[5, 6]] * 5)).tolist() == [True, False, True, False, False]
    assert filters.has_right_answer(written, rows(*[[6]] * 5)).tolist() == [True, True, True, False, False]


def test_confidence_at_the_threshold_is_enough() -> None:
    assert filters.is_confident(np.array([0.49, 0.5, 0.9]), 0.5).tolist() == [False, True, True]


def test_a_bare_answer_agrees_only_with_itself() -> None:
    task = Arithmetic()
    answers = rows([7], [7], [7], [7])
    last = rows([7], [8], [7, task.token("=")], [])
    assert filters.agrees_with_last_round(answers, last, task).tolist() == [True, False, False, False]


def test_an_answer_at_the_end_of_the_last_row_agrees() -> None:
    task = EditDistance()
    end = task.token(task.round_end)
    last = rows([40, 41, end], [41, 40, end], [40, 41], [41, end], [end], [])
    agrees = filters.agrees_with_last_round(rows(*[[41]] * 6), last, task)
    assert agrees.tolist() == [True, False, False, True, False, False]


def test_the_last_row_of_an_edit_distance_tells_the_answer_and_the_last_group_of_a_subsequence_does_not() -> None:
    assert filters.last_round_tells(Arithmetic(), LENGTH)
    assert filters.last_round_tells(EditDistance(), LENGTH)
    assert not filters.last_round_tells(LongestIncreasing(), 25)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_the_solver_agrees_with_itself_where_its_last_round_tells_the_answer(task: Task) -> None:
    problems, _, answers = solved(task)
    last = task.work(problems, LENGTH).rounds_PTR[:, -1]
    if filters.last_round_tells(task, LENGTH):
        assert filters.agrees_with_last_round(answers, last, task).all()
        others = np.where(answers == answers.max(), answers.min(), answers.max()).astype(np.uint16)
        assert not filters.agrees_with_last_round(others, last, task).any()
    else:
        assert not task.last_round_is_answer


def test_a_majority_is_what_counting_whole_chains_gives() -> None:
    rng = np.random.default_rng(3)
    chains = rng.integers(2, 4, size=(7, 200, 3)).astype(np.uint16)
    voter, votes = filters.majority(chains)
    for problem in range(chains.shape[1]):
        written = [tuple(chains[each, problem]) for each in range(7)]
        most = max(written.count(chain) for chain in written)
        first = next(each for each in range(7) if written.count(written[each]) == most)
        assert (voter[problem], votes[problem]) == (first, most)


def test_chains_that_differ_in_one_token_do_not_share_their_votes() -> None:
    chains = np.array([[[2, 3, EOS]], [[2, 4, EOS]], [[2, 5, EOS]], [[9, 9, EOS]], [[9, 9, EOS]]], np.uint16)
    voter, votes = filters.majority(chains)
    assert (voter.tolist(), votes.tolist()) == ([3], [2])


@pytest.mark.parametrize(
    ("least", "voters", "needed"), [(0.7, 10, 7), (0.7, 5, 4), (0.6, 5, 3), (1.0, 3, 3), (0.0, 3, 0)]
)
def test_a_share_of_the_voters_is_rounded_up_but_not_by_the_error_of_floats(
    least: float, voters: int, needed: int
) -> None:
    votes = np.arange(voters + 1)
    assert filters.is_elected(votes, voters, least).tolist() == [count >= needed for count in votes]


def test_a_token_that_the_task_has_no_symbol_for_is_not_its_own() -> None:
    task = Arithmetic()
    last = 2 + len(task.symbols) - 1
    assert filters.has_own_tokens(rows([last, EOS], [last + 1, EOS]), task).tolist() == [True, False]
