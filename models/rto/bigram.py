"""T1: the true reward is a sum of hidden scores of neighbouring tokens, different for each class of prompt."""

# C classes   S symbols   V = S + C tokens   N responses   L tokens of a response

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.rto.data_config import BigramTask, LengthTrapTask
from models.rto.law import draw, random_law
from models.rto.ragged import Ragged

FOREIGN = -3.0  # the score of a token that is no symbol, in standard deviations: no policy gains by writing one


@dataclass(frozen=True)
class NeighbourScores:
    """Hidden scores, and a law, of a symbol after another; tokens are the symbols, then the classes.

    Row S of both tables is for the first symbol, and for one that follows something else than a symbol.
    """

    scores_CPS: NDArray[np.float64]  # P = S + 1 symbols before
    law_CPS: NDArray[np.float64]

    @classmethod
    def drawn(cls, task: BigramTask | LengthTrapTask, scale: float, rng: np.random.Generator) -> NeighbourScores:
        shape = (task.classes, task.symbols + 1, task.symbols)
        return cls(scale * rng.standard_normal(shape), random_law(rng, shape, task.law_scale))

    @property
    def symbols(self) -> int:
        return self.law_CPS.shape[-1]

    @property
    def words(self) -> tuple[str, ...]:
        """How symbols and classes are shown."""
        return (*symbol_words(self.symbols), *(f"class{number}" for number in range(len(self.law_CPS))))

    def prompts(self, rng: np.random.Generator, count: int) -> Ragged:
        """Prompts of one token, their class; classes come equally often, in random order."""
        classes_N = rng.permutation(np.arange(count) % len(self.law_CPS))
        return Ragged.of_lengths((self.symbols + classes_N).astype(np.int32), np.ones(count, np.int64))

    def classes(self, prompts: Ragged) -> NDArray[np.int64]:
        return prompts.tokens[prompts.offsets[1:] - 1].astype(np.int64) - self.symbols

    def symbols_after(self, rng: np.random.Generator, prompts: Ragged, length: int) -> NDArray[np.int32]:
        """So many symbols after each prompt, drawn by the law [N, L]."""
        classes_N = self.classes(prompts)
        symbols_NL = np.empty((len(prompts), length), np.int32)
        before_N = np.full(len(prompts), self.symbols)
        for place in range(length):
            symbols_NL[:, place] = draw(self.law_CPS[classes_N, before_N], rng.random(len(prompts)))
            before_N = symbols_NL[:, place]
        return symbols_NL

    def token_scores(self, prompts: Ragged, responses: Ragged, foreign: float) -> NDArray[np.float64]:
        """The hidden score of each token of the responses, flat; `foreign` for a token that is no symbol."""
        tokens = responses.tokens
        before = np.where(responses.places == 0, self.symbols, np.roll(tokens, 1))
        before = np.minimum(before, self.symbols)
        classes = self.classes(prompts)[responses.rows]
        scores = self.scores_CPS[classes, before, np.minimum(tokens, self.symbols - 1)]
        return np.where(tokens < self.symbols, scores, np.float64(foreign))


def symbol_words(symbols: int) -> tuple[str, ...]:
    """Letters, or numbered names where there are not enough of them."""
    if symbols <= 26:
        return tuple(chr(ord("a") + number) for number in range(symbols))
    return tuple(f"s{number}" for number in range(symbols))


@dataclass(frozen=True)
class Bigram:
    """The task's prompts, the law of its demonstrations, and its true reward."""

    task: BigramTask
    neighbours: NeighbourScores

    end = None
    length_bias = 0.0
    describe = "true reward: sum of the hidden scores of neighbouring tokens"

    @classmethod
    def drawn(cls, task: BigramTask, rng: np.random.Generator) -> Bigram:
        return cls(task, NeighbourScores.drawn(task, task.reward_scale, rng))

    @classmethod
    def from_tables(cls, task: BigramTask, tables: dict[str, NDArray[np.float64]]) -> Bigram:
        return cls(task, NeighbourScores(tables["scores"], tables["law"]))

    @property
    def tables(self) -> dict[str, NDArray[np.float64]]:
        return {"scores": self.neighbours.scores_CPS, "law": self.neighbours.law_CPS}

    @property
    def words(self) -> tuple[str, ...]:
        return self.neighbours.words

    def prompts(self, rng: np.random.Generator, count: int, *, held_out: bool) -> Ragged:
        """Classes; the held-out ones are the same, and what is new there are the responses."""
        return self.neighbours.prompts(rng, count)

    def responses(self, rng: np.random.Generator, prompts: Ragged) -> Ragged:
        """A response to each prompt, drawn by the law."""
        symbols_NL = self.neighbours.symbols_after(rng, prompts, self.task.length)
        return Ragged.of_lengths(symbols_NL.reshape(-1), np.full(len(prompts), self.task.length, np.int64))

    def score(
        self, prompts: Ragged | Sequence[ArrayLike], responses: Ragged | Sequence[ArrayLike]
    ) -> NDArray[np.float64]:
        """Sum over tokens of R[class, token before, token] (section 6.1)."""
        written = Ragged.of(responses)
        scores = self.neighbours.token_scores(Ragged.of(prompts), written, FOREIGN * self.task.reward_scale)
        return written.sums(scores)
