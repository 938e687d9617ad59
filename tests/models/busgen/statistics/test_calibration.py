"""Calibration against definitions written as loops, scipy.optimize, and probabilities that are right by making."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from models.busgen.statistics.calibration import (
    brier_score,
    expected_calibration_error,
    logistic_regression,
    recalibration,
    reliability,
    temperature,
)
from models.common.errors import DataError
from models.common.metrics import wilson_interval


def outcomes(seed: int, cases: int, slope: float = 1.0, intercept: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and outcomes whose true logit is intercept + slope logit."""
    rng = np.random.default_rng(seed)
    logit = 1.5 * rng.standard_normal(cases)
    positive = rng.random(cases) < 1 / (1 + np.exp(-(intercept + slope * logit)))
    return 1 / (1 + np.exp(-logit)), positive


def test_calibrated_probabilities_have_slope_1_and_intercept_0():
    found = recalibration(*outcomes(0, 20_000), 0.99)
    assert found is not None
    for estimate, truth in ((found.slope, 1.0), (found.intercept, 0.0), (found.in_the_large, 0.0)):
        assert estimate.low < truth < estimate.high
        assert estimate.high - estimate.low < 0.15


def test_the_line_that_made_the_outcomes_is_found():
    found = recalibration(*outcomes(1, 20_000, slope=0.5, intercept=-0.7), 0.99)
    assert found is not None
    assert found.slope.low < 0.5 < found.slope.high
    assert found.intercept.low < -0.7 < found.intercept.high
    assert found.in_the_large.high < -0.5


def test_newton_finds_the_optimum_that_scipy_finds():
    probability, positive = outcomes(2, 80, slope=2.0)
    logit = np.log(probability / (1 - probability))
    sign = np.where(positive, 1, -1)

    def surprise(line: np.ndarray) -> float:
        return float(np.logaddexp(0, -sign * (line[0] + line[1] * logit)).sum())

    theirs = minimize(surprise, np.zeros(2), method="BFGS", options={"gtol": 1e-9})
    ours, deviations = logistic_regression(np.stack([np.ones(80), logit], axis=1), positive)
    assert ours == pytest.approx(theirs.x, abs=1e-6)
    assert deviations == pytest.approx(np.sqrt(np.diag(theirs.hess_inv)), rel=0.02)
    found = recalibration(probability, positive, 0.95)
    assert found is not None
    assert [found.intercept.value, found.slope.value] == pytest.approx(ours)


def test_newton_arrives_from_far_away():
    inputs = np.r_[np.linspace(-30, 30, 40), 25.0, -25.0]
    positive = np.r_[np.linspace(-30, 30, 40) > 0, False, True]
    (slope,), _ = logistic_regression(inputs[:, None], positive, offset_N=np.full(42, 15.0))
    p = 1 / (1 + np.exp(-(15.0 + slope * inputs)))
    assert float(inputs @ (positive - p)) == pytest.approx(0.0, abs=1e-6)


def test_classes_that_a_threshold_parts_have_no_line():
    assert recalibration([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], 0.95) is None
    assert recalibration([0.9, 0.8, 0.2, 0.1], [0, 0, 1, 1], 0.95) is None
    assert recalibration([0.5, 0.5, 0.5], [0, 1, 1], 0.95) is None


def test_a_probability_of_0_or_1_does_not_break_the_line():
    found = recalibration([0.0, 0.3, 1.0, 0.6, 0.9], [0, 1, 1, 0, 1], 0.95)
    assert found is not None
    assert math.isfinite(found.slope.value)


def test_the_brier_score_is_a_mean_square():
    assert brier_score([0.2, 0.9, 0.5], [0, 1, 1]) == pytest.approx((0.04 + 0.01 + 0.25) / 3)


@pytest.mark.parametrize("equal", ["width", "count"])
def test_bins_hold_each_case_once_and_the_error_is_their_mean_gap(equal):
    probability, positive = outcomes(3, 203)
    bins = reliability(probability, positive, 7, equal, 0.95)
    assert sum(part.cases for part in bins) == 203
    assert sum(part.share.value * part.cases for part in bins) == pytest.approx(positive.sum())
    assert sum(part.mean_probability * part.cases for part in bins) == pytest.approx(probability.sum())
    gap = 0.0
    for part in bins:
        gap += part.cases * abs(part.share.value - part.mean_probability)
        ends = wilson_interval(round(part.share.value * part.cases), part.cases)
        assert (part.share.low, part.share.high) == pytest.approx(ends, abs=1e-6)
    assert expected_calibration_error(bins) == pytest.approx(gap / 203)
    if equal == "count":
        assert {part.cases for part in bins} == {29}


def test_a_certain_case_is_in_the_last_bin_and_empty_bins_are_left_out():
    bins = reliability([0.0, 0.05, 1.0], [0, 1, 1], 10, "width", 0.95)
    assert [(part.cases, part.share.value) for part in bins] == [(2, 0.5), (1, 1.0)]


@pytest.mark.parametrize("truth", [0.5, 1.0, 3.0])
def test_the_temperature_that_sharpened_the_logits_is_found(truth: float):
    probability, positive = outcomes(4, 20_000)
    found = temperature(truth * np.log(probability / (1 - probability)), positive)
    assert found == pytest.approx(truth, rel=0.05)


def test_logits_that_are_right_in_every_case_or_wrong_on_the_whole_have_no_temperature():
    assert temperature([1.0, 2.0, -1.0], [1, 1, 0]) is None
    assert temperature([-1.0, -2.0, 1.0], [1, 1, 0]) is None
    assert temperature([0.0, 0.0], [1, 0]) is None


def test_logits_are_not_taken_for_probabilities():
    with pytest.raises(DataError, match="were these logits"):
        brier_score([-1.0, 2.0], [0, 1])
