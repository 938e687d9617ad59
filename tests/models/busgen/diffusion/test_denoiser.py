"""The denoiser's estimate, guidance, and images that belong to their numbers."""

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch import Tensor, nn

from models.busgen.diffusion.denoiser import Denoiser, guided, sample_images
from models.busgen.diffusion.noise import noise_of
from models.busgen.diffusion.preconditioning import Preconditioning
from models.busgen.diffusion_config import SamplerConfig
from models.busgen.networks.conditions import Conditions
from tests.models.busgen.diffusion.standin import StandIn, some_conditions

CPU = torch.device("cpu")
SAMPLER = SamplerConfig(steps=4, guidance=2.0)


def made() -> Denoiser:
    torch.manual_seed(0)
    return Denoiser(StandIn(), Preconditioning("edm", "ve", 0.5))


def noisy(count: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    return torch.randn(count, 1, 4, 4, generator=random), torch.rand(count, generator=random) + 0.5


def test_the_estimate_is_what_edm_writes() -> None:
    denoiser, conditions = made(), some_conditions(3)
    x, s = noisy(3)
    for b in range(3):
        level = float(s[b])
        c_in = 1 / (level**2 + 0.25) ** 0.5
        c_skip, c_out = 0.25 / (level**2 + 0.25), level * 0.5 * c_in
        c_noise = torch.tensor([np.log(level) / 4], dtype=torch.float32)
        network = denoiser.network(c_in * x[b : b + 1], c_noise, conditions.take([b]))
        torch.testing.assert_close(denoiser(x, s, conditions)[b : b + 1], c_skip * x[b : b + 1] + c_out * network)


def test_guidance_of_0_is_unconditional_and_of_1_conditional_exactly() -> None:
    denoiser, conditions = made(), some_conditions(3)
    x, s = noisy(3)
    assert torch.equal(guided(denoiser, conditions, 0.0)(x, s), denoiser(x, s, conditions.opened()))
    assert torch.equal(guided(denoiser, conditions, 1.0)(x, s), denoiser(x, s, conditions))


def test_guidance_goes_from_the_unconditional_through_the_conditional_and_on() -> None:
    denoiser, conditions = made(), some_conditions(3)
    x, s = noisy(3)
    opened, told = denoiser(x, s, conditions.opened()), denoiser(x, s, conditions)
    torch.testing.assert_close(guided(denoiser, conditions, 2.8)(x, s), opened + 2.8 * (told - opened))
    outside = guided(denoiser, conditions, 2.8, levels=(10.0, 20.0))
    assert torch.equal(outside(x, s), told)


class Counting(nn.Module):
    """Counts forward passes."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = StandIn()
        self.passes = 0

    def forward(self, x_BCHW: Tensor, level_B: Tensor, conditions: Conditions) -> Tensor:
        self.passes += 1
        return self.inner(x_BCHW, level_B, conditions)


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.0])
def test_a_guided_step_is_one_forward_pass(scale: float) -> None:
    network = Counting()
    guided(Denoiser(network, Preconditioning("edm", "ve", 0.5)), some_conditions(2), scale)(*noisy(2))
    assert network.passes == 1


class HalfPrecision(nn.Module):
    """A convolution in bfloat16, as a network is under DeepSpeed's bf16."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 1, 3, padding=1, dtype=torch.bfloat16)

    def forward(self, x_BCHW: Tensor, level_B: Tensor, conditions: Conditions) -> Tensor:
        assert level_B.dtype == torch.float32
        return self.convolution(x_BCHW)


def test_a_network_in_half_precision_leaves_the_rest_in_float32() -> None:
    torch.manual_seed(0)
    denoiser = Denoiser(HalfPrecision(), Preconditioning("edm", "ve", 0.5))
    x, _ = noisy(2)
    low_s = torch.full((2,), 1e-6)  # where the estimate is the image itself, to more digits than bfloat16 has
    found = denoiser(x, low_s, some_conditions(2))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, x, atol=1e-5, rtol=1e-5)


def test_an_image_is_the_same_in_any_split_of_numbers() -> None:
    denoiser, conditions = made(), some_conditions(6)

    def images(numbers: list[int]) -> Tensor:
        return sample_images(denoiser, conditions.take(numbers), numbers, SAMPLER, shape=(1, 4, 4), seed=(3, 1))

    together = images([0, 1, 2, 3, 4, 5])
    parted = torch.cat([images([0, 1]), images([2, 3, 4, 5])])
    torch.testing.assert_close(together, parted)
    assert not torch.allclose(together[0], together[1])


def test_noise_belongs_to_its_number_and_is_normal() -> None:
    whole = noise_of(range(40), (1, 8, 8), (5, 1), CPU)
    assert torch.equal(noise_of([7, 3], (1, 8, 8), (5, 1), CPU), whole[[7, 3]])
    assert not torch.equal(noise_of([7], (1, 8, 8), (5, 2), CPU)[0], whole[7])
    assert kstest(whole.flatten().numpy(), "norm").pvalue > 0.01
    correlation = np.corrcoef(whole.flatten(1).numpy())[np.triu_indices(40, 1)]
    assert abs(correlation.mean()) < 0.02
