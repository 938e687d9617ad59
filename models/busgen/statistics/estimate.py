"""A number with its interval, and what scores have to be before anything is measured on them."""

# N cases

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.common.errors import DataError
from models.common.metrics import mean_interval

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Estimate:
    """A value, and the ends of its interval."""

    value: float
    low: float
    high: float


def normal_quantile(confidence: float) -> float:
    """How many deviations of a normal distribution the interval reaches to each side."""
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def two_classes(scores_N: ArrayLike, positive_N: ArrayLike, least: int = 1) -> tuple[Array, Flags]:
    """The scores in float64 and who is positive; raises DataError where they do not fit or a class is too small."""
    scores, positive = np.asarray(scores_N, dtype=np.float64), np.asarray(positive_N).astype(bool)
    if scores.ndim != 1 or scores.shape != positive.shape:
        raise DataError(f"scores are {scores.shape} and labels {positive.shape}\nfits: one of each for every case")
    if not np.isfinite(scores).all():
        raise DataError(f"{(~np.isfinite(scores)).sum()} of {len(scores)} scores are not finite; mend the classifier")
    count = int(positive.sum())
    if min(count, len(positive) - count) < least:
        raise DataError(
            f"{count} positive and {len(positive) - count} negative cases\n"
            f"fits: {least} or more of each; take a larger test set"
        )
    return scores, positive


def difference_over_seeds(first: Sequence[float], second: Sequence[float], confidence: float) -> Estimate:
    """How far the first lies above the second on average, with Student's interval over the pairs.

    A pair shares its seed. The interval holds for other seeds on the same test cases, not for other patients.
    """
    differences = [float(a) - float(b) for a, b in zip(first, second, strict=True)]
    return Estimate(*mean_interval(differences, confidence))
