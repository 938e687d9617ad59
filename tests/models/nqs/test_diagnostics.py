"""Errors, autocorrelation times and R-hat against series whose truth is known in closed form."""

# S sweeps   W walkers

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from models.nqs import diagnostics

Array = NDArray[np.float64]


def ar1(seed: int, memory: float, sweeps: int, walkers: int, channels: int = 1) -> Array:
    """Stationary x' = memory x + noise with variance 1 and mean 0, [channels, sweeps, walkers]."""
    noise = np.random.default_rng(seed).standard_normal((channels, sweeps, walkers))
    series = np.empty_like(noise)
    series[:, 0] = noise[:, 0]
    for sweep in range(1, sweeps):
        series[:, sweep] = memory * series[:, sweep - 1] + math.sqrt(1 - memory**2) * noise[:, sweep]
    return series


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9])
def test_autocorrelation_time_is_that_of_an_exponential_memory(memory: float):
    tau = diagnostics.autocorrelation_time(ar1(0, memory, 4000, 16)[0])
    assert tau == pytest.approx((1 + memory) / (1 - memory), rel=0.06)


def test_autocorrelation_is_a_plain_loop():
    series_SW = ar1(1, 0.6, 13, 5)[0]
    deviation_SW = series_SW - series_SW.mean()
    expected = np.array([np.mean(deviation_SW[: 13 - lag] * deviation_SW[lag:]) for lag in range(13)])
    np.testing.assert_allclose(diagnostics.autocorrelation(series_SW), expected / expected[0], atol=1e-12)


def test_a_series_without_change_has_no_memory():
    assert diagnostics.autocorrelation_time(np.full((20, 3), 2.5)) == 1.0
    assert math.isnan(diagnostics.autocorrelation_time(np.zeros((1, 3))))


def test_r_hat_is_near_one_for_independent_numbers_and_far_for_separated_chains():
    series_SW = np.random.default_rng(2).standard_normal((1000, 8))
    assert diagnostics.r_hat(series_SW) == pytest.approx(1.0, abs=0.01)
    # Means 0 and 3 with variance 1: the pooled variance is 1 + 9/4 (and K / (K - 1) = 16/15 of its second part).
    assert diagnostics.r_hat(series_SW + 3.0 * (np.arange(8) % 2)) == pytest.approx(math.sqrt(1 + 2.4), rel=0.02)


def test_r_hat_sees_a_drift_that_all_chains_share():
    drift_S1 = np.linspace(0.0, 5.0, 1000)[:, None]
    # Within a half the variance is 1 + 2.5^2 / 12; the means of the halves are 2.5 apart.
    expected = math.sqrt(1 + 1.25**2 * 16 / 15 / (1 + 2.5**2 / 12))
    assert diagnostics.r_hat(np.random.default_rng(3).standard_normal((1000, 8)) + drift_S1) == pytest.approx(
        expected, rel=0.02
    )


def test_r_hat_of_too_little_or_of_standing_chains():
    assert math.isnan(diagnostics.r_hat(np.zeros((3, 4))))
    assert diagnostics.r_hat(np.ones((8, 4))) == 1.0
    assert diagnostics.r_hat(np.ones((8, 4)) * np.arange(4)) == math.inf


def test_groups_are_means_of_neighbouring_walkers():
    series_SW = np.arange(12.0).reshape(2, 6)
    np.testing.assert_array_equal(diagnostics.group_means(series_SW, 3), [[0.5, 2.5, 4.5], [6.5, 8.5, 10.5]])
    np.testing.assert_array_equal(diagnostics.group_means(series_SW, 8), series_SW)


@pytest.mark.parametrize("memory", [0.0, 0.8])
def test_blocking_finds_the_error_of_a_remembering_series(memory: float):
    """var(mean) = (1 + r) / (1 - r) / n for a long series of variance 1."""
    expected = math.sqrt((1 + memory) / (1 - memory) / 2**17)
    assert diagnostics.blocking_error(ar1(4, memory, 2**15, 4)[0]) == pytest.approx(expected, rel=0.12)


def test_blocking_without_memory_is_the_plain_error():
    errors = [diagnostics.blocking_error(np.random.default_rng(seed).standard_normal((512, 2))) for seed in range(50)]
    assert np.mean(errors) == pytest.approx(1 / 32, rel=0.1)
    with pytest.raises(ValueError, match="1 sample has no error"):
        diagnostics.blocking_error(np.zeros((1, 1)))


