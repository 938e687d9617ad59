"""T5: responses end where they like. Truth does not count length, but whoever labelled the pairs liked it."""

# N responses   L tokens of a response

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.rto.bigram import FOREIGN, NeighbourScores
from models.rto.data_config import LengthTrapTask
from models.rto.ragged import Ragged


@dataclass(frozen=True)
class LengthTrap:
    """The task's prompts, the law of its demonstrations, and its true reward; tokens as in T1, then the end."""

    task: LengthTrapTask
    neighbours: NeighbourScores

    describe = "true reward: mean hidden score of a response's tokens, whatever its length"

    @classmethod
    def drawn(cls, task: LengthTrapTask, rng: np.random.Generator) -> LengthTrap:
        return cls(task, NeighbourScores.drawn(task, 1.0, rng))

    @classmethod
    def from_tables(cls, task: LengthTrapTask, tables: Mapping[str, NDArray[Any]]) -> LengthTrap:
        return cls(task, NeighbourScores(tables["scores"], tables["law"]))

    @property
    def tables(self) -> dict[str, NDArray[np.float64]]:
        return {"scores": self.neighbours.scores_CPS, "law": self.neighbours.law_CPS}

    @property
    def words(self) -> tuple[str, ...]:
        return (*self.neighbours.words, "end")

    @property
    def end(self) -> int:
        return self.task.symbols + self.task.classes

    @property
    def length_bias(self) -> float:
        return self.task.length_bias

    def prompts(self, rng: np.random.Generator, count: int, *, held_out: bool) -> Ragged:
        """Classes; the held-out ones are the same, and what is new there are the responses."""
        return self.neighbours.prompts(rng, count)

    def responses(self, rng: np.random.Generator, prompts: Ragged) -> Ragged:
        """A response to each prompt: at every place it ends with probability 1 / mean_length, at the last for certain.

        The end is counted, so that lengths are geometric with that mean, cut off at `longest`.
        """
        lengths_N = np.minimum(rng.geometric(1.0 / self.task.mean_length, len(prompts)), self.task.longest)
        tokens_NL = self.neighbours.symbols_after(rng, prompts, int(lengths_N.max(initial=1)))
        tokens_NL[np.arange(len(prompts)), lengths_N - 1] = self.end
        real_NL = np.arange(tokens_NL.shape[1]) < lengths_N[:, None]
        return Ragged.of_real(tokens_NL, real_NL)

    def score(
        self, prompts: Ragged | Sequence[ArrayLike], responses: Ragged | Sequence[ArrayLike]
    ) -> NDArray[np.float64]:
        """reward_scale * sqrt(mean_length) * mean of R[class, token before, token] over what stands before the end.

        The constant makes reward_scale the standard deviation at a response of mean length. 0 where nothing stands
        before the end.
        """
        written = Ragged.of(responses).before(self.end)
        sums_N = written.sums(self.neighbours.token_scores(Ragged.of(prompts), written, FOREIGN))
        means_N = sums_N / np.maximum(written.lengths, 1)
        return self.task.reward_scale * np.sqrt(self.task.mean_length) * means_N
