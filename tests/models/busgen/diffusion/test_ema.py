"""The running mean of the weights, against its definition as a weighted sum."""

import numpy as np
import pytest
import torch

from models.busgen.diffusion.ema import WeightAverage, kept_share, power_exponent
from models.busgen.diffusion_config import EmaConfig

POWER = EmaConfig(profile="power", relative_std=0.1)
HALF_LIFE = EmaConfig(profile="half_life", half_life_images=320, ramp_up=None)


def averaged(config: EmaConfig, values: np.ndarray, every: int = 1) -> float:
    average = WeightAverage(config.but(every_steps=every), {"w": torch.tensor([123.0])}, batch_size=32)
    for step, value in enumerate(values, start=1):
        if average.is_due(step, len(values)):
            average.take({"w": torch.tensor([value], dtype=torch.float32)}, step)
    return float(average.mean["w"])


@pytest.mark.parametrize("relative_std", [0.05, 0.1, 0.2])
def test_a_power_profile_is_as_wide_as_asked_for(relative_std: float) -> None:
    gamma = power_exponent(relative_std)
    t = (np.arange(100_000) + 0.5) / 100_000
    weight = t**gamma / (t**gamma).sum()
    mean = (weight * t).sum()
    assert ((weight * (t - mean) ** 2).sum()) ** 0.5 == pytest.approx(relative_std, rel=1e-3)


@pytest.mark.parametrize("every", [1, 4])
def test_a_power_profile_weighs_weights_by_a_power_of_their_step(every: int) -> None:
    values = np.random.default_rng(0).standard_normal(22)
    power = power_exponent(0.1) + 1.0
    taken = [step for step in range(1, 23) if step % every == 0 or step == 22]
    shares = np.diff([0.0, *(step**power for step in taken)]) / 22.0**power
    assert averaged(POWER, values, every) == pytest.approx(shares @ values[np.array(taken) - 1], rel=1e-5)


def test_the_first_weights_are_forgotten_however_short_the_training() -> None:
    assert averaged(POWER, np.full(3, 2.0)) == pytest.approx(2.0)


def test_half_of_the_old_weights_is_left_after_a_half_life() -> None:
    assert averaged(HALF_LIFE, np.zeros(10)) == pytest.approx(123.0 / 2, rel=1e-5)  # 10 x 32 images
    assert averaged(HALF_LIFE, np.zeros(10), every=5) == pytest.approx(123.0 / 2, rel=1e-5)


def test_the_half_life_ramps_up_with_the_images_seen() -> None:
    config = HALF_LIFE.but(half_life_images=10**9, ramp_up=0.05)
    assert kept_share(config, step=1000, steps=50, batch_size=32) == pytest.approx(0.5)
    assert abs(averaged(config, np.full(300, 2.0)) - 2.0) < 1e-3


def test_a_mean_goes_on_from_its_state() -> None:
    values = [torch.randn(3, generator=torch.Generator().manual_seed(step)) for step in range(6)]
    one, two = (WeightAverage(POWER, {"w": torch.zeros(3)}, 8) for _ in range(2))
    for step, value in enumerate(values[:3], start=1):
        one.take({"w": value}, step)
    two.load_state_dict(one.state_dict())
    for step, value in enumerate(values[3:], start=4):
        one.take({"w": value}, step)
        two.take({"w": value}, step)
    assert torch.equal(one.mean["w"], two.mean["w"])
