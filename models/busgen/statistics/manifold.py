"""How much of the generated lies where the real does, and the reverse, by nearest neighbours."""

# N real images   M generated ones   F features   C of a chunk

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from models.busgen.statistics.estimate import Array
from models.busgen.statistics.frechet import two_sets
from models.common.errors import DataError

_ROWS = 1024  # of a chunk


@dataclass(frozen=True)
class Overlap:
    """Shares of images, but for the density, which goes beyond 1 where the generated crowd around the real.

    precision: generated inside the ball of a real one. recall: real inside the ball of a generated one.
    density: how many balls a generated one lies in, over the neighbours. coverage: real with a generated one inside.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def overlap(real_NF: np.ndarray, generated_MF: np.ndarray, neighbours: int) -> Overlap:
    """Precision and recall (Kynkäänniemi et al. 2019, eq. 1 to 3), density and coverage (Naeem et al. 2020, eq. 4, 5).

        precision = mean_j 1[some i: |r_i - g_j| < R_i]     density  = sum_ij 1[|r_i - g_j| < R_i] / (k M)
        recall    = mean_i 1[some j: |r_i - g_j| < G_j]     coverage = mean_i 1[some j: |r_i - g_j| < R_i]

    R_i, G_j: how far the k-th neighbour of an image is within its own set.
    """
    real_NF, generated_MF = two_sets(real_NF, generated_MF)
    smallest = min(len(real_NF), len(generated_MF))
    if neighbours >= smallest:
        raise DataError(f"{neighbours} neighbours among {smallest} images\nfits: neighbours up to {smallest - 1}")
    middle_F = real_NF.mean(axis=0)  # off which rounding of distances is least
    real_NF, generated_MF = real_NF - middle_F, generated_MF - middle_F
    reach_N, reach_M = (_reach(features, neighbours) for features in (real_NF, generated_MF))
    balls_M = np.zeros(len(generated_MF), dtype=np.int64)
    recalled, covered = 0, 0
    for start, squares_CM in _squares(real_NF, generated_MF):
        in_real_CM = squares_CM < reach_N[start : start + len(squares_CM), None]
        balls_M += in_real_CM.sum(axis=0)
        covered += int(in_real_CM.any(axis=1).sum())
        recalled += int((squares_CM < reach_M).any(axis=1).sum())
    return Overlap(
        precision=float((balls_M > 0).mean()),
        recall=recalled / len(real_NF),
        density=float(balls_M.mean() / neighbours),
        coverage=covered / len(real_NF),
    )


def _reach(features_NF: Array, neighbours: int) -> Array:
    """The squared distance of each image to its k-th neighbour, itself not counted."""
    parts = []
    for start, squares_CN in _squares(features_NF, features_NF):
        rows = np.arange(len(squares_CN))
        squares_CN[rows, start + rows] = -1.0  # itself is nearest, rounding or not
        parts.append(np.partition(squares_CN, neighbours, axis=1)[:, neighbours])
    return np.concatenate(parts)


def _squares(first_NF: Array, second_MF: Array) -> Iterator[tuple[int, Array]]:
    """Squared distances of all pairs, a chunk of the first at a time, with the number of its first row."""
    squares_M = np.sum(second_MF**2, axis=1)
    for start in range(0, len(first_NF), _ROWS):
        chunk_CF = first_NF[start : start + _ROWS]
        squares_CM = np.sum(chunk_CF**2, axis=1)[:, None] + squares_M - 2 * chunk_CF @ second_MF.T
        yield start, np.maximum(squares_CM, 0.0)
