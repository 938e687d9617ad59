"""The laws of the noise levels, against scipy's."""

import numpy as np
import pytest
from scipy.stats import kstest, lognorm, norm

from models.busgen.diffusion.levels import draw_levels, stratified_uniforms
from models.busgen.diffusion_config import FlowLevels, LognormalLevels, VpLevels

EVEN = (np.arange(5000) + 0.5) / 5000


def test_edms_levels_are_lognormal() -> None:
    expected = lognorm.ppf(EVEN, s=1.2, scale=np.exp(-1.2))
    np.testing.assert_allclose(draw_levels(LognormalLevels(), EVEN), expected, rtol=1e-6)


def test_each_step_of_the_chain_comes_equally_often() -> None:
    found, counts = np.unique(draw_levels(VpLevels(), EVEN), return_counts=True)
    kept = np.cumprod(1.0 - np.linspace(1e-4, 0.028, 500))
    np.testing.assert_allclose(found, np.sqrt((1 - kept) / kept), rtol=1e-9)
    assert set(counts) == {10}


def test_times_of_flow_matching_are_uniform_or_have_a_normal_logit() -> None:
    s = draw_levels(FlowLevels(), EVEN)
    np.testing.assert_allclose(s / (1.0 + s), EVEN, rtol=1e-9)
    s = draw_levels(FlowLevels(draw="logit_normal", mean=0.3, std=0.8), EVEN)
    np.testing.assert_allclose(np.log(s), norm.ppf(EVEN, 0.3, 0.8), atol=1e-9)  # logit(t) = log s


@pytest.mark.parametrize("levels", [LognormalLevels(), VpLevels(), FlowLevels()])
def test_levels_are_finite_and_above_zero_at_the_ends(levels: LognormalLevels | VpLevels | FlowLevels) -> None:
    s = draw_levels(levels, np.array([0.0, 1.0 - 1e-16]))
    assert np.isfinite(s).all()
    assert (s > 0.0).all()


def test_a_batchs_quantiles_cover_all_parts_and_each_is_uniform() -> None:
    batches = np.array([stratified_uniforms(8, np.random.default_rng(seed)) for seed in range(500)])
    assert (np.sort(np.floor(batches * 8), axis=1) == np.arange(8)).all()
    assert kstest(batches[:, 0], "uniform").pvalue > 0.01
