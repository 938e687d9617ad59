"""A U-Net that predicts an image out of a noisy one, its noise level and its conditions."""

# B images   C channels   H height   W width

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.busgen.network_config import UNetConfig
from models.busgen.networks import layers
from models.busgen.networks.conditions import Conditions
from models.busgen.networks.conditions_config import ConditionsConfig
from models.busgen.networks.embedding import OfficialTold, Told
from models.busgen.networks.layers import GroupNorm, PixelAttention, ResidualBlock, activate, zeroed
from models.busgen.networks.mask import mask_channels, with_mask
from models.busgen.networks.plan import Step, plan_of


class UNet(nn.Module):
    """Ho et al. 2020's shape, as `plan_of` lays it out; starts by returning zeros."""

    def __init__(self, config: UNetConfig, conditions: ConditionsConfig, side: int, channels: int) -> None:
        super().__init__()
        plan = plan_of(config, side)
        told = OfficialTold if config.layout == "official" else Told
        self.plan = plan
        self.recompute = config.recompute
        self.mask_channels = mask_channels(conditions, said=config.layout == "efficient")
        self.told = told(conditions, config.width, [step.outward for step in plan.blocks])
        self.stem = nn.Conv2d(channels + self.mask_channels, plan.stem, 3, padding=1)
        self.steps = nn.ModuleList(_module(step, config) for step in plan.steps)
        self.norm = GroupNorm(plan.steps[-1].outward)
        self.head = zeroed(nn.Conv2d(plan.steps[-1].outward, channels, 3, padding=1))

    def forward(self, x_BCHW: Tensor, level_B: Tensor, conditions: Conditions) -> Tensor:
        told = iter(self.told(level_B, conditions))
        h_BCHW = self.stem(with_mask(x_BCHW, conditions, self.mask_channels).to(self.stem.weight.dtype))
        kept = [h_BCHW] if self.plan.stem_keeps else []
        for step, module in zip(self.plan.steps, self.steps, strict=True):
            if step.joins:
                h_BCHW = torch.cat([h_BCHW, kept.pop()], dim=1)
            h_BCHW = self._run(module, h_BCHW, *next(told)) if step.kind == "block" else module(h_BCHW)
            if step.keeps:
                kept.append(h_BCHW)
        return self.head(activate(self.norm(h_BCHW))).to(x_BCHW.dtype)

    def _run(self, block: nn.Module, h_BCHW: Tensor, scale_BC: Tensor | None, shift_BC: Tensor) -> Tensor:
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(block, h_BCHW, scale_BC, shift_BC, use_reentrant=False)  # pyright: ignore[reportReturnType] - what the block returns
        return block(h_BCHW, scale_BC, shift_BC)


def _module(step: Step, config: UNetConfig) -> nn.Module:
    if step.kind == "block":
        attention = PixelAttention(step.outward, config.head_width) if step.attention else None
        return ResidualBlock(step.inward, step.outward, config.dropout, attention)
    if config.layout == "official":
        kind = layers.OfficialDown if step.kind == "down" else layers.OfficialUp
        return kind(step.outward)
    kind = layers.down if step.kind == "down" else layers.Up
    return kind(step.inward, step.outward)
