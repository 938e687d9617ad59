"""Paths from an image to noise: x_t = alpha(t) x0 + sigma(t) eps. Every one of them is x = x0 + s eps, s = sigma/alpha.

All else works in these VE coordinates, so that what is said of one path holds for all (Karras et al. 2022, section 2).
"""

# B images   T steps of a chain

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from models.busgen.diffusion_config import PathName


class NoisePath(Protocol):
    """A path; times run from 0, no noise, to its end."""

    def alpha(self, t_B: Tensor) -> Tensor: ...

    def sigma(self, t_B: Tensor) -> Tensor: ...

    def time(self, s_B: Tensor) -> Tensor:
        """The time at which sigma / alpha is s."""
        ...


@dataclass(frozen=True)
class VariancePreserving:
    """alpha^2 + sigma^2 = 1, t from 0 to 1 (Song et al. 2021, eq. 33).

    alpha(t) = exp(-(beta_min t + (beta_max - beta_min) t^2 / 2) / 2)
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def alpha(self, t_B: Tensor) -> Tensor:
        return torch.exp(-0.5 * self._integral(t_B))

    def sigma(self, t_B: Tensor) -> Tensor:
        return torch.sqrt(-torch.expm1(-self._integral(t_B)))

    def time(self, s_B: Tensor) -> Tensor:
        target_B = torch.log1p(s_B.square())  # the integral of beta up to t, as alpha^2 = 1 / (1 + s^2)
        slope = self.beta_max - self.beta_min
        return 2.0 * target_B / (self.beta_min + torch.sqrt(self.beta_min**2 + 2.0 * slope * target_B))

    def _integral(self, t_B: Tensor) -> Tensor:
        return self.beta_min * t_B + 0.5 * (self.beta_max - self.beta_min) * t_B.square()


@dataclass(frozen=True)
class VariancePreservingChain:
    """The chain of DDPM with betas in a line, t = 1, ..., T (Ho et al. 2020, eq. 4).

    alpha_t^2 = prod_{i <= t} (1 - beta_i)
    """

    steps: int
    beta_first: float
    beta_last: float

    @cached_property
    def alphas_T(self) -> Tensor:
        """In float64, of t = 1 to T."""
        betas_T = torch.linspace(self.beta_first, self.beta_last, self.steps, dtype=torch.float64)
        return torch.cumsum(torch.log1p(-betas_T), dim=0).mul(0.5).exp()

    @cached_property
    def levels_T(self) -> Tensor:
        """s of t = 1 to T, in float64."""
        return torch.sqrt(1.0 / self.alphas_T.square() - 1.0)

    def alpha(self, t_B: Tensor) -> Tensor:
        return self.alphas_T[t_B.long() - 1]

    def sigma(self, t_B: Tensor) -> Tensor:
        return torch.sqrt(1.0 - self.alpha(t_B).square())

    def time(self, s_B: Tensor) -> Tensor:
        """The first step whose level is at least s, give or take rounding; the last one where there is none."""
        place_B = torch.searchsorted(self.levels_T, s_B.double() * (1.0 - 1e-6))
        return place_B.clamp(max=self.steps - 1) + 1


@dataclass(frozen=True)
class VarianceExploding:
    """alpha = 1 and sigma = t (Karras et al. 2022, section 4)."""

    def alpha(self, t_B: Tensor) -> Tensor:
        return torch.ones_like(t_B)

    def sigma(self, t_B: Tensor) -> Tensor:
        return t_B

    def time(self, s_B: Tensor) -> Tensor:
        return s_B


@dataclass(frozen=True)
class FlowMatching:
    """alpha = 1 - t and sigma = t, t from 0 to 1 (Lipman et al. 2023; rectified flow)."""

    def alpha(self, t_B: Tensor) -> Tensor:
        return 1.0 - t_B

    def sigma(self, t_B: Tensor) -> Tensor:
        return t_B

    def time(self, s_B: Tensor) -> Tensor:
        return s_B / (1.0 + s_B)


def level(path: NoisePath, t_B: Tensor) -> Tensor:
    """s = sigma / alpha at time t."""
    return path.sigma(t_B) / path.alpha(t_B)


def alpha_at(path: PathName, s_B: Tensor) -> Tensor:
    """alpha at level s, which is the same for all paths of a kind; sigma = s alpha."""
    if path == "vp":
        return torch.rsqrt(1.0 + s_B.square())
    return 1.0 / (1.0 + s_B) if path == "flow" else torch.ones_like(s_B)
