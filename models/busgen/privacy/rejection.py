"""Generated images that come too near to a training image are dropped and drawn anew.

BUSGen names a sampling that protects patients, and does not publish it; this is an explicit one in its place.
"""

# N images   H height   W width

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.busgen.privacy.neighbours import Index

Draw = Callable[[np.ndarray, int], np.ndarray]  # pixels of these rows of what is wanted, in this round


@dataclass(frozen=True)
class Kept:
    """Images of which none is too near.

    rows: of what was wanted, those that there is an image of, in order. dropped: images drawn in vain.
    """

    pixels_NHW: np.ndarray
    rows: np.ndarray
    dropped: int


def reject(pixels_NHW: np.ndarray, index: Index, threshold: float) -> np.ndarray:
    """Which images are too near to a training image, [N]; what the copy detector calls copies."""
    return index.nearest(pixels_NHW).distance_N < threshold


def draw_unlike(draw: Draw, count: int, index: Index, threshold: float, rounds: int) -> Kept:
    """One image for each of `count` wishes; those too near are drawn anew, in all in at most so many rounds.

    draw: gives other images of a row in another round. What is too near in every round is left out.
    """
    wanted, dropped, number = np.arange(count), 0, 0
    images: dict[int, np.ndarray] = {}
    while True:
        drawn = draw(wanted, number)
        near = reject(drawn, index, threshold)
        images |= {int(row): image for row, image in zip(wanted[~near], drawn[~near], strict=True)}
        wanted, dropped, number = wanted[near], dropped + int(near.sum()), number + 1
        if not len(wanted) or number >= rounds:
            break
    rows = sorted(images)
    pixels = np.stack([images[row] for row in rows]) if rows else drawn[:0]
    return Kept(pixels, np.array(rows, np.int64), dropped)
