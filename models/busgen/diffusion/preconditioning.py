"""What the network predicts, and how an estimate of the image comes of it; how losses of different targets compare."""

# B images

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from models.busgen.diffusion.paths import alpha_at
from models.busgen.diffusion_config import DiffusionConfig, PathName, TargetName


@dataclass(frozen=True)
class Preconditioning:
    """x0_hat = c_skip(s) x + c_out(s) F(c_in(s) x, c_noise(s)), x = x0 + s eps (Karras et al. 2022, eq. 7).

    path: in whose scale F sees the image, x_t = alpha x. Unlike table 1's VE, F's input has about unit variance there.
    """

    target: TargetName
    path: PathName
    sigma_data: float

    @classmethod
    def of(cls, config: DiffusionConfig) -> Preconditioning:
        return cls(config.target, config.path, config.sigma_data)

    def c_in(self, s_B: Tensor) -> Tensor:
        if self.path == "ve":
            return torch.rsqrt(s_B.square() + self.sigma_data**2)
        return alpha_at(self.path, s_B)

    def c_skip(self, s_B: Tensor) -> Tensor:
        if self.target == "edm":
            return self.sigma_data**2 / (s_B.square() + self.sigma_data**2)
        if self.target == "v":  # v = alpha eps - sigma x0 with alpha^2 + sigma^2 = 1 (Salimans and Ho 2022)
            return 1.0 / (1.0 + s_B.square())
        if self.target == "flow":  # v = eps - x0 at t = s / (1 + s)
            return 1.0 / (1.0 + s_B)
        return torch.zeros_like(s_B) if self.target == "x0" else torch.ones_like(s_B)

    def c_out(self, s_B: Tensor) -> Tensor:
        if self.target == "edm":
            return s_B * self.sigma_data * torch.rsqrt(s_B.square() + self.sigma_data**2)
        if self.target == "v":
            return -s_B * torch.rsqrt(1.0 + s_B.square())
        if self.target == "flow":
            return -s_B / (1.0 + s_B)
        return torch.ones_like(s_B) if self.target == "x0" else -s_B

    def c_noise(self, s_B: Tensor) -> Tensor:
        """log(s) / 4 for every target and path: times are only other names of s."""
        return torch.log(s_B) / 4.0


def loss_factor(target: TargetName | Literal["score"], alpha_B: Tensor, sigma_B: Tensor, sigma_data: float) -> Tensor:
    """A target's squared error as a multiple of the image's, |x0_hat - x0|^2, at x_t = alpha x0 + sigma eps.

    "v" and "flow" are those of their own paths at the same s = sigma / alpha.
    """
    if target == "x0":
        return torch.ones_like(alpha_B)
    if target == "eps":
        return (alpha_B / sigma_B).square()
    if target == "score":
        return alpha_B.square() / sigma_B.pow(4)
    if target == "v":
        return (alpha_B.square() + sigma_B.square()) / sigma_B.square()
    if target == "flow":
        return ((alpha_B + sigma_B) / sigma_B).square()
    s_B = sigma_B / alpha_B
    return (s_B.square() + sigma_data**2) / (s_B * sigma_data).square()


def velocity_factor(alpha_B: Tensor, alpha_dot_B: Tensor, sigma_B: Tensor, sigma_dot_B: Tensor) -> Tensor:
    """The same of any path's velocity, v = alpha' x0 + sigma' eps, as d x_t / dt is."""
    return (alpha_dot_B - alpha_B * sigma_dot_B / sigma_B).square()
