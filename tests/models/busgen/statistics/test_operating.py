"""Sensitivity and specificity against a search of every threshold, and their intervals against simulation."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from models.busgen.statistics.operating import (
    at_threshold,
    sensitivity_at,
    sensitivity_interval,
    specificity_at,
    specificity_interval,
    threshold_at_specificity,
)
from models.busgen.statistics_config import IntervalConfig


def case(seed: int, cases: int = 50) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    positive = np.arange(cases) % 2 == 0
    return rng.integers(0, 10, size=cases) + 3 * positive, positive


def every_threshold(scores: np.ndarray, positive: np.ndarray) -> list[tuple[float, float]]:
    """Sensitivity and specificity, one after another."""
    return [
        (float(np.mean(scores[positive] >= cut)), float(np.mean(scores[~positive] < cut)))
        for cut in [*sorted(set(scores.tolist())), math.inf]
    ]


@pytest.mark.parametrize("least", [0.5, 0.76, 0.9, 0.99])
def test_each_is_the_best_that_the_other_allows(least: float):
    scores, positive = case(0)
    pairs = every_threshold(scores, positive)
    assert sensitivity_at(least, scores, positive) == max(sens for sens, spec in pairs if spec >= least)
    assert specificity_at(least, scores, positive) == pytest.approx(max(spec for sens, spec in pairs if sens >= least))


def test_a_specificity_just_met_counts_in_spite_of_rounding():
    positive = np.repeat([False, True], [10, 2])
    scores = np.array([*range(10), -1, 0.5])
    assert 1 - 0.9 < 0.1  # which is why
    assert sensitivity_at(0.1, scores, positive) == 0.5  # 1 of 10 negatives lies below 0.5


def test_the_threshold_carries_over_to_other_cases():
    scores, positive = case(1)
    threshold = threshold_at_specificity(0.8, scores, positive)
    found = at_threshold(scores, positive, threshold, 0.95)
    assert found.specificity.value >= 0.8
    assert found.sensitivity.value == sensitivity_at(0.8, scores, positive)
    lower = max(score for score in scores if score < threshold)
    assert at_threshold(scores, positive, lower, 0.95).specificity.value < 0.8


def test_a_share_has_wilsons_interval():
    positive = np.repeat([True, False], [10, 10])
    scores = np.r_[np.ones(8), np.zeros(12)]
    found = at_threshold(scores, positive, 0.5, 0.95).sensitivity
    assert (found.value, round(found.low, 4), round(found.high, 4)) == (0.8, 0.4902, 0.9433)  # 8 of 10, as published
    assert at_threshold(scores, positive, 0.5, 0.95).specificity.high == 1.0


def test_intervals_hold_the_truth_though_the_threshold_is_chosen_on_the_same_cases():
    config = IntervalConfig(resamples=150, specificity=0.8, sensitivity=0.8)
    rng = np.random.default_rng(8)
    positive = np.repeat([True, False], [60, 60])
    truth = float(norm.cdf(1.5 - norm.ppf(0.8)))  # by symmetry, of either
    runs, inside = 80, np.zeros(2)
    for _ in range(runs):
        scores = rng.standard_normal(120) + 1.5 * positive
        for which, interval in enumerate((sensitivity_interval, specificity_interval)):
            found = interval(scores, positive, None, config, rng)
            inside[which] += found.low <= truth <= found.high
    assert (inside / runs > 0.86).all()
