"""How right what a model wrote is: its answers, its whole chains, its tokens, and where it first goes wrong."""

# P problems   L tokens of a problem   W tokens written, or of a solution   T rounds   R tokens of a round
# A tokens of an answer

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.common.metrics import wilson_interval
from models.relay.problems import Group
from models.relay.task import PAD, Task, Tokens, exact_matches, widened, widths_of, written_answers

Kind = Literal["answer_accuracy", "chain_exact_match", "token_accuracy"]
KINDS: tuple[Kind, ...] = ("answer_accuracy", "chain_exact_match", "token_accuracy")


class Key(NamedTuple):
    """Right solutions, and where each of their tokens belongs: rounds and places from 1, and 0 for PAD.

    A bare answer that is the last round counts as that round; any other answer is a round of its own, after the last.
    EOS stands behind the answer.
    """

    solutions_PW: Tokens
    rounds_PW: Tokens
    places_PW: Tokens
    answers_PA: Tokens


def key_to(task: Task, problems_PL: Tokens, length: int) -> Key:
    """What is right, token by token."""
    rounds_PTR, answers_PA = task.work(problems_PL, length)
    last = rounds_PTR.shape[1] + (0 if task.last_round_is_answer else 1)
    numbers = _where(rounds_PTR, np.arange(1, rounds_PTR.shape[1] + 1)[:, None]), _where(answers_PA, last)
    places = (
        _where(rounds_PTR, np.arange(1, rounds_PTR.shape[2] + 1)),
        _where(answers_PA, np.arange(1, answers_PA.shape[1] + 1)),
    )
    # Numbers and places are laid out as the tokens are, so that they stand where their tokens stand.
    rounds_PW, places_PW = task.concatenate(*numbers), task.concatenate(*places)
    row_P, end_P = np.arange(len(problems_PL)), widths_of(rounds_PW) - 1
    rounds_PW[row_P, end_P] = last
    places_PW[row_P, end_P] = widths_of(answers_PA) + 1
    return Key(task.concatenate(rounds_PTR, answers_PA), rounds_PW, places_PW, answers_PA)


def _where(tokens: Tokens, numbers: NDArray[np.int64] | int) -> Tokens:
    """The numbers where there is a token, and PAD elsewhere."""
    return np.where(tokens != PAD, numbers, PAD).astype(np.uint16)


def hits(key: Key, written_PW: Tokens) -> NDArray[np.bool_]:
    """For each token of the solutions (P, W), whether it stands at its place in what was written."""
    width = key.solutions_PW.shape[1]
    cut_PW = written_PW[:, :width]
    return (widened(cut_PW, width) == key.solutions_PW) & (key.solutions_PW != PAD)


@dataclass(frozen=True)
class Score:
    """How much of a group's test problems a model got right.

    first_wrong: by round, from the first on, how many chains have their first fault there; those that say all that is
    right and then more are among the whole chains' faults, but have no such round.
    loops: the iterations that a looped model took, on average.
    """

    problems: int
    right_answers: int
    right_chains: int
    tokens: int
    right_tokens: int
    first_wrong: tuple[int, ...] = ()
    loops: float | None = None

    @property
    def answer_accuracy(self) -> float:
        return self.right_answers / self.problems

    @property
    def chain_exact_match(self) -> float:
        return self.right_chains / self.problems

    @property
    def token_accuracy(self) -> float:
        """The share of the solutions' tokens, EOS included, that stand at their place in what was written."""
        return self.right_tokens / self.tokens

    def share(self, kind: Kind) -> float:
        return getattr(self, kind)

    def interval(self, kind: Kind) -> tuple[float, float]:
        """The share's 95 % Wilson interval.

        Trials are problems for tokens too: those of one chain go wrong together, and a chain's share of right tokens,
        which lies between 0 and 1, varies no more than a coin of the same mean.
        """
        return wilson_interval(round(self.share(kind) * self.problems), self.problems)


Scores = Mapping[str, Mapping[Group, Score]]  # by model


def score(
    task: Task, problems_PL: Tokens, length: int, written_PW: Tokens, loops_P: NDArray[np.integer] | None = None
) -> Score:
    """What was written after these problems, compared with the solver's."""
    key = key_to(task, problems_PL, length)
    hits_PW = hits(key, written_PW)
    answers_PA = written_answers(written_PW, key.answers_PA.shape[1])
    missed_PW = (key.solutions_PW != PAD) & ~hits_PW
    missed_P = missed_PW.any(axis=1)
    first_P = key.rounds_PW[np.arange(len(problems_PL)), missed_PW.argmax(axis=1)][missed_P]
    return Score(
        problems=len(problems_PL),
        right_answers=int((answers_PA == key.answers_PA).all(axis=1).sum()),
        right_chains=int(exact_matches(written_PW, key.solutions_PW).sum()),
        tokens=int((key.solutions_PW != PAD).sum()),
        right_tokens=int(hits_PW.sum()),
        first_wrong=tuple(np.bincount(first_P, minlength=int(key.rounds_PW.max()) + 1)[1:].tolist()),
        loops=None if loops_P is None else float(np.mean(loops_P)),
    )


def mean_over(scores: Mapping[Group, Score], groups: Iterable[Group], kind: Kind) -> float:
    """The mean of a share over groups, each counting alike."""
    shares = [scores[group].share(kind) for group in groups]
    return sum(shares) / len(shares)
