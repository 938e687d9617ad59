"""The area under the ROC curve, its interval, and whether two scores differ in it."""

# K scores of the same cases   N cases   M of them positive   L of them negative   T thresholds

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from models.busgen.statistics.estimate import Array, Estimate, Flags, normal_quantile, two_classes


@dataclass(frozen=True)
class Auc(Estimate):
    """The chance that a positive case scores above a negative one, ties counted half."""


@dataclass(frozen=True)
class Difference(Estimate):
    """How far a first score lies above a second; p_value: two-sided, of no difference."""

    p_value: float


@dataclass(frozen=True)
class Roc:
    """The corners of the curve, from (0, 0) to (1, 1): what is called positive when score >= threshold."""

    false_positive_rate_T: Array
    true_positive_rate_T: Array
    threshold_T: Array


def area(scores_N: ArrayLike, positive_N: ArrayLike) -> float:
    """The area under the ROC curve (Mann and Whitney 1947).

    AUC = sum_ij [x_i > y_j] + 1/2 [x_i = y_j]  over  M L,   x positive, y negative
    """
    scores, positive = two_classes(scores_N, positive_N)
    return float(_placements(scores, positive)[0].mean())


def auc(scores_N: ArrayLike, positive_N: ArrayLike, confidence: float) -> Auc:
    """The area with an interval from DeLong's variance, symmetric in the logit of the area.

        logit A -+ z sd / (A (1 - A))

    so it stays within 0 and 1 (Pepe 2003, ch. 5.2.4). Where DeLong's variance is nil, as with classes that the score
    parts without a fault, the interval is Newcombe's instead.
    """
    scores, positive = two_classes(scores_N, positive_N, least=2)
    (value,), ((variance,),) = (part.tolist() for part in delong_covariance(scores[None], positive))
    if variance <= 0.0 or not 0.0 < value < 1.0:
        return Auc(value, *newcombe_interval(value, int(positive.sum()), int((~positive).sum()), confidence))
    half = normal_quantile(confidence) * math.sqrt(variance) / (value * (1 - value))
    middle = math.log(value / (1 - value))
    return Auc(value, _logistic(middle - half), _logistic(middle + half))


def delong_covariance(scores_KN: ArrayLike, positive_N: ArrayLike) -> tuple[Array, Array]:
    """The areas of K scores of the same cases, [K], and their covariance, [K, K] (DeLong et al. 1988, eq. 5 to 8).

        S = cov(V10) / M + cov(V01) / L

    with V10_i the share of negatives below positive i, and V01_j of positives above negative j, ties counted half.
    They come from sorting, in O(N log N), as from the midranks of Sun and Xu (2014).
    """
    parts = [_placements(*two_classes(scores, positive_N, least=2)) for scores in np.asarray(scores_KN)]
    of_positives_KM = np.stack([of_positives for of_positives, _ in parts])
    of_negatives_KL = np.stack([of_negatives for _, of_negatives in parts])
    covariance_KK = (
        np.atleast_2d(np.cov(of_positives_KM)) / of_positives_KM.shape[1]
        + np.atleast_2d(np.cov(of_negatives_KL)) / of_negatives_KL.shape[1]
    )
    return of_positives_KM.mean(axis=1), covariance_KK


def error_of_difference(first_N: ArrayLike, second_N: ArrayLike, positive_N: ArrayLike) -> float:
    """The standard error of the difference of two areas on the same cases (DeLong et al. 1988).

        S11 + S22 - 2 S12 = var(V10_1 - V10_2) / M + var(V01_1 - V01_2) / L

    The right side has no rounding where both put the cases in the same order: there it is 0.
    """
    parts = [_placements(*two_classes(scores, positive_N, least=2)) for scores in (first_N, second_N)]
    differences = [one - other for one, other in zip(*parts, strict=True)]
    return math.sqrt(sum(float(values.var(ddof=1)) / len(values) for values in differences))


