"""The curve between its levels, the critical level, mixtures, and losses of other targets."""

import math

import numpy as np
import pytest

from models.busgen.optimal.curve import OptimalCurve, critical_level, mixed
from models.busgen.optimal.losses import as_target
from models.common.errors import DataError


def risen(levels: np.ndarray, distance: float = 2.0, variance: float = 10.0) -> np.ndarray:
    """A curve that comes out of zero as that of points at a distance does."""
    return variance * np.exp(-np.square(distance / levels) / 8)


def a_curve(levels: np.ndarray) -> OptimalCurve:
    return OptimalCurve(levels, risen(levels), np.full(len(levels), 0.01), 10.0, 50, 0.2)


def test_between_levels_the_curve_is_near_what_it_was_made_of():
    curve = a_curve(np.geomspace(0.2, 20, 24))
    between = np.sqrt(curve.levels_S[1:] * curve.levels_S[:-1])
    assert curve.at(curve.levels_S) == pytest.approx(curve.j_star_S, rel=1e-6)
    assert curve.at(between) == pytest.approx(risen(between), rel=1e-6)
    assert (np.diff(curve.at(np.geomspace(0.01, 100, 500))) >= 0).all()


def test_beyond_its_levels_the_curve_stays_below_the_noise_and_the_variance():
    levels = np.geomspace(0.5, 4, 6)
    curve = OptimalCurve(levels, np.full(6, 3.0), np.zeros(6), 3.0, 4, 0.5)
    assert curve.at(0.1) == pytest.approx(4 * 0.01)
    assert curve.at(100.0) == pytest.approx(3.0)


def test_the_critical_level_is_where_the_share_is_crossed():
    levels = np.geomspace(0.1, 20, 10)
    share = 1e-3
    crossing = 2.0 / math.sqrt(8 * math.log(1 / share))
    assert critical_level(levels, risen(levels), 10.0, share) == pytest.approx(crossing, rel=1e-3)


def test_the_critical_level_of_a_curve_that_does_not_cross_is_an_end():
    levels = np.array([1.0, 2.0, 4.0])
    assert critical_level(levels, np.zeros(3), 1.0, 0.1) == 4.0
    assert critical_level(levels, np.ones(3), 1.0, 0.1) == 1.0


def test_a_jump_out_of_zero_is_crossed_between_its_levels():
    found = critical_level(np.array([1.0, 2.0, 4.0]), np.array([0.0, 0.5, 0.9]), 1.0, 1e-3)
    assert 1.0 < found < 2.0


def test_a_condition_left_out_mixes_the_two_losses():
    assert mixed([1.0, 2.0], [3.0, 6.0], 0.25) == pytest.approx([1.5, 3.0])


@pytest.mark.parametrize(
    ("target", "factor"),
    [
        ("x0", lambda s: 1.0),
        ("eps", lambda s: 1 / s**2),
        ("v", lambda s: 1 / (s**2 / (1 + s**2))),  # 1 / sigma^2, with sigma = s / sqrt(1 + s^2)
        ("flow", lambda s: 1 / (s / (1 + s)) ** 2),  # 1 / t^2, with t = s / (1 + s)
        ("edm", lambda s: (s**2 + 0.6**2) / (s * 0.6) ** 2),
    ],
)
def test_losses_of_other_targets_are_the_tables_multiples(target, factor):
    levels = np.array([0.1, 1.0, 7.0])
    assert as_target([2.0, 3.0, 4.0], levels, target, 0.6) == pytest.approx(
        [loss * factor(s) for loss, s in zip([2.0, 3.0, 4.0], levels, strict=True)]
    )


def test_a_folder_without_the_loss_is_told(tmp_path):
    with pytest.raises(DataError, match=r"has no optimal_loss.json"):
        OptimalCurve.read(tmp_path)
