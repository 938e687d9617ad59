"""Samplers on distributions whose denoiser and whose flow are known."""

import math
from typing import Literal

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torch import Tensor

from models.busgen.diffusion.samplers import level_grid, sample
from models.busgen.diffusion_config import SamplerConfig
from tests.models.busgen.diffusion.mixture import Mixture, end_of_flow, one_gaussian

Kind = Literal["euler", "heun", "dpm2m"]
KINDS: tuple[Kind, ...] = ("euler", "heun", "dpm2m")
STEPS = {"euler": 200, "heun": 24, "dpm2m": 30}
GRID = SamplerConfig(s_min=0.005, s_max=60.0)


def noise(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 1, 1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def worst_p(found_B2: Tensor, expected_B2: Tensor) -> float:
    """The least p of Kolmogorov-Smirnov tests over projections."""
    angles = np.linspace(0.0, math.pi, 5)[:-1]
    across = torch.tensor(np.array([np.cos(angles), np.sin(angles)]))
    pairs = zip((found_B2 @ across).T.numpy(), (expected_B2 @ across).T.numpy(), strict=True)
    return min(float(np.asarray(ks_2samp(*pair))[1]) for pair in pairs)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_are_like_draws_of_the_distribution(kind: str) -> None:
    config = GRID.but(kind=kind, steps=STEPS[kind])
    found_B2 = sample(Mixture().denoise, noise(3000, seed=2), config).reshape(-1, 2)
    assert worst_p(found_B2, Mixture().draw(3000, seed=102)) > 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_the_comparison_notices_too_few_steps(kind: str) -> None:
    found_B2 = sample(Mixture().denoise, noise(3000), GRID.but(kind=kind, steps=3)).reshape(-1, 2)
    assert worst_p(found_B2, Mixture().draw(3000, seed=1)) < 1e-6


def error_of(kind: Kind, steps: int) -> float:
    """Root mean square distance from the end of one Gaussian's flow, which is known."""
    gaussian, config = one_gaussian(0.5), SamplerConfig(kind=kind, steps=steps, s_min=1e-4, s_max=20.0)
    start = noise(200)
    return (
        float((sample(gaussian.denoise, start, config) - end_of_flow(gaussian, 20.0 * start, 20.0)).square().mean())
        ** 0.5
    )


@pytest.mark.parametrize(("kind", "order"), [("euler", 1.0), ("heun", 2.0), ("dpm2m", 2.0)])
def test_the_error_falls_with_the_order_of_the_method(kind: Kind, order: float) -> None:
    assert math.log2(error_of(kind, 100) / error_of(kind, 200)) == pytest.approx(order, abs=0.25)


def test_second_order_methods_are_nearer_than_euler_at_equal_steps() -> None:
    assert error_of("heun", 40) < 0.2 * error_of("euler", 40)
    assert error_of("dpm2m", 40) < 0.2 * error_of("euler", 40)


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_point_is_hit_in_any_number_of_steps(kind: str) -> None:
    found = sample(one_gaussian(0.0).denoise, noise(10), GRID.but(kind=kind, steps=2))
    torch.testing.assert_close(found, one_gaussian(0.0).means_K2[0].expand_as(found))


def test_levels_fall_from_the_first_to_the_last_and_end_in_zero() -> None:
    karras = level_grid(SamplerConfig(steps=5, s_min=0.1, s_max=10.0, rho=3.0)).tolist()
    ends = 10.0 ** (1 / 3), 0.1 ** (1 / 3)
    expected = [(ends[0] + i / 4 * (ends[1] - ends[0])) ** 3 for i in range(5)]
    assert karras == pytest.approx([*expected, 0.0])
    log = level_grid(SamplerConfig(steps=5, s_min=0.1, s_max=10.0, grid="log")).tolist()
    assert log == pytest.approx([*np.geomspace(10.0, 0.1, 5), 0.0])


def test_networks_may_compute_in_bfloat16_and_images_stay_float32() -> None:
    layer, seen = torch.nn.Linear(2, 2), set[torch.dtype]()

    def denoise(x_BCHW: Tensor, s_B: Tensor) -> Tensor:
        found = layer(x_BCHW)
        seen.add(found.dtype)
        return found

    for bf16, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        seen.clear()
        assert sample(denoise, noise(4).float(), GRID.but(steps=2, bf16=bf16)).dtype == torch.float32
        assert seen == {dtype}
