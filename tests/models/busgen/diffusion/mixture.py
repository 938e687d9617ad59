"""A mixture of Gaussians in the plane, whose every estimate and every draw is known in closed form."""

# B points   K parts   2 coordinates

import math
from dataclasses import dataclass

import torch
from torch import Tensor

MEANS_K2 = torch.tensor([[1.0, 0.5], [-1.0, 0.8], [0.2, -1.2]], dtype=torch.float64)
SHARES_K = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
STDS_K = torch.tensor([0.1, 0.3, 0.2], dtype=torch.float64)


@dataclass(frozen=True)
class Mixture:
    """Points are images of one row and two columns."""

    means_K2: Tensor = MEANS_K2
    shares_K: Tensor = SHARES_K
    stds_K: Tensor = STDS_K

    def draw(self, count: int, seed: int) -> Tensor:
        random = torch.Generator().manual_seed(seed)
        part_B = torch.multinomial(self.shares_K, count, replacement=True, generator=random)
        noise_B2 = torch.randn(count, 2, dtype=torch.float64, generator=random)
        return self.means_K2[part_B] + self.stds_K[part_B, None] * noise_B2

    def denoise(self, x_BCHW: Tensor, s_B: Tensor) -> Tensor:
        """E[x0 | x]: Bayes' rule over the parts, and within a part the mean of a product of Gaussians."""
        x_B12 = x_BCHW.reshape(-1, 1, 2).double()
        s_B1 = s_B.double()[:, None]
        variance_BK = self.stds_K.square() + s_B1.square()
        distance_BK = (x_B12 - self.means_K2).square().sum(dim=-1)
        log_BK = self.shares_K.log() - variance_BK.log() - distance_BK / (2 * variance_BK)
        kept_BK = self.stds_K.square() / variance_BK
        mean_BK2 = self.means_K2 + kept_BK[..., None] * (x_B12 - self.means_K2)
        estimate_B2 = (log_BK.softmax(dim=1)[..., None] * mean_BK2).sum(dim=1)
        return estimate_B2.reshape(x_BCHW.shape).to(x_BCHW.dtype)


def one_gaussian(std: float) -> Mixture:
    return Mixture(MEANS_K2[:1], torch.ones(1, dtype=torch.float64), torch.full((1,), std, dtype=torch.float64))


def end_of_flow(mixture: Mixture, start_BCHW: Tensor, s: float) -> Tensor:
    """Where one Gaussian's flow takes points of level s at level 0: x - m shrinks as the marginal's deviation does."""
    std, mean_2 = float(mixture.stds_K[0]), mixture.means_K2[0]
    return mean_2 + (start_BCHW - mean_2) * std / math.hypot(std, s)
