"""The denoising loss, a sample at a time."""

# B images   C channels   H height   W width

from __future__ import annotations

import torch
from torch import Tensor

from models.busgen.diffusion.preconditioning import loss_factor
from models.busgen.diffusion_config import TargetName


def image_loss(estimate_BCHW: Tensor, image_BCHW: Tensor) -> Tensor:
    """|x0_hat - x0|^2 as a mean over a sample's pixels, [B]; its expectation at a level is J(s) / D."""
    return (estimate_BCHW.float() - image_BCHW.float()).square().flatten(1).mean(dim=1)


def loss_weight(target: TargetName, s_B: Tensor, sigma_data: float) -> Tensor:
    """The weight of the image's loss under which the loss is the target's plain squared error, [B].

    Of "edm" it is (s^2 + sigma_data^2) / (s sigma_data)^2 (Karras et al. 2022, table 1).
    """
    return loss_factor(target, torch.ones_like(s_B), s_B, sigma_data)


def denoising_loss(estimate_BCHW: Tensor, image_BCHW: Tensor, weight_B: Tensor) -> Tensor:
    """w(s) |x0_hat - x0|^2 / D of each sample, [B] (Karras et al. 2022, eq. 8)."""
    return weight_B * image_loss(estimate_BCHW, image_BCHW)
