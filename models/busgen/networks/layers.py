"""Layers of the image networks: group norm, residual blocks, attention over pixels, and changes of the side."""

# B images   C channels   H height   W width   N heads   P pixels or patches   D channels of a head

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)

LEAST_GROUP = 4  # channels of a group


def groups_of(channels: int) -> int:
    """The most groups that divide the channels: at most 32, and no group of fewer than 4 channels."""
    most = max(1, min(32, channels // LEAST_GROUP))
    return next(groups for groups in range(most, 0, -1) if channels % groups == 0)


def heads_of(channels: int, head_width: int) -> int:
    """The most heads that divide the channels, each at least this wide; one for a width of 0."""
    most = channels // head_width if head_width else 1
    return next((heads for heads in range(most, 1, -1) if channels % heads == 0), 1)


def zeroed(module: M) -> M:
    """The module with all its parameters 0: a branch that starts by adding nothing."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class GroupNorm(nn.GroupNorm):
    """Group norm (Wu & He 2018) in the input's precision; mean and variance are summed in float32 all the same.

    Autocast would take the input to float32 and hand float32 on, twice the bytes of all that follows.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(groups_of(channels), channels)

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            weight, bias = self.weight.to(input.dtype), self.bias.to(input.dtype)
            return F.group_norm(input, self.num_groups, weight, bias, self.eps)

    def modulated(self, x_BCHW: Tensor, scale_BC: Tensor, shift_BC: Tensor) -> Tensor:
        """norm(x) * (1 + scale) + shift (Dhariwal & Nichol 2021, eq. 3), in one pass where the memory's order lets it.

        The images' channels laid side by side are one image with B * C channels, whose norm has a weight and a bias
        for each of them.
        """
        batch, channels = x_BCHW.shape[:2]
        with torch.autocast(x_BCHW.device.type, enabled=False):
            weight_BC = (self.weight * (1 + scale_BC.to(self.weight.dtype))).to(x_BCHW.dtype)
            bias_BC = (self.bias * (1 + scale_BC) + shift_BC).to(x_BCHW.dtype)
            if x_BCHW.is_contiguous():
                side_by_side = x_BCHW.view(1, batch * channels, *x_BCHW.shape[2:])
                normed = F.group_norm(
                    side_by_side, batch * self.num_groups, weight_BC.flatten(), bias_BC.flatten(), self.eps
                )
                return normed.view_as(x_BCHW)
            normed_BCHW = F.group_norm(x_BCHW, self.num_groups, eps=self.eps)
            return torch.addcmul(bias_BC[:, :, None, None], normed_BCHW, weight_BC[:, :, None, None])


def activate(x: Tensor) -> Tensor:
    """SiLU, in place where no gradient will ask for the input."""
    return F.silu(x, inplace=not torch.is_grad_enabled())


class Attention(nn.Module):
    """Softmax attention among all tokens, [B, P, C]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.query_key_value(x).unflatten(2, (3, self.heads, -1))
        query_BNPD, key_BNPD, value_BNPD = mixed.permute(2, 0, 3, 1, 4).unbind(0)
        seen_BNPD = F.scaled_dot_product_attention(query_BNPD, key_BNPD, value_BNPD)
        return self.out(seen_BNPD.transpose(1, 2).flatten(2))


class PixelAttention(Attention):
    """x + attention among the pixels of norm(x), [B, C, H, W]."""

    def __init__(self, channels: int, head_width: int) -> None:
        super().__init__(channels, heads_of(channels, head_width))
        self.norm = GroupNorm(channels)
        zeroed(self.out)

    def forward(self, x: Tensor) -> Tensor:
        # Tokens in rows: flash attention asks for a head's channels side by side, as channels last has them already.
        normed_BPC = self.norm(x).permute(0, 2, 3, 1).flatten(1, 2)
        seen_BPC = super().forward(normed_BPC)
        return x + seen_BPC.transpose(1, 2).unflatten(2, x.shape[2:])


class ResidualBlock(nn.Module):
    """x + convolutions(x), told of noise level and conditions between the two; then attention where there is some."""

    def __init__(self, inward: int, outward: int, dropout: float, attention: PixelAttention | None) -> None:
        super().__init__()
        self.norm1 = GroupNorm(inward)
        self.convolution1 = nn.Conv2d(inward, outward, 3, padding=1)
        self.norm2 = GroupNorm(outward)
        self.dropout = nn.Dropout(dropout)
        self.convolution2 = zeroed(nn.Conv2d(outward, outward, 3, padding=1))
        self.shortcut = nn.Identity() if inward == outward else nn.Conv2d(inward, outward, 1)
        self.attention = nn.Identity() if attention is None else attention

    def forward(self, x_BCHW: Tensor, scale_BC: Tensor | None, shift_BC: Tensor) -> Tensor:
        """Scale and shift follow the second norm; without a scale, the shift comes before it, as in the release."""
        h_BCHW = self.convolution1(activate(self.norm1(x_BCHW)))
        if scale_BC is None:
            h_BCHW = self.norm2(h_BCHW + shift_BC[:, :, None, None].to(h_BCHW.dtype))
        else:
            h_BCHW = self.norm2.modulated(h_BCHW, scale_BC, shift_BC)
        h_BCHW = self.convolution2(self.dropout(activate(h_BCHW)))
        return self.attention(self.shortcut(x_BCHW) + h_BCHW)


def down(inward: int, outward: int) -> nn.Conv2d:
    """Half the side."""
    return nn.Conv2d(inward, outward, 3, stride=2, padding=1)


class Up(nn.Module):
    """Twice the side; the convolution comes first, where it costs a quarter."""

    def __init__(self, inward: int, outward: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inward, outward, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return F.interpolate(self.convolution(x_BCHW), scale_factor=2.0, mode="nearest")


class OfficialDown(nn.Module):
    """Half the side by two convolutions whose outputs are added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.wide = nn.Conv2d(channels, channels, 5, stride=2, padding=2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.narrow(x_BCHW) + self.wide(x_BCHW)


class OfficialUp(nn.Sequential):
    """Twice the side by a transposed convolution, and one convolution there."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.ConvTranspose2d(channels, channels, 5, stride=2, padding=2, output_padding=1),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