@pytest.mark.parametrize(
    ("sweeps", "walkers", "memory"), [(20, 64, 0.9), (1, 512, 0.0), (100, 32, 0.95), (2048, 1, 0.8), (512, 8, 0.9)]
)
def test_error_bars_of_a_ratio_cover(sweeps: int, walkers: int, memory: float):
    """200 repetitions: 1 error covers in 60-76 % (68 % within 2.5 of their deviations), 2 errors in 92 % or more.

    Log weights g / 2 and values x = h + g with AR(1) fields g and h of variance 1: E[w x] / E[w] = 1/2.
    """
    misses = np.empty(200)
    for repetition in range(200):
        g, h = ar1(1000 + repetition, memory, sweeps, walkers, channels=2)
        found = diagnostics.weighted_mean(h + g, 0.5 * g)
        misses[repetition] = abs(found.mean - 0.5) / found.error
    assert 0.60 <= (misses < 1).mean() <= 0.76
    assert (misses < 2).mean() >= 0.92


def test_an_estimate_knows_its_memory_and_its_samples():
    series_SW = ar1(6, 0.8, 500, 64)[0]
    found = diagnostics.weighted_mean(series_SW, np.zeros_like(series_SW))
    assert found.mean == pytest.approx(series_SW.mean())
    assert found.autocorrelation_time == pytest.approx(9.0, rel=0.2)
    assert found.effective_samples == pytest.approx(500 * 64 / 9, rel=0.2)
    assert found.r_hat == pytest.approx(1.0, abs=0.05)
    assert found.error == pytest.approx(math.sqrt(9 / (500 * 64)), rel=0.3)


def test_the_ratio_s_error_is_that_of_the_jackknife():
    """Walker by walker left out: the jackknife does not know the linearisation."""
    g, h = ar1(7, 0.5, 10, 200, channels=2)
    weights = np.exp(0.3 * g)
    left_out = [
        np.average(np.delete(h + g, walker, axis=1), weights=np.delete(weights, walker, axis=1))
        for walker in range(200)
    ]
    jackknife = math.sqrt(199 / 200 * np.sum((np.array(left_out) - np.mean(left_out)) ** 2))
    assert diagnostics.weighted_mean(h + g, 0.3 * g).error == pytest.approx(jackknife, rel=0.02)


def test_a_factor_common_to_all_weights_changes_nothing():
    g, h = ar1(8, 0.5, 20, 40, channels=2)
    near, far = diagnostics.weighted_mean(h, g), diagnostics.weighted_mean(h, g - 2000.0)
    assert far.mean == pytest.approx(near.mean)
    assert far.error == pytest.approx(near.error)


def test_a_sample_without_weight_counts_as_nothing_whatever_its_value():
    g, h = ar1(9, 0.0, 20, 40, channels=2)
    h[3, 5], g[3, 5] = math.nan, -math.inf
    assert diagnostics.weighted_mean(h, g).mean == pytest.approx(
        np.nansum(np.exp(g) * np.nan_to_num(h)) / np.exp(g).sum()
    )
    h[4, 6] = math.inf
    with pytest.raises(ValueError, match="value inf at sweep 4, walker 6"):
        diagnostics.weighted_mean(h, g)


def test_weights_turn_one_density_into_the_other():
    log_abs = np.random.default_rng(10).standard_normal(50)
    for alpha in (0.5, 1.0, 2.0):
        density = np.exp(alpha * log_abs)
        weighted = density * diagnostics.normalised_weights(diagnostics.reweighting(log_abs, alpha))
        np.testing.assert_allclose(weighted / weighted.sum(), np.exp(2 * log_abs) / np.exp(2 * log_abs).sum())


@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_a_walker_at_zero_weighs_nothing(alpha: float):
    weights = diagnostics.normalised_weights(diagnostics.reweighting(np.array([0.0, -math.inf, 0.0]), alpha))
    np.testing.assert_array_equal(weights, [0.5, 0.0, 0.5])
    with pytest.raises(ValueError, match="psi = 0 at every walker"):
        diagnostics.normalised_weights(np.full(3, -math.inf))


def test_effective_samples_are_those_that_weigh():
    assert diagnostics.effective_sample_size(np.zeros(40)) == pytest.approx(40)
    assert diagnostics.effective_sample_size(np.log([1.0, 1.0, 1e-300, 1e-300])) == pytest.approx(2)
    assert diagnostics.effective_sample_size(np.log([1.0, 2.0, 3.0])) == pytest.approx(36 / 14)


def test_the_unique_share_counts_configurations():
    rows = np.array([[1, 0, 1], [1, 0, 1], [0, 1, 1], [1, 1, 1]], dtype=bool)
    assert diagnostics.unique_share(rows) == 0.75
