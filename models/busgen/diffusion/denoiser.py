"""The denoiser: a network in its preconditioning, and the same under guidance."""

# B images   C channels   H height   W width

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from models.busgen.diffusion.noise import noise_of
from models.busgen.diffusion.preconditioning import Preconditioning
from models.busgen.diffusion.samplers import Denoise, sample
from models.busgen.diffusion_config import GeneratorConfig, SamplerConfig
from models.busgen.networks.conditions import Conditions


class Denoiser(nn.Module):
    """The network's estimate of the image in x = x0 + s eps."""

    def __init__(self, network: nn.Module, preconditioning: Preconditioning) -> None:
        super().__init__()
        self.network = network
        self.preconditioning = preconditioning

    def forward(self, x_BCHW: Tensor, s_B: Tensor, conditions: Conditions) -> Tensor:
        """x0_hat = c_skip x + c_out F(c_in x, c_noise); in float32 whatever the network computes in."""
        of = self.preconditioning
        c_in_B111, c_skip_B111, c_out_B111 = (c(s_B)[:, None, None, None] for c in (of.c_in, of.c_skip, of.c_out))
        precision = next(self.network.parameters()).dtype
        output_BCHW = self.network((c_in_B111 * x_BCHW).to(precision), of.c_noise(s_B), conditions)
        return c_skip_B111 * x_BCHW + c_out_B111 * output_BCHW.float()


def make_denoiser(config: GeneratorConfig) -> Denoiser:
    """A fresh one; what is random in it comes from torch's own generator, which the frame seeds."""
    from models.busgen.networks.network import make_network

    network = make_network(config.network, config.conditions, config.side, config.channels)
    return Denoiser(network, Preconditioning.of(config.diffusion))


def guided(
    denoiser: Denoiser, conditions: Conditions, scale: float, levels: tuple[float, float] = (0.0, math.inf)
) -> Denoise:
    """The denoiser under classifier-free guidance (Ho and Salimans 2022, eq. 6, with scale = w + 1).

        D = D_open + scale (D_conditional - D_open)

    Both come of one forward pass. Scale 0 is the unconditional and 1 the conditional one, exactly, and asks for that
    one alone; so does a level outside `levels` for the conditional one (Kynkäänniemi et al. 2024).
    """
    lowest, highest = levels
    opened = conditions.opened()
    both = _together(conditions, opened)

    def denoise(x_BCHW: Tensor, s_B: Tensor) -> Tensor:
        if scale == 0.0:
            return denoiser(x_BCHW, s_B, opened)
        if scale == 1.0 or not lowest <= float(s_B[0]) <= highest:
            return denoiser(x_BCHW, s_B, conditions)
        told_BCHW, open_BCHW = denoiser(x_BCHW.repeat(2, 1, 1, 1), s_B.repeat(2), both).chunk(2)
        return open_BCHW + scale * (told_BCHW - open_BCHW)

    return denoise


def sample_images(
    denoiser: Denoiser,
    conditions: Conditions,
    numbers: Sequence[int] | np.ndarray,
    config: SamplerConfig,
    *,
    shape: tuple[int, int, int],
    seed: tuple[int, ...],
) -> Tensor:
    """The images of these numbers under these conditions, [B, *shape]; an image is the same in any split of numbers."""
    device = next(denoiser.parameters()).device
    noise_BCHW = noise_of(numbers, shape, seed, device)
    levels = config.guidance_from, config.guidance_to
    return sample(guided(denoiser.eval(), conditions.to(device), config.guidance, levels), noise_BCHW, config)


def _together(first: Conditions, second: Conditions) -> Conditions:
    return Conditions(
        torch.cat([first.labels_B, second.labels_B]),
        torch.cat([first.devices_B, second.devices_B]),
        torch.cat([first.descriptors_BA, second.descriptors_BA]),
        torch.cat([first.mask_B1HW, second.mask_B1HW]),
        torch.cat([first.mask_given_B, second.mask_given_B]),
    )
