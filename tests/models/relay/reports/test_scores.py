"""Scores beside counts made by hand and by a loop that is written out."""

import numpy as np
import pytest

from models.common.metrics import wilson_interval
from models.relay.problems import Group, Problems
from models.relay.reports.scores import KINDS, hits, key_to, mean_over, score
from models.relay.task import EOS, Tokens, stacked
from models.relay.tasks.arithmetic import Arithmetic

SUMS = Arithmetic()  # + and -, modulo 7


def _tokens(*texts: str) -> Tokens:
    """Rows of tokens, "." for the end."""
    rows = []
    for text in texts:
        symbols, end, _ = text.partition(".")
        rows.append(np.append(SUMS.read(symbols), [EOS] * bool(end)).astype(np.uint16)[None])
    return stacked(rows)


PROBLEMS = _tokens("3 + 5 - 6 =", "1 + 1 + 1 =", "6 - 2 + 4 =", "2 - 5 - 1 =")
RIGHT = ("1 - 6 = 2 .", "2 + 1 = 3 .", "4 + 4 = 1 .", "4 - 1 = 3 .")


def test_what_is_right_counts_whole() -> None:
    found = score(SUMS, PROBLEMS, 2, _tokens(*RIGHT))
    assert (found.problems, found.right_answers, found.right_chains) == (4, 4, 4)
    assert found.tokens == found.right_tokens == 4 * 6
    assert found.first_wrong == (0, 0)


def test_answers_chains_and_tokens_are_counted_apart() -> None:
    written = _tokens(
        RIGHT[0],
        "2 + 2 = 3 .",  # a wrong token in the first round, and the right answer
        "4 + 4 = 2 .",  # only the answer is wrong
        "4 - = 3 .",  # a token is missing, which moves all behind it; the answer is read from the end
    )
    found = score(SUMS, PROBLEMS, 2, written, loops_P=np.array([2, 2, 2, 3]))
    assert (found.right_answers, found.right_chains) == (3, 1)
    assert found.right_tokens == 6 + 5 + 5 + 2
    assert found.token_accuracy == 18 / 24
    assert found.first_wrong == (2, 1), "two chains break in the first round, one at the answer"
    assert found.loops == 2.25


def test_a_chain_that_does_not_end_has_no_answer_and_breaks_at_its_end() -> None:
    found = score(SUMS, PROBLEMS[:1], 2, _tokens("1 - 6 = 2"))
    assert (found.right_answers, found.right_chains, found.right_tokens) == (0, 0, 5)
    assert found.first_wrong == (0, 1)


def test_a_chain_of_a_round_too_many_has_a_right_answer_only() -> None:
    found = score(SUMS, PROBLEMS[:1], 2, _tokens("1 - 6 = 2 = 2 ."))
    assert (found.right_answers, found.right_chains, found.right_tokens) == (1, 0, 5)


def test_what_stands_beyond_the_solution_is_no_token_of_it() -> None:
    key = key_to(SUMS, PROBLEMS, 2)
    longer = np.concatenate([key.solutions_PW, np.full((4, 3), SUMS.token("3"), np.uint16)], axis=1)
    assert hits(key, longer).all()
    assert hits(key, key.solutions_PW[:, :2]).sum() == 4 * 2


@pytest.mark.parametrize("place", range(10))
def test_tokens_belong_to_the_rounds_that_the_task_cuts(place: int, mixed: Problems) -> None:
    group = sorted(mixed.groups)[place]
    task, tests_PL = mixed.tasks[group.task], mixed.tests(group)
    key = key_to(task, tests_PL, group.length)
    np.testing.assert_array_equal(key.solutions_PW, mixed.solutions(group, tests_PL))
    worked = task.work(tests_PL, group.length)
    for problem in range(len(tests_PL)):
        cells = []
        rounds = list(worked.rounds_PTR[problem])
        if task.last_round_is_answer:
            rounds[-1] = worked.answers_PA[problem]
        else:
            rounds.append(worked.answers_PA[problem])
        for number, tokens in enumerate(rounds, start=1):
            cells += [(number, where) for where, token in enumerate(tokens, start=1) if token]
        cells.append((len(rounds), cells[-1][1] + 1))  # the end
        width = len(cells)
        told = zip(key.rounds_PW[problem].tolist(), key.places_PW[problem].tolist(), strict=True)
        assert list(told) == cells + [(0, 0)] * (key.solutions_PW.shape[1] - width)


def test_intervals_take_problems_for_trials() -> None:
    found = score(SUMS, PROBLEMS, 2, _tokens(*RIGHT[:3], "0 ."))
    assert found.interval("chain_exact_match") == found.interval("answer_accuracy") == wilson_interval(3, 4)
    for kind in KINDS:
        low, high = found.interval(kind)
        assert 0 <= low <= found.share(kind) <= high <= 1
        assert high - low > 0.4, "four problems say little, however many tokens they have"


def test_a_mean_counts_lengths_alike() -> None:
    small = score(SUMS, PROBLEMS[:1], 2, _tokens(RIGHT[0]))
    large = score(SUMS, PROBLEMS, 2, _tokens("0 .", "0 .", "0 .", RIGHT[3]))
    groups = {Group("arithmetic", 2): small, Group("arithmetic", 3): large}
    assert mean_over(groups, list(groups), "chain_exact_match") == (1 + 0.25) / 2