def auc_difference(first_N: ArrayLike, second_N: ArrayLike, positive_N: ArrayLike, confidence: float) -> Difference:
    """How much larger the first score's area is than the second's on the same cases (DeLong et al. 1988).

    z = (A1 - A2) / sqrt(S11 + S22 - 2 S12)
    """
    area_K, covariance_KK = delong_covariance(np.stack([np.asarray(first_N), np.asarray(second_N)]), positive_N)
    value, z = float(area_K[0] - area_K[1]), normal_quantile(confidence)
    variance = float(covariance_KK[0, 0] + covariance_KK[1, 1] - 2 * covariance_KK[0, 1])
    if _rank_alike(first_N, second_N):
        return Difference(0.0, 0.0, 0.0, 1.0)
    if variance < 1e-24:  # rounding's, as of two scores without a fault
        return _difference_by_newcombe(area_K, np.asarray(positive_N).astype(bool), confidence)
    deviation = math.sqrt(variance)
    return Difference(value, value - z * deviation, value + z * deviation, _two_sided(value / deviation))


def newcombe_interval(value: float, positives: int, negatives: int, confidence: float) -> tuple[float, float]:
    """The areas that would not be surprised by this one (Newcombe 2006, method 5), as Wilson has it for a share.

        (value - A)^2 = z^2 A (1 - A) (1 + (n - 1) ((1 - A) / (2 - A) + A / (1 + A))) / (M L),   n = (M + L) / 2

    Unlike DeLong's it has a width at 0 and 1. Its ends are found by bisection.
    """
    z, count = normal_quantile(confidence), (positives + negatives) / 2

    def surprise(a: float) -> float:
        spread = 1 + (count - 1) * ((1 - a) / (2 - a) + a / (1 + a))
        return (value - a) ** 2 - z * z * a * (1 - a) * spread / (positives * negatives)

    def end(outside: float) -> float:
        inside = value
        for _ in range(60):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if surprise(middle) > 0 else (middle, outside)
        return inside

    return (end(0.0) if value > 0.0 else 0.0), (end(1.0) if value < 1.0 else 1.0)


def roc_curve(scores_N: ArrayLike, positive_N: ArrayLike) -> Roc:
    """The corners of the ROC curve, one for each distinct score, from the strictest threshold on."""
    scores, positive = two_classes(scores_N, positive_N)
    order = np.argsort(-scores, kind="stable")
    last_of_ties = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    true_T = np.cumsum(positive[order])[last_of_ties] / positive.sum()
    false_T = np.cumsum(~positive[order])[last_of_ties] / (~positive).sum()
    return Roc(
        false_positive_rate_T=np.append(0.0, false_T),
        true_positive_rate_T=np.append(0.0, true_T),
        threshold_T=np.append(np.inf, scores[order][last_of_ties]),
    )


def _difference_by_newcombe(area_K: Array, positive_N: Flags, confidence: float) -> Difference:
    """The difference with an interval from those of both areas, as if of different cases (Zou and Donner 2008, eq. 4).

    low = D - sqrt((A1 - low1)^2 + (high2 - A2)^2),   high = D + sqrt((high1 - A1)^2 + (A2 - low2)^2)
    """
    first, second = (float(one) for one in area_K)
    counts = int(positive_N.sum()), int((~positive_N).sum())
    (low1, high1), (low2, high2) = (newcombe_interval(one, *counts, confidence) for one in (first, second))
    below, above = math.hypot(first - low1, high2 - second), math.hypot(high1 - first, second - low2)
    value = first - second
    toward_none = below if value > 0 else above
    return Difference(
        value, value - below, value + above, _two_sided(value / toward_none * normal_quantile(confidence))
    )


def _two_sided(z: float) -> float:
    """The chance that a normal deviate lies as far from 0 as this, on either side."""
    return 2 * NormalDist().cdf(-abs(z))


def _rank_alike(first_N: ArrayLike, second_N: ArrayLike) -> bool:
    """Whether both put the cases in the same order, ties included."""
    first, second = (np.unique(np.asarray(scores), return_inverse=True)[1] for scores in (first_N, second_N))
    return bool(np.array_equal(first, second))


def _placements(scores_N: Array, positive_N: Flags) -> tuple[Array, Array]:
    """For each positive the share of negatives below it, for each negative that of positives above; ties half."""
    above_M, below_L = scores_N[positive_N], scores_N[~positive_N]
    return _share_below(above_M, np.sort(below_L)), 1.0 - _share_below(below_L, np.sort(above_M))


def _share_below(values: Array, sorted_others: Array) -> Array:
    below = np.searchsorted(sorted_others, values, side="left")
    not_above = np.searchsorted(sorted_others, values, side="right")
    return (below + not_above) / (2 * len(sorted_others))


def _logistic(logit: float) -> float:
    return 0.5 * (1.0 + math.tanh(logit / 2))
