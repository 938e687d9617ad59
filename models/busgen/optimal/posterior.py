"""The posterior over a data set given a noisy image, and what single draws say of the optimal loss.

In the coordinates x = x0 + s eps. A draw is an image of the set and a noise; the same draws serve every level, so that
a curve over levels is smooth, and only one product of images and noise is needed for all of them.
"""

# M draws at once   N images in the posterior   D numbers of an image   S levels

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.common.errors import ConfigError

Array = NDArray[np.float64]

_BYTES_A_PAIR = 48  # of a draw and an image: distance, projection, log-kernel, a product in float64; kernel and more
_BYTES_A_NUMBER = 48  # of a draw: its image, noise and posterior mean, some of them in float64


class Samples(Protocol):
    """Images by number: float32 [n, D] on the device that computes. A tensor is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: NDArray[np.int64], /) -> Tensor: ...


@dataclass(frozen=True)
class DrawLosses:
    """What each draw says of J*, [S, M]. x is the draw's image, m the mean of its posterior.

    paired: ||x||^2 - ||m||^2, the definition; a draw may be negative.
    residual: ||x - m||^2, never negative.
    spread: the posterior's variance, tr Cov[x0 | x_t]; never negative. With the whole set in the posterior it is the
        mean of either of the others given x_t, and so the estimate with the smallest error.
    """

    paired_SM: Array
    residual_SM: Array
    spread_SM: Array

    @classmethod
    def joined(cls, parts: Sequence[DrawLosses]) -> DrawLosses:
        """All draws of these, in order."""
        return cls(
            np.concatenate([part.paired_SM for part in parts], axis=1),
            np.concatenate([part.residual_SM for part in parts], axis=1),
            np.concatenate([part.spread_SM for part in parts], axis=1),
        )


@dataclass(frozen=True)
class Memory:
    """How many draws and images fit at once into so many bytes, with images of so many numbers."""

    numbers: int
    given: int

    @classmethod
    def of(cls, gib: float, images: int, numbers: int) -> Memory:
        """Room beside that many images in float32; raises ConfigError where there is none."""
        held = 4 * images * numbers
        left = int(gib * 2**30) - held
        if left < 2 * (_BYTES_A_PAIR * images + _BYTES_A_NUMBER * numbers):
            needed = (held + 2 * (_BYTES_A_PAIR * images + _BYTES_A_NUMBER * numbers)) / 2**30
            raise ConfigError(
                f"{images} images of {numbers} numbers in the posterior need {needed:.3g} GiB, "
                f"and memory_gib is {gib:g}\ngive more, or take estimator='cdol' with a smaller subset"
            )
        return cls(numbers, left)

    def draws(self, images: int) -> int:
        """Draws at once, against that many images; half of the room is theirs."""
        return max(1, self.given // 2 // (_BYTES_A_PAIR * images + _BYTES_A_NUMBER * self.numbers))

    @property
    def images(self) -> int:
        """Images at once in float64; a quarter of the room is theirs."""
        return max(1, self.given // 4 // (8 * self.numbers))


def draw_losses(
    own_MD: Tensor,
    noise_MD: Tensor,
    images_ND: Tensor,
    levels_S: Sequence[float],
    *,
    own_log_weight: float | None = None,
    itself_MN: Tensor | None = None,
    images_at_once: int = 4096,
) -> DrawLosses:
    """What draws say of J* at each level (Xu et al. 2025, Theorem 1 and section 3).

        x_t = x + s eps,   K_j = exp(-||x_t - x_j||^2 / 2 s^2),   m = sum_j K_j x_j / sum_j K_j

    own_MD, noise_MD: x and eps. images_ND: the x_j, moved like x by the mean of all images, which leaves J* as it is
    and makes the paired form less noisy.
    own_log_weight: takes each draw's own image into its posterior, with this log-weight; -inf leaves it out.
    itself_MN: where an x_j is the draw's own image and is not to count a second time.
    """
    own, noise = own_MD.double(), noise_MD.double()
    distance_MN, projection_MN = _apart(own, noise, images_ND, images_at_once)
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for s in levels_S:
        # ||x_t - x_j||^2 = ||x - x_j||^2 + 2 s eps.(x - x_j) + s^2 ||eps||^2, of which the last is the same for all j
        log_MN = -(distance_MN / (2 * s * s)) - projection_MN / s
        if itself_MN is not None:
            log_MN.masked_fill_(itself_MN, -math.inf)
        weight_MN, own_M = _normalised(log_MN, own_log_weight)
        # Around x rather than around zero, so that nothing cancels where the posterior is x itself.
        shift_MD = (weight_MN @ images_ND).double() - (1.0 - own_M)[:, None] * own
        residual_M = shift_MD.square().sum(1)
        second_M = (weight_MN * distance_MN).sum(1)
        paired_M = -(shift_MD * (2 * own + shift_MD)).sum(1)
        found.append((paired_M, residual_M, (second_M - residual_M).clamp(min=0.0)))
    paired, residual, spread = (torch.stack(values).cpu().numpy() for values in zip(*found, strict=True))
    return DrawLosses(paired, residual, spread)


def _apart(own: Tensor, noise: Tensor, images_ND: Tensor, images_at_once: int) -> tuple[Tensor, Tensor]:
    """||x - x_j||^2 and eps.(x - x_j), [M, N], in float64, as both are divided by a small s."""
    draws, count = len(own), len(images_ND)
    distance_MN = torch.empty(draws, count, dtype=torch.float64, device=own.device)
    projection_MN = torch.empty_like(distance_MN)
    norm_M, along_M = own.square().sum(1), (own * noise).sum(1)
    for start in range(0, count, images_at_once):
        block = slice(start, start + images_at_once)
        images = images_ND[block].double()
        distance_MN[:, block] = norm_M[:, None] + images.square().sum(1) - 2 * own @ images.T
        projection_MN[:, block] = along_M[:, None] - noise @ images.T
    return distance_MN.clamp_(min=0.0), projection_MN


def _normalised(log_MN: Tensor, own_log_weight: float | None) -> tuple[Tensor, Tensor]:
    """The weights of the images, float32, and of the draw's own image, [M]; together they sum to 1.

    The own image is at the distance |s eps| from x_t, which is where log_MN is zero.
    """
    top_M = log_MN.amax(1)
    if own_log_weight is not None:
        top_M = top_M.clamp(min=own_log_weight)
    kernel_MN = (log_MN - top_M[:, None]).float().exp_()
    own_M = torch.zeros_like(top_M) if own_log_weight is None else (own_log_weight - top_M).exp()
    total_M = own_M + kernel_MN.sum(1, dtype=torch.float64)
    kernel_MN /= total_M.float()[:, None]
    return kernel_MN, own_M / total_M


def posterior_mean(images_NCHW: Tensor) -> Callable[[Tensor, Tensor, object], Tensor]:
    """The denoiser that a network with the optimal loss is: x0 = E[x0 | x_t] over these images. It has memorised them.

    Takes (x_BCHW, s_B, conditions), like any denoiser; it knows no conditions.
    """
    images_ND = images_NCHW.flatten(1).double()
    norm_N = images_ND.square().sum(1)

    def denoise(x_BCHW: Tensor, s_B: Tensor, conditions: object) -> Tensor:
        x_BD = x_BCHW.flatten(1).double()
        distance_BN = norm_N - 2 * x_BD @ images_ND.T  # up to ||x||^2, the same for all images
        weight_BN = torch.softmax(-distance_BN / (2 * s_B.double().square()[:, None]), dim=1)
        return (weight_BN @ images_ND).reshape(x_BCHW.shape).to(x_BCHW.dtype)

    return denoise
