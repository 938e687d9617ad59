"""Intervals against values that others published."""

import math

import numpy as np
import pytest

from models.common.metrics import mean_interval, student_quantile, wilson_interval


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # Newcombe 1998 (Statistics in Medicine 17, 857-872), table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_agrees_with_newcombe(successes: int, trials: int, low: float, high: float):
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)


def test_its_ends_solve_the_score_equation():
    z = 1.959964
    for end in wilson_interval(37, 50, z):
        assert abs(37 / 50 - end) == pytest.approx(z * (end * (1 - end) / 50) ** 0.5)


def test_it_is_symmetric_and_within_0_and_1():
    low, high = wilson_interval(256, 256)
    assert high == 1.0
    assert (1 - high, 1 - low) == pytest.approx(wilson_interval(0, 256))


@pytest.mark.parametrize(
    ("degrees", "quantile"), [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (7, 2.365), (10, 2.228), (30, 2.042)]
)
def test_students_quantiles_are_those_of_the_tables(degrees: int, quantile: float) -> None:
    assert student_quantile(0.975, degrees) == pytest.approx(quantile, abs=6e-4)


def test_students_quantile_of_one_degree_is_cauchys() -> None:
    assert student_quantile(0.9, 1) == pytest.approx(math.tan(math.pi * 0.4))


def test_intervals_of_means_hold_in_ninety_five_of_a_hundred_draws() -> None:
    random = np.random.default_rng(0)
    intervals = [mean_interval(list(random.normal(3.0, 2.0, size=4)))[1:] for _ in range(2000)]
    held = sum(low < 3.0 < high for low, high in intervals)
    low, high = wilson_interval(held, 2000, z=4.0)
    assert low < 0.95 < high


def test_one_value_has_an_interval_without_width() -> None:
    assert mean_interval([2.0]) == (2.0, 2.0, 2.0)
