"""A denoiser's loss at each level, image by image, beside the optimal one."""

# N images   C channels   H height   W width   S levels

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from models.busgen.diffusion.preconditioning import loss_factor
from models.busgen.diffusion_config import TargetName
from models.busgen.networks.conditions import Conditions
from models.busgen.optimal.posterior import Array

Given = TypeVar("Given", Conditions, None)


@torch.no_grad()
def level_losses(
    denoise: Callable[[Tensor, Tensor, Given], Tensor],
    x0_NCHW: Tensor,
    conditions: Given,
    levels_S: Sequence[float],
    seed: int,
    *,
    at_once: int = 64,
) -> Array:
    """||x0_hat - x0||^2 of every image at every level, [N, S], summed over pixels, in float64.

    An image has the same noise at all levels, and by its number: image n of another call with this seed has it too, so
    that what two sets or two models lose can be compared in pairs.
    """
    generator = np.random.default_rng([seed])
    losses_NS = np.empty((len(x0_NCHW), len(levels_S)))
    for start in range(0, len(x0_NCHW), at_once):
        rows = slice(start, start + at_once)
        x0 = x0_NCHW[rows]
        noise = torch.from_numpy(generator.standard_normal(tuple(x0.shape), dtype=np.float32)).to(x0.device)
        given = conditions.take(rows) if isinstance(conditions, Conditions) else conditions
        for number, s in enumerate(levels_S):
            s_B = torch.full((len(x0),), float(s), dtype=torch.float32, device=x0.device)
            error = denoise(x0 + s * noise, s_B, given).double() - x0.double()
            losses_NS[rows, number] = error.square().flatten(1).sum(1).cpu().numpy()
    return losses_NS


def as_target(loss_S: ArrayLike, levels_S: ArrayLike, target: TargetName, sigma_data: float) -> Array:
    """A loss of the clean image, J or J*, as the loss of what a network of this target predicts at the same levels.

    sigma_data: of target "edm" only.
    """
    s = torch.from_numpy(np.atleast_1d(np.asarray(levels_S, dtype=np.float64)))
    factor = loss_factor(target, torch.ones_like(s), s, sigma_data)
    return np.asarray(loss_S, dtype=np.float64) * factor.numpy()
