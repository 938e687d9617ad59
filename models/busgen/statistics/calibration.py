"""Whether a probability means what it says."""

# N cases   D coefficients   B bins

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from models.busgen.statistics.estimate import Array, Estimate, Flags, normal_quantile, two_classes
from models.common.errors import DataError
from models.common.metrics import wilson_interval

_CLOSEST = 1e-7  # to 0 and 1: beyond it a float32 cannot tell, and a logit would be infinite
_MOST_STEPS, _SMALL_STEP = 100, 1e-10


@dataclass(frozen=True)
class Bin:
    """Cases whose probabilities lie near each other: their mean, and the share that is positive, with its interval."""

    mean_probability: float
    share: Estimate
    cases: int


@dataclass(frozen=True)
class Recalibration:
    """logit P(positive) = intercept + slope logit(p): 0 and 1 where p is calibrated.

    A slope below 1 means that p is too sure of itself. in_the_large: the intercept when the slope is held at 1, above 0
    where p is too low on average (Van Calster et al. 2019). The intervals are Wald's.
    """

    slope: Estimate
    intercept: Estimate
    in_the_large: Estimate


def brier_score(probability_N: ArrayLike, positive_N: ArrayLike) -> float:
    """The mean square of probability less outcome (Brier 1950)."""
    probability, positive = _probabilities(probability_N, positive_N)
    return float(np.mean((probability - positive) ** 2))


def reliability(
    probability_N: ArrayLike, positive_N: ArrayLike, bins: int, equal: Literal["width", "count"], confidence: float
) -> list[Bin]:
    """The bins with a case in them, from low to high probability, of equal width or of equally many cases."""
    probability, positive = _probabilities(probability_N, positive_N)
    if equal == "width":
        bin_N = np.minimum((probability * bins).astype(np.int64), bins - 1)
    else:
        bin_N = np.empty(len(probability), dtype=np.int64)
        bin_N[np.argsort(probability, kind="stable")] = np.arange(len(probability)) * bins // len(probability)
    z, found = normal_quantile(confidence), []
    for number in np.unique(bin_N):
        inside = bin_N == number
        cases, positives = int(inside.sum()), int(positive[inside].sum())
        share = Estimate(positives / cases, *wilson_interval(positives, cases, z))
        found.append(Bin(float(probability[inside].mean()), share, cases))
    return found


def expected_calibration_error(bins: list[Bin]) -> float:
    """How far shares lie from probabilities, as a mean over cases: sum_b n_b/N |share_b - p_b| (Naeini et al. 2015)."""
    cases = sum(part.cases for part in bins)
    return sum(part.cases / cases * abs(part.share.value - part.mean_probability) for part in bins)


def recalibration(probability_N: ArrayLike, positive_N: ArrayLike, confidence: float) -> Recalibration | None:
    """The calibration slope and intercept (Cox 1958), by logistic regression on the logit of the probability.

    None where some threshold parts the classes without a fault: then no finite slope is the likeliest.
    """
    probability, positive = _probabilities(probability_N, positive_N)
    logit_N = _logit(probability)
    if _apart(logit_N, positive):
        return None
    one_N = np.ones_like(logit_N)
    (intercept, slope), deviation_D = logistic_regression(np.stack([one_N, logit_N], axis=1), positive)
    (large,), (large_deviation,) = logistic_regression(one_N[:, None], positive, offset_N=logit_N)
    z = normal_quantile(confidence)
    return Recalibration(
        slope=_wald(slope, deviation_D[1], z),
        intercept=_wald(intercept, deviation_D[0], z),
        in_the_large=_wald(large, large_deviation, z),
    )


def temperature(logit_N: ArrayLike, positive_N: ArrayLike) -> float | None:
    """The T for which logistic(logit / T) is likeliest (Guo et al. 2017), of two classes; above 1 tempers.

    None where none is: the logit has the right sign in every case, or is wrong on the whole.
    """
    logit, positive = two_classes(logit_N, positive_N)
    toward_N = np.where(positive, logit, -logit)
    if toward_N.min() >= 0.0 or toward_N.sum() <= 0.0:  # the best 1 / T is infinite, or not above 0
        return None
    (inverse,), _ = logistic_regression(logit[:, None], positive)
    return 1.0 / inverse


def logistic_regression(
    inputs_ND: Array, positive_N: Flags, offset_N: Array | float = 0.0
) -> tuple[list[float], list[float]]:
    """The likeliest coefficients of offset + inputs @ coefficients, and their deviations, by Newton's method.

        H = X' diag(p (1 - p)) X,   step = H^-1 X' (y - p),   halved while the likelihood falls

    The deviations are the square roots of the diagonal of H^-1. The classes have to overlap.
    """
    beta_D = np.zeros(inputs_ND.shape[1])
    logit_N = offset_N + inputs_ND @ beta_D
    for _ in range(_MOST_STEPS):
        p_N = _logistic(logit_N)
        information_DD = inputs_ND.T @ (inputs_ND * (p_N * (1 - p_N))[:, None])
        step_D = np.linalg.solve(information_DD, inputs_ND.T @ (positive_N - p_N))
        before = _log_likelihood(logit_N, positive_N)
        while _log_likelihood(offset_N + inputs_ND @ (beta_D + step_D), positive_N) < before - 1e-12 * abs(before):
            step_D /= 2
        beta_D = beta_D + step_D
        logit_N = offset_N + inputs_ND @ beta_D
        if np.abs(step_D).max() < _SMALL_STEP * max(1.0, float(np.abs(beta_D).max())):
            break
    p_N = _logistic(logit_N)
    information_DD = inputs_ND.T @ (inputs_ND * (p_N * (1 - p_N))[:, None])
    return beta_D.tolist(), np.sqrt(np.diag(np.linalg.inv(information_DD))).tolist()


def _probabilities(probability_N: ArrayLike, positive_N: ArrayLike) -> tuple[Array, Flags]:
    probability, positive = two_classes(probability_N, positive_N)
    if probability.min() < 0.0 or probability.max() > 1.0:
        raise DataError(
            f"probabilities go from {probability.min():g} to {probability.max():g}\nfits: 0 to 1; were these logits?"
        )
    return probability, positive


def _apart(values_N: Array, positive_N: Flags) -> bool:
    """Whether a threshold parts the classes, cases on it aside; so it does where all values are equal."""
    above_M, below_L = values_N[positive_N], values_N[~positive_N]
    return bool(above_M.min() >= below_L.max() or below_L.min() >= above_M.max())


def _log_likelihood(logit_N: Array, positive_N: Flags) -> float:
    return -float(np.logaddexp(0.0, np.where(positive_N, -logit_N, logit_N)).sum())


def _logit(probability_N: Array) -> Array:
    inside_N = np.clip(probability_N, _CLOSEST, 1 - _CLOSEST)
    return np.log(inside_N) - np.log1p(-inside_N)


def _logistic(logit_N: Array) -> Array:
    return 0.5 * (1.0 + np.tanh(logit_N / 2))


def _wald(value: float, deviation: float, z: float) -> Estimate:
    assert math.isfinite(deviation), "classes that overlap give a finite deviation"
    return Estimate(value, value - z * deviation, value + z * deviation)
