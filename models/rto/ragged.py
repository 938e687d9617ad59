"""Rows of tokens of different lengths as one flat array."""

# N rows   L longest row

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Tokens: TypeAlias = NDArray[np.int32]


@dataclass(frozen=True)
class Ragged:
    """Row n is `tokens[offsets[n] : offsets[n + 1]]`."""

    tokens: Tokens
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Ragged | Sequence[ArrayLike]) -> Ragged:
        """These rows, one after the other; what is ragged already is returned as it is."""
        if isinstance(rows, Ragged):
            return rows
        arrays = [np.asarray(row, np.int32).reshape(-1) for row in rows]
        tokens = np.concatenate(arrays) if arrays else np.empty(0, np.int32)
        return cls.of_lengths(tokens, np.array([len(row) for row in arrays], np.int64))

    @classmethod
    def of_lengths(cls, tokens: Tokens, lengths_N: NDArray[np.int64]) -> Ragged:
        return cls(tokens, np.concatenate([[0], np.cumsum(lengths_N)]).astype(np.int64))

    @classmethod
    def of_real(cls, tokens_NL: ArrayLike, real_NL: ArrayLike) -> Ragged:
        """The real tokens of padded rows (arrays or tensors on the CPU, any leading axes), without the padding."""
        tokens, real = np.asarray(tokens_NL), np.asarray(real_NL, np.bool_)
        return cls.of_lengths(tokens[real].astype(np.int32), real.sum(axis=-1).reshape(-1))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> Tokens:
        row = range(len(self))[row]  # negative rows count from the end, and others are an IndexError
        return self.tokens[self.offsets[row] : self.offsets[row + 1]]

    def __iter__(self) -> Iterator[Tokens]:
        return (self[row] for row in range(len(self)))

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.offsets)

    @property
    def longest(self) -> int:
        """Tokens of the longest row; 0 where there is no row."""
        return int(self.lengths.max(initial=0))

    @property
    def rows(self) -> NDArray[np.int64]:
        """Of each token, the row it stands in."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @property
    def places(self) -> NDArray[np.int64]:
        """Of each token, its place in its row."""
        return np.arange(len(self.tokens)) - np.repeat(self.offsets[:-1], self.lengths)

    def take(self, rows: ArrayLike) -> Ragged:
        """Some of the rows, by number, in this order; a number may come again."""
        chosen = np.asarray(rows, np.int64)
        taken = Ragged.of_lengths(np.empty(0, np.int32), self.lengths[chosen])
        starts = np.repeat(self.offsets[:-1][chosen] - taken.offsets[:-1], self.lengths[chosen])
        return Ragged(self.tokens[starts + np.arange(taken.offsets[-1])], taken.offsets)

    def repeated(self, times: int) -> Ragged:
        """Each row so many times, one after the other."""
        return self.take(np.repeat(np.arange(len(self)), times))

    def before(self, end: int) -> Ragged:
        """What stands before the first `end` of each row; all of it where there is none."""
        ends_up_to = np.concatenate([[0], np.cumsum(self.tokens == end)])
        kept = ends_up_to[1:] == ends_up_to[self.offsets[:-1]][self.rows]
        return Ragged.of_lengths(self.tokens[kept], self.sums(kept).astype(np.int64))

    def sums(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Over each row, the sum of values of its tokens, given flat; 0 for a row without tokens."""
        return np.bincount(self.rows, weights=values, minlength=len(self)).astype(np.float64)

    def padded(self, *, left: bool = False) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Rows of one width [N, L] with zeros for padding, and which of it is real; L is at least 1."""
        width = max(1, self.longest)
        if left:
            real_NL = np.arange(width) >= width - self.lengths[:, None]
        else:
            real_NL = np.arange(width) < self.lengths[:, None]
        tokens_NL = np.zeros(real_NL.shape, np.int64)
        tokens_NL[real_NL] = self.tokens
        return tokens_NL, real_NL

    @classmethod
    def joined(cls, parts: Sequence[Ragged]) -> Ragged:
        """The rows of all parts."""
        return cls.of_lengths(
            np.concatenate([part.tokens for part in parts]), np.concatenate([part.lengths for part in parts])
        )
