"""The kernel distance between two sets of features: unbiased, so 0 on average between samples of one distribution."""

# N, M images of either set   F features   C of a chunk   B blocks

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from models.busgen.statistics.estimate import Array
from models.busgen.statistics.frechet import two_sets
from models.common.errors import DataError

_ROWS = 1024  # of a chunk


def kernel_distance(first_NF: np.ndarray, second_MF: np.ndarray, degree: int) -> float:
    """The unbiased squared maximum mean discrepancy (Gretton et al. 2012, eq. 3; Bińkowski et al. 2018).

        mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i j} k(x_i, y_j),   k(x, y) = (x.y / F + 1)^d

    d is the degree. It may be below 0, by chance.
    """
    first_NF, second_MF = two_sets(first_NF, second_MF)
    return (
        _mean_of_pairs(first_NF, degree)
        + _mean_of_pairs(second_MF, degree)
        - 2 * _kernel_sum(first_NF, second_MF, degree) / (len(first_NF) * len(second_MF))
    )


def kernel_distance_error(
    first_NF: np.ndarray, second_MF: np.ndarray, degree: int, blocks: int, rng: np.random.Generator
) -> float:
    """The standard error of the kernel distance, from its spread over disjoint random blocks of both sets.

        s_B / sqrt(B)

    Too large rather than too small: where the distributions are alike, the whole is more exact than the mean of blocks.
    Fewer blocks are taken where there are not two images for each.
    """
    first_NF, second_MF = two_sets(first_NF, second_MF)
    blocks = min(blocks, len(first_NF) // 2, len(second_MF) // 2)
    if blocks < 2:
        raise DataError(
            f"{len(first_NF)} and {len(second_MF)} images make no two blocks\nfits: 4 or more on either side"
        )
    pairs = zip(_blocks(first_NF, blocks, rng), _blocks(second_MF, blocks, rng), strict=True)
    return float(np.std([kernel_distance(x, y, degree) for x, y in pairs], ddof=1) / math.sqrt(blocks))


def _blocks(features_NF: Array, blocks: int, rng: np.random.Generator) -> Iterator[Array]:
    for rows in np.array_split(rng.permutation(len(features_NF)), blocks):
        yield features_NF[rows]


def _mean_of_pairs(features_NF: Array, degree: int) -> float:
    """Over all pairs of different images."""
    count, features = features_NF.shape
    of_itself = float(((np.sum(features_NF**2, axis=1) / features + 1) ** degree).sum())
    return (_kernel_sum(features_NF, features_NF, degree) - of_itself) / (count * (count - 1))


def _kernel_sum(first_NF: Array, second_MF: Array, degree: int) -> float:
    chunks = (first_NF[start : start + _ROWS] for start in range(0, len(first_NF), _ROWS))
    return sum(float(((chunk_CF @ second_MF.T / first_NF.shape[1] + 1) ** degree).sum()) for chunk_CF in chunks)
