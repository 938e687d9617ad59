"""Pre-LN transformer blocks with rotary positions, optional linear biases, and a cache for decoding."""

# B sequences   S positions that ask   K positions that are looked at   D width   H heads   C width of a head

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Positions:
    """What attention has to know about where its tokens stand; made once for all blocks by `positions`."""

    cosine_SC: Tensor
    sine_SC: Tensor
    bias_HSK: Tensor | None  # added to the attention scores; None adds nothing


def positions(
    first: int,
    count: int,
    head_width: int,
    *,
    rope_base: float,
    causal: bool,
    alibi_slopes: Sequence[float] = (),
    device: torch.device | None = None,
) -> Positions:
    """Positions `first` to `first + count` looking at 0 to `first + count`: all of them, or if causal no later ones."""
    keys_K = torch.arange(first + count, device=device)
    queries_S = keys_K[first:]
    angles_SC = rope_angles(queries_S, head_width, rope_base)
    bias_HSK = None
    if alibi_slopes:
        bias_HSK = alibi(queries_S, keys_K, alibi_slopes)
    if causal and count > 1:
        later_SK = keys_K[None, :] > queries_S[:, None]
        hidden_HSK = torch.zeros(later_SK.shape, device=device).masked_fill(later_SK, -math.inf)[None]
        bias_HSK = hidden_HSK if bias_HSK is None else bias_HSK + hidden_HSK
    return Positions(angles_SC.cos(), angles_SC.sin(), bias_HSK)


def rope_angles(positions_S: Tensor, head_width: int, base: float) -> Tensor:
    """The angle by which each pair of a head's numbers is turned (Su et al. 2021, RoFormer, eq. 15).

    angle[s, c] = s * base^(-2c / C)    for c = 0 .. C/2 - 1
    """
    pair_C = torch.arange(0, head_width, 2, device=positions_S.device, dtype=torch.float32)
    return positions_S.float()[:, None] * base ** (-pair_C / head_width)


def rotate(x_BHSC: Tensor, positions: Positions) -> Tensor:
    """x with pair c, held as numbers c and c + C/2, turned as a complex number: (a + ib) * exp(i * angle)."""
    a, b = x_BHSC.float().chunk(2, dim=-1)
    cosine, sine = positions.cosine_SC, positions.sine_SC
    return torch.cat([a * cosine - b * sine, a * sine + b * cosine], dim=-1).to(x_BHSC.dtype)


def alibi(queries_S: Tensor, keys_K: Tensor, slopes: Sequence[float]) -> Tensor:
    """A penalty that grows with the distance, at its own slope in each head (Press et al. 2022, section 3).

        bias[h, s, k] = -slope[h] * |s - k|

    Unlike the paper's, which only looks back, this one is symmetric, since attention here may look both ways.
    """
    distance_SK = (queries_S[:, None] - keys_K[None, :]).abs().float()
    return -torch.tensor(slopes, device=distance_SK.device)[:, None, None] * distance_SK


class KeyValueCache:
    """Keys and values of the positions seen so far, for one block; room for `most` positions."""

    def __init__(self, batch: int, heads: int, most: int, head_width: int, like: Tensor) -> None:
        self.keys_BHKC = like.new_empty(batch, heads, most, head_width)
        self.values_BHKC = like.new_empty(batch, heads, most, head_width)
        self.length = 0

    def extend(self, keys_BHSC: Tensor, values_BHSC: Tensor) -> tuple[Tensor, Tensor]:
        """Takes in the next positions; returns keys and values of all so far."""
        start, self.length = self.length, self.length + keys_BHSC.shape[2]
        assert self.length <= self.keys_BHKC.shape[2], f"a cache of {self.keys_BHKC.shape[2]} positions is full"
        self.keys_BHKC[:, :, start : self.length] = keys_BHSC
        self.values_BHKC[:, :, start : self.length] = values_BHSC
        return self.keys_BHKC[:, :, : self.length], self.values_BHKC[:, :, : self.length]


class Attention(nn.Module):
    """Softmax attention with rotary positions."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x_BSD: Tensor, positions: Positions, cache: KeyValueCache | None = None) -> Tensor:
        batch, length, width = x_BSD.shape
        mixed = self.query_key_value(x_BSD).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = mixed.permute(2, 0, 3, 1, 4)
        query, key = rotate(query, positions), rotate(key, positions)
        if cache is not None:
            key, value = cache.extend(key, value)
        bias = None if positions.bias_HSK is None else positions.bias_HSK.to(query.dtype)
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return self.out(seen.transpose(1, 2).reshape(batch, length, width))


class Block(nn.Module):
    """x + attention(LN(x)), then x + MLP(LN(x)) (Xiong et al. 2020, pre-LN), with GELU."""

    def __init__(self, width: int, heads: int, feed_forward_width: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, feed_forward_width), nn.GELU(), nn.Linear(feed_forward_width, width)
        )

    def forward(self, x_BSD: Tensor, positions: Positions, cache: KeyValueCache | None = None) -> Tensor:
        x_BSD = x_BSD + self.attention(self.attention_norm(x_BSD), positions, cache)
        return x_BSD + self.feed_forward(self.feed_forward_norm(x_BSD))
