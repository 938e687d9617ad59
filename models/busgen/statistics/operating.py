"""Sensitivity and specificity, at a threshold or at each other."""

# N cases

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from models.busgen.statistics.auc import roc_curve
from models.busgen.statistics.estimate import Estimate, normal_quantile, two_classes
from models.busgen.statistics.patients import bootstrap
from models.busgen.statistics_config import IntervalConfig
from models.common.metrics import wilson_interval

_ROUNDING = 1e-12  # 1 - 0.1 is to fit a wanted 0.9


@dataclass(frozen=True)
class AtThreshold:
    """What a threshold that was chosen on other cases leads to, with Wilson's intervals."""

    sensitivity: Estimate
    specificity: Estimate


def at_threshold(scores_N: ArrayLike, positive_N: ArrayLike, threshold: float, confidence: float) -> AtThreshold:
    """The shares of positives with score >= threshold and of negatives below it."""
    scores, positive = two_classes(scores_N, positive_N)
    called = scores >= threshold
    return AtThreshold(
        sensitivity=_share(int((called & positive).sum()), int(positive.sum()), confidence),
        specificity=_share(int((~called & ~positive).sum()), int((~positive).sum()), confidence),
    )


def sensitivity_at(specificity: float, scores_N: ArrayLike, positive_N: ArrayLike) -> float:
    """The highest sensitivity among the thresholds with this specificity or more; nothing is interpolated."""
    roc = roc_curve(scores_N, positive_N)
    return float(roc.true_positive_rate_T[1 - roc.false_positive_rate_T >= specificity - _ROUNDING].max())


def specificity_at(sensitivity: float, scores_N: ArrayLike, positive_N: ArrayLike) -> float:
    """The highest specificity among the thresholds with this sensitivity or more; nothing is interpolated."""
    roc = roc_curve(scores_N, positive_N)
    return float(1 - roc.false_positive_rate_T[roc.true_positive_rate_T >= sensitivity - _ROUNDING].min())


def threshold_at_specificity(specificity: float, scores_N: ArrayLike, positive_N: ArrayLike) -> float:
    """The lowest threshold with this specificity or more, to be used on other cases; infinite: call none positive."""
    roc = roc_curve(scores_N, positive_N)
    return float(roc.threshold_T[1 - roc.false_positive_rate_T >= specificity - _ROUNDING].min())


def sensitivity_interval(
    scores_N: ArrayLike,
    positive_N: ArrayLike,
    patients_N: Sequence[str] | None,
    config: IntervalConfig,
    rng: np.random.Generator,
) -> Estimate:
    """`sensitivity_at` the config's specificity; the bootstrap chooses the threshold anew in each resample.

    So the interval knows that the threshold is chosen on the same cases, unlike Wilson's at that threshold.
    """
    return _interval(partial(sensitivity_at, config.specificity), scores_N, positive_N, patients_N, config, rng)


def specificity_interval(
    scores_N: ArrayLike,
    positive_N: ArrayLike,
    patients_N: Sequence[str] | None,
    config: IntervalConfig,
    rng: np.random.Generator,
) -> Estimate:
    """`specificity_at` the config's sensitivity; the bootstrap chooses the threshold anew in each resample."""
    return _interval(partial(specificity_at, config.sensitivity), scores_N, positive_N, patients_N, config, rng)


def _interval(
    measure: Callable[[ArrayLike, ArrayLike], float],
    scores_N: ArrayLike,
    positive_N: ArrayLike,
    patients_N: Sequence[str] | None,
    config: IntervalConfig,
    rng: np.random.Generator,
) -> Estimate:
    scores, positive = two_classes(scores_N, positive_N)
    return bootstrap(
        lambda rows: measure(scores[rows], positive[rows]),
        positive,
        patients_N,
        resamples=config.resamples,
        confidence=config.confidence,
        rng=rng,
    )


def _share(successes: int, trials: int, confidence: float) -> Estimate:
    return Estimate(successes / trials, *wilson_interval(successes, trials, normal_quantile(confidence)))
