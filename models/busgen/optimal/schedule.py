"""Which noise levels a training draws, and what each weighs, from the optimal loss (Xu et al. 2025, arXiv 2506.13763).

A learner draws levels with `AdaptiveSchedule.levels_at`, weighs each image's loss of the clean image with `weight_of`,
and tells the losses with `update(world.sum(tally(...)))`. All losses here are sums over the pixels of an image.
"""

# B images   K bins of log s

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional as F

from models.busgen.optimal.curve import OptimalCurve
from models.busgen.optimal_config import ScheduleConfig
from models.common.errors import DataError

Array = NDArray[np.float64]


def level_weight(s: ArrayLike, curve: OptimalCurve, config: ScheduleConfig) -> Array:
    """What the loss of the clean image at level s weighs (Xu et al. 2025, section 5).

        w(s) = a min(1 / J*_s, w*) + f(s) [s < s*],    f(s) = Normal(log s; mu, varsigma^2)

    Unlike the paper, J* is in units of the total variance here, and so is the loss that the weight is for.
    """
    s = np.asarray(s, dtype=np.float64)
    relative = np.maximum(curve.at(s) / curve.total_variance, np.finfo(np.float64).tiny)
    inverse = config.scale * np.minimum(1.0 / relative, config.most_weight)
    standardised = (np.log(s) - config.bump_mean) / config.bump_width
    bump = np.exp(-np.square(standardised) / 2) / (config.bump_width * np.sqrt(2 * np.pi))
    return inverse + np.where(s < curve.critical, bump, 0.0)


def bin_edges(curve: OptimalCurve, config: ScheduleConfig) -> Array:
    """Edges of the bins in log s, [K + 1]: even, from the first level of the curve to its last."""
    return np.linspace(np.log(curve.levels_S[0]), np.log(curve.levels_S[-1]), config.bins + 1)


def level_density(curve: OptimalCurve, running_loss_K: ArrayLike, config: ScheduleConfig) -> Array:
    """The probability of each bin of log s, [K]; evenly spread within a bin (Xu et al. 2025, section 5).

        p(s) proportional to w(s) (J_s(theta) - J*_s)

    Both taken at the middle of a bin in log s. A gap that chance made negative counts as zero. Unlike the paper, a
    share of the draws is spread evenly, so that no bin falls below floor / K and its running loss stays known.
    """
    edges = bin_edges(curve, config)
    middles = np.exp((edges[1:] + edges[:-1]) / 2)
    gap = np.maximum(np.asarray(running_loss_K, dtype=np.float64) - curve.at(middles), 0.0)
    wanted = level_weight(middles, curve, config) * gap
    even = np.full(config.bins, 1.0 / config.bins)
    total = wanted.sum()
    return even if total <= 0.0 else (1.0 - config.floor) * wanted / total + config.floor * even


def untrained_loss(s: ArrayLike, curve: OptimalCurve) -> Array:
    """The loss of the best multiple of the noisy image, all that a network knows before it has learnt anything.

    D v s^2 / (v + s^2),   v = total variance / D; at least J*.
    """
    noise = np.square(np.asarray(s, dtype=np.float64))
    variance = curve.total_variance / curve.pixels
    return np.maximum(curve.pixels * variance * noise / (variance + noise), curve.at(s))


class AdaptiveSchedule:
    """Levels drawn where weight times gap is large, the gap from a running loss of each bin.

    The running loss is a mean over about the last `memory` losses of a bin; it begins with `untrained_loss`. The
    state is two tensors on the CPU, the same on every rank where `update` gets sums over all ranks.
    """

    def __init__(self, curve: OptimalCurve, config: ScheduleConfig) -> None:
        if curve.total_variance <= 0.0:
            raise DataError("the images of the optimal loss do not differ\nfits: a curve with a total variance above 0")
        self.curve, self.config = curve, config
        self.edges_K1 = torch.from_numpy(bin_edges(curve, config))
        middles = ((self.edges_K1[1:] + self.edges_K1[:-1]) / 2).exp().numpy()
        self.loss_K = torch.from_numpy(untrained_loss(middles, curve))
        self.density_K = self._density()

    def levels_at(self, uniform_B: Tensor) -> Tensor:
        """Levels s at these quantiles, 0 to 1, of the present density: float32, on the quantiles' device."""
        share_K1 = np.concatenate([[0.0], np.cumsum(self.density_K.numpy())])
        quantiles_B = uniform_B.detach().double().cpu().numpy() * share_K1[-1]
        log_s_B = np.interp(quantiles_B, share_K1, self.edges_K1.numpy())
        return torch.from_numpy(np.exp(log_s_B)).float().to(uniform_B.device)

    def weight_of(self, s_B: Tensor) -> Tensor:
        """w(s) for losses of the clean image in units of the total variance: float32, on the levels' device.

        For a loss that is a mean over pixels, multiply with D / total variance, `per_pixel`.
        """
        weights = level_weight(s_B.detach().double().cpu().numpy(), self.curve, self.config)
        return torch.from_numpy(weights).float().to(s_B.device)

    @property
    def per_pixel(self) -> float:
        """What turns a mean over pixels into a share of the total variance: D / total variance."""
        return self.curve.pixels / self.curve.total_variance

    def tally(self, s_B: Tensor, loss_B: Tensor) -> Tensor:
        """Sum and number of these losses (of the clean image, summed over pixels) by bin: [2, K], on their device.

        Levels beyond the ends count to the first and the last bin. Sum it over ranks before `update`.
        """
        inner = self.edges_K1[1:-1].to(s_B.device)
        bin_B = torch.searchsorted(inner, s_B.detach().double().log(), right=True)
        # A product, because adding by index has no fixed order on a GPU.
        member_BK = F.one_hot(bin_B, self.config.bins).double()
        return torch.stack([loss_B.detach().double(), torch.ones_like(loss_B, dtype=torch.float64)]) @ member_BK

    def update(self, tally_2K: Tensor) -> None:
        """Takes in the losses of a step and adapts the density.

        Of a bin with n new losses the running mean keeps (1 - 1 / memory)^n.
        """
        sum_K, count_K = tally_2K.double().cpu()
        kept_K = (1.0 - 1.0 / self.config.memory) ** count_K
        new_K = sum_K / count_K.clamp(min=1.0)
        self.loss_K = kept_K * self.loss_K + (1.0 - kept_K) * new_K
        self.density_K = self._density()

    def state_dict(self) -> dict[str, Tensor]:
        return {"loss": self.loss_K.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.loss_K = state["loss"].double().cpu().clone()
        self.density_K = self._density()

    def _density(self) -> Tensor:
        return torch.from_numpy(level_density(self.curve, self.loss_K.numpy(), self.config))
