"""T2: copy, reverse or sort a string. Demonstrations have wrong tokens, and truth counts edits to the right answer."""

# N responses   L places of a response   A places of an answer

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.common.errors import ConfigError
from models.rto.bigram import symbol_words
from models.rto.data_config import TransductionTask
from models.rto.ragged import Ragged

_HELD_OUT_SHARE = 8  # one prompt in so many is held out, by its bytes: no list of them has to be kept
_MOST_REDRAWS = 200


@dataclass(frozen=True)
class Transduction:
    """The task's prompts (an operation, then a string), the law of its demonstrations, and its true reward.

    Tokens are the symbols, then the operations, then the end.
    """

    task: TransductionTask

    length_bias = 0.0
    describe = "true reward: minus the edits to the right answer, and minus a penalty for a missing end"

    @classmethod
    def drawn(cls, task: TransductionTask, rng: np.random.Generator) -> Transduction:
        return cls(task)

    @classmethod
    def from_tables(cls, task: TransductionTask, tables: Mapping[str, NDArray[Any]]) -> Transduction:
        return cls(task)

    @property
    def tables(self) -> dict[str, NDArray[Any]]:
        """Nothing is hidden."""
        return {}

    @property
    def words(self) -> tuple[str, ...]:
        return (*symbol_words(self.task.symbols), *self.task.operations, "end")

    @property
    def end(self) -> int:
        return self.task.symbols + len(self.task.operations)

    def prompts(self, rng: np.random.Generator, count: int, *, held_out: bool) -> Ragged:
        """Prompts of the one part: no held-out prompt is ever among the others."""
        drawn, found = [], 0
        for _ in range(_MOST_REDRAWS):
            some = self._any_prompts(rng, max(64, count))
            some = some.take(np.flatnonzero(_is_held_out(some) == held_out))
            drawn.append(some)
            found += len(some)
            if found >= count:
                return Ragged.joined(drawn).take(np.arange(count))
        raise ConfigError(
            f"among {_MOST_REDRAWS * max(64, count)} random prompts {found} are {'' if held_out else 'not '}held out, "
            f"and {count} are needed\nthe strings are too few; raise `longest` or `symbols`"
        )

    def _any_prompts(self, rng: np.random.Generator, count: int) -> Ragged:
        lengths_N = 1 + rng.integers(self.task.shortest, self.task.longest + 1, count)
        prompts = Ragged.of_lengths(rng.integers(0, self.task.symbols, lengths_N.sum()).astype(np.int32), lengths_N)
        operations_N = rng.integers(0, len(self.task.operations), count)
        prompts.tokens[prompts.offsets[:-1]] = self.task.symbols + operations_N
        return prompts

    def answers(self, prompts: Ragged) -> Ragged:
        """The right answer to each prompt, without its end."""
        is_string = prompts.places > 0
        strings = Ragged.of_lengths(prompts.tokens[is_string], prompts.lengths - 1)
        names = np.array(self.task.operations)[prompts.tokens[prompts.offsets[:-1]] - self.task.symbols]
        operation, place = names[strings.rows], strings.places
        key = np.select([operation == "reverse", operation == "sort"], [-place, strings.tokens], place)
        return Ragged(strings.tokens[np.lexsort((place, key, strings.rows))], strings.offsets)

    def responses(self, rng: np.random.Generator, prompts: Ragged) -> Ragged:
        """The right answer, each token with probability `corruption` replaced by another symbol; then the end."""
        answers = self.answers(prompts)
        is_wrong = rng.random(len(answers.tokens)) < self.task.corruption
        shift = rng.integers(1, self.task.symbols, len(answers.tokens))
        tokens = np.where(is_wrong, (answers.tokens + shift) % self.task.symbols, answers.tokens).astype(np.int32)
        with_end = Ragged.of_lengths(np.full(len(tokens) + len(answers), self.end, np.int32), answers.lengths + 1)
        with_end.tokens[with_end.places < answers.lengths[with_end.rows]] = tokens
        return with_end

    def score(
        self, prompts: Ragged | Sequence[ArrayLike], responses: Ragged | Sequence[ArrayLike]
    ) -> NDArray[np.float64]:
        """-(edits between what stands before the end and the right answer) - missing_end * (there is no end)."""
        written = Ragged.of(responses)
        text = written.before(self.end)
        edits_N = edit_distances(text, self.answers(Ragged.of(prompts)))
        has_no_end_N = text.lengths == written.lengths
        return -edits_N.astype(np.float64) - self.task.missing_end * has_no_end_N


def _is_held_out(prompts: Ragged) -> NDArray[np.bool_]:
    sums = [zlib.crc32(prompt.astype("<i4").tobytes()) for prompt in prompts]
    return np.array(sums, np.int64) % _HELD_OUT_SHARE == 0


def edit_distances(texts: Ragged, answers: Ragged) -> NDArray[np.int64]:
    """Insertions, deletions and replacements from each text to its answer (Levenshtein; Wagner and Fischer 1974).

        d[l, a] = min(d[l-1, a] + 1, d[l, a-1] + 1, d[l-1, a-1] + (text[l] != answer[a]))

    The middle term, which runs along a row, is a running minimum of d[l, a] - a.
    """
    texts_NL, _ = texts.padded()
    answers_NA, _ = answers.padded()
    rows_N, steps_A = np.arange(len(texts)), np.arange(answers_NA.shape[1] + 1)
    distance_NA = np.tile(steps_A, (len(texts), 1))
    edits_N = distance_NA[rows_N, answers.lengths]  # of an empty text
    for place in range(texts_NL.shape[1]):
        replaced_NA = distance_NA[:, :-1] + (texts_NL[:, place, None] != answers_NA)
        distance_NA = distance_NA + 1
        distance_NA[:, 1:] = np.minimum(distance_NA[:, 1:], replaced_NA)
        distance_NA = np.minimum.accumulate(distance_NA - steps_A, axis=1) + steps_A
        ends_here_N = texts.lengths == place + 1
        edits_N[ends_here_N] = distance_NA[rows_N, answers.lengths][ends_here_N]
    return edits_N
