"""From noise to images: the probability flow in VE coordinates, dx/ds = (x - D(x, s)) / s, down to s = 0.

D(x, s) is the denoiser's estimate of the image, and a path is only another name for the same flow (Karras et al. 2022,
section 3).
"""

# B images   C channels   H height   W width   L levels

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from models.busgen.diffusion_config import SamplerConfig

Denoise = Callable[[Tensor, Tensor], Tensor]  # of x_BCHW and s_B, to x0_hat_BCHW


def level_grid(config: SamplerConfig) -> Tensor:
    """The levels of all steps, falling from s_max to s_min, and 0 at the end, [L + 1], float64.

    karras: equal steps of s^(1/rho) (Karras et al. 2022, eq. 5). log: equal steps of log s.
    """
    if config.grid == "log":
        first, last = math.log(config.s_max), math.log(config.s_min)
        levels_L = torch.linspace(first, last, config.steps, dtype=torch.float64).exp()
    else:
        first, last = config.s_max ** (1.0 / config.rho), config.s_min ** (1.0 / config.rho)
        levels_L = torch.linspace(first, last, config.steps, dtype=torch.float64).pow(config.rho)
    return torch.cat([levels_L, levels_L.new_zeros(1)])


@torch.no_grad()
def sample(denoise: Denoise, noise_BCHW: Tensor, config: SamplerConfig) -> Tensor:
    """The images that this noise becomes, in its precision; each depends on its own noise alone.

    noise_BCHW: standard normal.
    """
    levels = level_grid(config).tolist()
    run = {"euler": _euler, "heun": _heun, "dpm2m": _dpm_solver_2m}[config.kind]
    with torch.autocast(noise_BCHW.device.type, dtype=torch.bfloat16, enabled=config.bf16):
        return run(_at(denoise), noise_BCHW * levels[0], levels)


def _at(denoise: Denoise) -> Callable[[Tensor, float], Tensor]:
    """The denoiser of images that are all at one level."""
    return lambda x_BCHW, s: denoise(x_BCHW, x_BCHW.new_full((len(x_BCHW),), s)).to(x_BCHW.dtype)


def _euler(denoise: Callable[[Tensor, float], Tensor], x_BCHW: Tensor, levels: list[float]) -> Tensor:
    """Steps along the tangent; equal to DDIM (Song et al. 2021)."""
    for s, below in itertools.pairwise(levels):
        x_BCHW = _towards(x_BCHW, denoise(x_BCHW, s), below / s)
    return x_BCHW


def _heun(denoise: Callable[[Tensor, float], Tensor], x_BCHW: Tensor, levels: list[float]) -> Tensor:
    """Steps along the mean of the tangents at both ends (Karras et al. 2022, algorithm 1); the last one is Euler's."""
    for s, below in itertools.pairwise(levels):
        slope_BCHW = (x_BCHW - denoise(x_BCHW, s)) / s
        ahead_BCHW = x_BCHW + (below - s) * slope_BCHW
        if below:
            slope_BCHW = 0.5 * (slope_BCHW + (ahead_BCHW - denoise(ahead_BCHW, below)) / below)
            ahead_BCHW = x_BCHW + (below - s) * slope_BCHW
        x_BCHW = ahead_BCHW
    return x_BCHW


def _dpm_solver_2m(denoise: Callable[[Tensor, float], Tensor], x_BCHW: Tensor, levels: list[float]) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022b, algorithm 2) with alpha = 1 and lambda = -log s; first and last step: order 1.

    x <- (s'/s) x - (e^-h - 1) ((1 + 1/2r) D - (1/2r) D_before),   h = log(s/s'),  r = h_before / h
    """
    before: tuple[float, Tensor] | None = None
    for s, below in itertools.pairwise(levels):
        estimate_BCHW = denoised_BCHW = denoise(x_BCHW, s)
        if before is not None and below:
            s_before, denoised_before_BCHW = before
            ratio = _log_ratio(s, below) / (2.0 * _log_ratio(s_before, s))  # 1 / 2r
            estimate_BCHW = torch.lerp(denoised_before_BCHW, denoised_BCHW, 1.0 + ratio)
        x_BCHW = _towards(x_BCHW, estimate_BCHW, below / s)
        before = s, denoised_BCHW
    return x_BCHW


def _towards(x_BCHW: Tensor, estimate_BCHW: Tensor, kept: float) -> Tensor:
    """x with this share of its distance to the estimate kept: the flow's exact step where the estimate is constant."""
    return estimate_BCHW + kept * (x_BCHW - estimate_BCHW)


def _log_ratio(above: float, below: float) -> float:
    return math.log(above / below)
