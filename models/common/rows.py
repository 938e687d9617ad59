"""Which rows of the data each step takes. Ranks draw alike."""

import functools

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def draw_rows(rows: int, batch_size: int, step: int, seed: tuple[int, ...]) -> Rows:
    """The rows of this step's global batch: one pass through all of them after the other, each in an order of its own.

    A batch may end one pass and begin the next, so that each row comes equally often.
    """
    return rows_at(np.arange(step * batch_size, (step + 1) * batch_size), rows, seed)


def rows_at(places: Rows, rows: int, seed: tuple[int, ...]) -> Rows:
    """The rows at these places of the passes, the first place of the first pass being 0."""
    epochs = {int(epoch) for epoch in places // rows}
    orders = {epoch: _order(rows, (*seed, epoch)) for epoch in epochs}
    return np.array([orders[int(place // rows)][place % rows] for place in places], np.int64)


@functools.lru_cache(maxsize=4)  # of millions of rows an order takes longer than a step
def _order(rows: int, seed: tuple[int, ...]) -> Rows:
    return np.random.default_rng(seed).permutation(rows)
