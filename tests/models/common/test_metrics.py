"""The Wilson interval against values that others published."""

import pytest

from models.common.metrics import wilson_interval


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
