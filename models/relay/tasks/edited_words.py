"""Pairs of words: random ones, and a random one beside what random edits make of it (Feng et al. 2023)."""

# P pairs   K letters   N letters of a word   E edits

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from models.relay.task import FIRST_SYMBOL, PAD, Tokens, widths_of

Integers = NDArray[np.int64]

NO_EDIT, DELETE, REPLACE, INSERT = range(4)


class Alphabets(NamedTuple):
    """For each pair the letters that its words are made of: the first `size_P` of a row."""

    letters_PK: Tokens
    size_P: Integers

    @classmethod
    def draw(cls, rng: np.random.Generator, count: int, letters: int, least: int, most: int) -> Self:
        """Alphabets of least to most of these letters, whose tokens come first of all symbols."""
        order_PK = rng.random((count, letters), np.float32).argsort(axis=1)
        return cls((order_PK + FIRST_SYMBOL).astype(np.uint16), rng.integers(least, most + 1, size=count))

    def words(self, rng: np.random.Generator, width_P: Integers) -> Tokens:
        """Random words of these widths, PAD on their right."""
        shape = len(width_P), int(width_P.max(initial=0))
        choice_PN = (rng.random(shape, np.float32) * self.size_P[:, None]).astype(np.int64)
        word_PN = np.take_along_axis(self.letters_PK, np.minimum(choice_PN, self.size_P[:, None] - 1), axis=1)
        return np.where(np.arange(shape[1]) < width_P[:, None], word_PN, PAD).astype(np.uint16)


def draw_edits(
    rng: np.random.Generator, length: int, shorter_by: int, longer_by: int, count: int
) -> tuple[Integers, NDArray[np.uint8]]:
    """Widths of words, and edits of each in their order (P, E), at most so many.

    A word of N letters has 1 to N edits, uniformly, of kinds drawn uniformly; those are kept that make it
    shorter or longer by no more than that, so that the shorter word of the two has `length`
    letters. NO_EDIT stands on the right.
    """
    candidates = 4 * count + 64
    width_P = rng.integers(length, length + shorter_by + 1, size=candidates)
    edits_P = rng.integers(1, width_P + 1)
    kind_PE = rng.integers(DELETE, INSERT + 1, size=(candidates, length + shorter_by), dtype=np.uint8)
    kind_PE[np.arange(kind_PE.shape[1]) >= edits_P[:, None]] = NO_EDIT
    longer_P = (kind_PE == INSERT).sum(axis=1) - (kind_PE == DELETE).sum(axis=1)
    fits_P = (longer_P >= -shorter_by) & (longer_P <= longer_by) & (width_P + np.minimum(longer_P, 0) == length)
    kept = fits_P.nonzero()[0][:count]
    return width_P[kept], kind_PE[kept]


def edit(rng: np.random.Generator, word_PN: Tokens, kind_PE: NDArray[np.uint8], alphabets: Alphabets) -> Tokens:
    """The words after all edits, each at a place drawn uniformly; nothing is deleted from an empty word."""
    rows_P, width_P = np.arange(len(word_PN)), widths_of(word_PN)
    letter_PE = alphabets.words(rng, np.full(len(word_PN), kind_PE.shape[1]))
    for kind_P, letter_P in zip(kind_PE.T, letter_PE.T, strict=True):
        inserts_P, deletes_P = kind_P == INSERT, (kind_P == DELETE) & (width_P > 0)
        place_P = (rng.random(len(word_PN)) * (width_P + inserts_P)).astype(np.int64)
        writes = (inserts_P | ((kind_P == REPLACE) & (width_P > 0))).nonzero()[0]
        width_P = width_P + inserts_P - deletes_P
        word_PN = _opened(word_PN, place_P, inserts_P, deletes_P, int(width_P.max(initial=1)))
        word_PN[rows_P[writes], place_P[writes]] = letter_P[writes]
    return word_PN


def _opened(
    word_PN: Tokens, place_P: Integers, inserts_P: NDArray[np.bool_], deletes_P: NDArray[np.bool_], width: int
) -> Tokens:
    """The words in this width, with what stands at a place and behind it one column further on, or one back."""
    framed_PN = np.zeros((len(word_PN), max(width, word_PN.shape[1]) + 2), np.uint16)
    framed_PN[:, 1 : word_PN.shape[1] + 1] = word_PN
    back_PN, stays_PN, on_PN = (framed_PN[:, shift : width + shift] for shift in range(3))
    moved_PN = np.where(inserts_P[:, None], back_PN, np.where(deletes_P[:, None], on_PN, stays_PN))
    return np.where(np.arange(width, dtype=np.int16) < place_P.astype(np.int16)[:, None], stays_PN, moved_PN)
