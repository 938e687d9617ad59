"""A diffusion transformer over patches of an image (Peebles & Xie 2023, DiT with adaLN-zero)."""

# B images   C channels   H height   W width   S patches   E width   F patch's numbers

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.busgen.network_config import DiTConfig
from models.busgen.networks.conditions import Conditions
from models.busgen.networks.conditions_config import ConditionsConfig
from models.busgen.networks.embedding import Embedding
from models.busgen.networks.layers import Attention, zeroed
from models.busgen.networks.mask import mask_channels, with_mask

PARTS = 6  # shift, scale and gate, of attention and of the MLP


class DiT(nn.Module):
    """Patches to tokens, layers of attention and MLP, tokens to patches; starts by returning zeros."""

    def __init__(self, config: DiTConfig, conditions: ConditionsConfig, side: int, channels: int) -> None:
        super().__init__()
        config.check_side(side)
        self.patch, self.recompute, self.parts = config.patch, config.recompute, PARTS * config.layers
        self.mask_channels = mask_channels(conditions)
        self.embedding = Embedding(conditions, config.width, config.width)
        self.modulation = zeroed(nn.Linear(config.width, (self.parts + 2) * config.width))  # of all layers, and the end
        self.stem = nn.Linear((channels + self.mask_channels) * config.patch**2, config.width)
        self.positions_SE = nn.Parameter(grid_features(side // config.patch, config.width))
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.head = zeroed(nn.Linear(config.width, channels * config.patch**2))

    def forward(self, x_BCHW: Tensor, level_B: Tensor, conditions: Conditions) -> Tensor:
        told_BPE = self.modulation(self.embedding(level_B, conditions)).unflatten(1, (self.parts + 2, -1))
        patches_BSF = patches_of(with_mask(x_BCHW, conditions, self.mask_channels), self.patch)
        h_BSE = self.stem(patches_BSF.to(self.stem.weight.dtype)) + self.positions_SE
        *told, shift_B1E, scale_B1E = told_BPE.unsqueeze(2).unbind(1)
        for number, layer in enumerate(self.layers):
            h_BSE = self._run(layer, h_BSE, told[PARTS * number : PARTS * (number + 1)])
        h_BSF = self.head(modulate(h_BSE, shift_B1E, scale_B1E))
        return images_of(h_BSF, self.patch, x_BCHW.shape[-1] // self.patch).to(x_BCHW.dtype)

    def _run(self, layer: nn.Module, h_BSE: Tensor, told: list[Tensor]) -> Tensor:
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(layer, h_BSE, *told, use_reentrant=False)  # pyright: ignore[reportReturnType] - what the layer returns
        return layer(h_BSE, *told)


class Layer(nn.Module):
    """h + gate * attention(modulated h), then h + gate * MLP(modulated h) (Peebles & Xie 2023, figure 3)."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        inner = config.feed_forward * config.width
        self.attention = Attention(config.width, config.heads)
        self.feed_forward = nn.Sequential(
            nn.Linear(config.width, inner),
            nn.GELU(approximate="tanh"),
            nn.Linear(inner, config.width),
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, h: Tensor, shift1: Tensor, scale1: Tensor, gate1: Tensor, shift2: Tensor, scale2: Tensor, gate2: Tensor
    ) -> Tensor:
        h = torch.addcmul(h, gate1, self.dropout(self.attention(modulate(h, shift1, scale1))))
        return torch.addcmul(h, gate2, self.dropout(self.feed_forward(modulate(h, shift2, scale2))))


def modulate(h_BSE: Tensor, shift_B1E: Tensor, scale_B1E: Tensor) -> Tensor:
    """LN(h) * (1 + scale) + shift, the norm without weights of its own (Peebles & Xie 2023, section 3.2)."""
    with torch.autocast(h_BSE.device.type, enabled=False):
        normed_BSE = F.layer_norm(h_BSE, h_BSE.shape[-1:], eps=1e-6)
        return torch.addcmul(shift_B1E.to(h_BSE.dtype), normed_BSE, 1 + scale_B1E.to(h_BSE.dtype))


def patches_of(x_BCHW: Tensor, patch: int) -> Tensor:
    """The patches, row by row, each channel by channel: [B, S, C * patch * patch]."""
    batch, channels, height, width = x_BCHW.shape
    cut = x_BCHW.reshape(batch, channels, height // patch, patch, width // patch, patch)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * patch * patch)


def images_of(patches_BSF: Tensor, patch: int, across: int) -> Tensor:
    """The images of these patches, `across` of them in a row: the inverse of `patches_of`."""
    batch = len(patches_BSF)
    cut = patches_BSF.reshape(batch, -1, across, patches_BSF.shape[-1] // patch**2, patch, patch)
    return cut.permute(0, 3, 1, 4, 2, 5).reshape(batch, -1, cut.shape[1] * patch, across * patch)


def grid_features(count: int, width: int) -> Tensor:
    """Where a patch lies: sines and cosines of its row, then of its column, [count^2, width]; learnt from there.

    sin and cos of position / 10000^(4 i / width)    for i < width / 4    (Peebles & Xie 2023; Vaswani et al. 2017)
    """
    frequency_F = 10_000.0 ** -(torch.arange(width // 4) / (width // 4))
    angle_GF = torch.arange(count)[:, None] * frequency_F
    axis_GF = torch.cat([angle_GF.sin(), angle_GF.cos()], dim=1)
    return torch.cat([axis_GF.repeat_interleave(count, dim=0), axis_GF.repeat(count, 1)], dim=1)
