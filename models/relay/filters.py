"""Which labels are kept: each filter is a function from what was written to the labels that pass it."""

# P problems   W tokens of a label   R tokens of a round   A tokens of an answer   V voters

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.relay.task import EOS, FIRST_SYMBOL, PAD, Task, Tokens, widened, widths_of, written_answers

Passed = NDArray[np.bool_]

_SOLVED = 64  # problems by which the solver shows what a last round tells


def has_own_tokens(chains_PW: Tokens, task: Task) -> Passed:
    """Where no token is another task's: a network of several tasks may write one, for which this task has no symbol."""
    return np.all(chains_PW < FIRST_SYMBOL + len(task.symbols), axis=1)


def last_round_tells(task: Task, length: int) -> bool:
    """Whether the last round tells the answer: it is the bare answer, or ends in it, as the solver writes problems.

    length: one at which the solver may be asked, such as the longest that is trained on.
    """
    if task.last_round_is_answer:
        return True
    rng = np.random.default_rng(0)
    rounds_PTR, answers_PA = task.work(task.draw(rng, length, _SOLVED), length)
    return bool(agrees_with_last_round(answers_PA, rounds_PTR[:, -1], task).all())


def agrees_with_last_round(answers_PA: Tokens, last_rounds_PR: Tokens, task: Task) -> Passed:
    """Where the rounds' head says the answer too, which the answer's head said: as the round, or as the end of it."""
    if not task.last_round_is_answer:
        last_rounds_PR = _at_the_end(last_rounds_PR, task.token(task.round_end), answers_PA.shape[1])
    width = max(answers_PA.shape[1], last_rounds_PR.shape[1])
    return (widened(answers_PA, width) == widened(last_rounds_PR, width)).all(axis=1)


def _at_the_end(rounds_PR: Tokens, round_end: int, width: int) -> Tokens:
    """The tokens just before the symbol that ends a round, as many as `width`; PAD where it does not end so."""
    end_P = widths_of(rounds_PR) - 1
    place_PA = end_P[:, None] - width + np.arange(width)
    tokens_PA = np.take_along_axis(rounds_PR, np.maximum(place_PA, 0), axis=1)
    ends_P = np.take_along_axis(rounds_PR, np.maximum(end_P, 0)[:, None], axis=1) == round_end
    return np.where(ends_P & (place_PA >= 0), tokens_PA, PAD).astype(np.uint16)


def is_confident(confidence_P: NDArray[np.floating], least: float) -> Passed:
    """Where no token was less probable than this: min_i p(z_i) >= least."""
    return confidence_P >= least


def has_right_length(chains_PW: Tokens, task: Task, length: int) -> Passed:
    """Where a label ends, and has as many rounds as the problem's length asks for, with an answer behind them.

    Unlike Lee et al. (arXiv 2502.01612), who drop what is much shorter than the longest of its batch: the
    number of rounds is known.
    """
    ends_PW = chains_PW == EOS
    before_end_PW = (ends_PW.cumsum(axis=1) == 0) & (chains_PW != PAD)
    round_end_PW = (chains_PW == task.token(task.round_end)) & before_end_PW
    rounds = task.loops(length) - task.last_round_is_answer
    behind_PW = before_end_PW & (round_end_PW.cumsum(axis=1) == rounds) & ~round_end_PW
    has_answer_P = behind_PW.sum(axis=1) == task.answer_width(length)
    return ends_PW.any(axis=1) & (round_end_PW.sum(axis=1) == rounds) & has_answer_P


def has_right_answer(chains_PW: Tokens, answers_PA: Tokens) -> Passed:
    """Where the tokens before EOS are the solver's answer, as self-training is verified in section 4.3."""
    width = int(widths_of(answers_PA).max())
    return (written_answers(chains_PW, width) == answers_PA[:, :width]).all(axis=1)


class Majority(NamedTuple):
    """What most voters wrote for each problem: the first of them who wrote it, and how many did."""

    voter_P: NDArray[np.intp]
    votes_P: NDArray[np.intp]


def majority(chains_VPW: Tokens) -> Majority:
    """The chain that most voters wrote, token for token; of those with as many votes that of the earliest voter.

        z* = argmax_z sum_v [z_v = z]

    The vote of Lee et al. (arXiv 2502.01612), by whole chain.
    """
    votes_VP = np.array([(chains_VPW == chains_PW).all(axis=2).sum(axis=0) for chains_PW in chains_VPW])
    return Majority(votes_VP.argmax(axis=0), votes_VP.max(axis=0))


def is_elected(votes_P: NDArray[np.integer], voters: int, least_votes: float) -> Passed:
    """Where at least this share of the voters wrote the chain; a share of 0.7 of 10 is 7, whatever floats say."""
    return votes_P >= np.ceil(least_votes * voters - 1e-9)
