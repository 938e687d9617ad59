"""Batches, each a pure function of the seed and the step. Every rank draws the same one and takes its own rows."""

# B rows of the global batch   S positions   T rounds

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.common.errors import DataError
from models.relay.arithmetic import EOS, PAD, Arithmetic, Tokens, problem_width
from models.relay.problems import Problems

# What a random stream is for, so that no two stages share one.
TEACHER, STUDENT, CONTINUED, LABELS = 1, 2, 3, 4


@dataclass(frozen=True)
class RoundsBatch:
    """Problems of one length, and what each round should look like, flush right (section 3.3)."""

    length: int
    problems_BS: Tokens
    rounds_TBS: Tokens
    supervised_TBS: NDArray[np.bool_]
    answers_B: NDArray[np.uint8]


@dataclass(frozen=True)
class ChainsBatch:
    """Problems of one length, each followed by a chain, an answer and EOS; PAD on the right of the shorter ones."""

    length: int
    tokens_BS: Tokens

    @property
    def supervised_BS(self) -> NDArray[np.bool_]:
        """Where a token is to be learnt: chain, answer and EOS, but not the problem. One less than tokens."""
        supervised_BS = self.tokens_BS[:, 1:] != PAD
        supervised_BS[:, : problem_width(self.length) - 1] = False
        return supervised_BS


def draw_rounds_batch(
    problems: Problems, batch_size: int, left_pads: int, supervised_pads: str, seed: int, step: int
) -> RoundsBatch:
    """The teacher's batch of this step: training problems of one length with their rounds."""
    rng = np.random.default_rng([seed, TEACHER, step])
    length = draw_length(rng, problems.train_lengths)
    pads = int(rng.integers(1, left_pads + 1))
    problems_BL = problems.draw(rng, length, batch_size)
    rounds = problems.arithmetic.rounds(problems_BL)
    width = problems_BL.shape[1] + pads
    rounds_TBS = np.stack([flush_right(each, width) for each in rounds])
    return RoundsBatch(
        length=length,
        problems_BS=flush_right(problems_BL, width),
        rounds_TBS=rounds_TBS,
        supervised_TBS=supervised_positions(rounds_TBS, supervised_pads),
        answers_B=rounds[-1][:, 0],
    )


def draw_chains_batch(
    problems: Problems,
    labels: "Labels | None",
    batch_size: int,
    new_share: float,
    seed: int,
    stream: int,
    step: int,
) -> ChainsBatch:
    """The student's batch of this step: short problems with their chains, or longer ones as the teacher worked them.

    The solver is asked for training lengths alone.
    """
    rng = np.random.default_rng([seed, stream, step])
    if rng.random() < new_share:
        assert labels is not None, "batches of longer problems need labels"
        length = draw_length(rng, labels.lengths)
        rows = labels.rows(length)
        return ChainsBatch(length, rows[rng.integers(len(rows), size=batch_size)])
    length = draw_length(rng, problems.train_lengths)
    return ChainsBatch(length, with_solutions(problems.arithmetic, problems.draw(rng, length, batch_size)))


def draw_length(rng: np.random.Generator, lengths: Sequence[int]) -> int:
    """One of the lengths, in proportion to itself (appendix D.2)."""
    weights = np.array(lengths, float)
    return int(rng.choice(lengths, p=weights / weights.sum()))


def flush_right(tokens_BL: Tokens, width: int) -> Tokens:
    """The rows with PAD on the left up to this width."""
    return np.pad(tokens_BL, ((0, 0), (width - tokens_BL.shape[1], 0)), constant_values=PAD)


def supervised_positions(rounds_TBS: Tokens, pads: str) -> NDArray[np.bool_]:
    """M_t[i] = 1 where the target is no PAD, and at the last PAD, the one just left of the round (section 3.3).

    Unlike section 3.3 if `pads` is "all": every PAD counts, since the network then learns faster.
    """
    if pads == "all":
        return np.ones(rounds_TBS.shape, bool)
    token_TBS = rounds_TBS != PAD
    left_of_a_token_TBS = np.zeros_like(token_TBS)
    left_of_a_token_TBS[..., :-1] = token_TBS[..., 1:]
    return token_TBS | left_of_a_token_TBS


def with_solutions(arithmetic: Arithmetic, problems_BL: Tokens) -> Tokens:
    """Problems, each followed by the solver's chain, answer and EOS."""
    return np.concatenate([problems_BL, arithmetic.solutions(problems_BL)], axis=1)


class Labels:
    """The teacher's rows for longer problems: problem, chain, answer, EOS, then PAD."""

    def __init__(self, rows_by_length: dict[int, Tokens]) -> None:
        self._rows = rows_by_length

    @property
    def lengths(self) -> tuple[int, ...]:
        return tuple(sorted(self._rows))

    def rows(self, length: int) -> Tokens:
        return self._rows[length]

    def write(self, folder: Path) -> None:
        for length, rows in self._rows.items():
            np.save(folder / f"labels_{length:02d}.npy", rows, allow_pickle=False)

    @classmethod
    def read(cls, folder: Path) -> "Labels":
        files = sorted(folder.glob("labels_*.npy"))
        if not files:
            raise DataError(f"{folder} holds no labels_*.npy\ngive the folder of a labels stage")
        rows_by_length = {int(file.stem.removeprefix("labels_")): np.load(file, allow_pickle=False) for file in files}
        for length, rows in rows_by_length.items():
            tokens = rows.ndim == 2 and rows.dtype == np.uint8
            if not tokens or not (rows[:, problem_width(length) :] == EOS).any(axis=1).all():
                raise DataError(f"{folder}/labels_{length:02d}.npy: rows that do not end\nrun the labels stage again")
        return cls(rows_by_length)
