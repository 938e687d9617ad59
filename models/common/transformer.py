"""Pre-LN transformer blocks with rotary positions, optional linear biases, and a cache for decoding."""

# B sequences   S positions that ask   K positions that are looked at   D width   H heads   C width of a head

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Positions:
    """What attention has to know about where its tokens stand; made once for all blocks by `positions`."""

    cosine_SC: Tensor | None  # of both halves of a head; None turns nothing
    sine_SC: Tensor | None  # likewise, with minus in the first half
    bias_HSK: Tensor | None  # added to the attention scores; None adds nothing
    causal: bool  # later positions are hidden, which the bias does not say


def positions(
    first: int,
    count: int,
    head_width: int,
    *,
    rope_base: float | None,
    causal: bool,
    alibi_slopes: Sequence[float] = (),
    bias_HSK: Tensor | None = None,
    device: torch.device | None = None,
) -> Positions:
    """Positions `first` to `first + count` looking at 0 to `first + count`: all of them, or if causal no later ones.

    rope_base: None for no rotation. bias_HSK: added to what ALiBi's slopes give.
    """
    cosine_SC = sine_SC = None
    if rope_base is not None:
        room = 1 << (first + count).bit_length()  # few different ones, so that few tables are made
        cosine_SC, sine_SC = (
            table[first : first + count] for table in rope_tables(room, head_width, rope_base, device)
        )
    keys_K = torch.arange(first + count, device=device)
    queries_S = keys_K[first:]
    if alibi_slopes:
        slopes_HSK = alibi(queries_S, keys_K, alibi_slopes)
        bias_HSK = slopes_HSK if bias_HSK is None else bias_HSK + slopes_HSK
    causal = causal and count > 1
    if causal and (first or bias_HSK is not None):  # attention's own mask knows neither
        hidden_HSK = later_hidden(queries_S, keys_K)[None]
        bias_HSK, causal = hidden_HSK if bias_HSK is None else bias_HSK + hidden_HSK, False
    return Positions(cosine_SC, sine_SC, bias_HSK, causal)


def later_hidden(queries_S: Tensor, keys_K: Tensor) -> Tensor:
    """A bias that hides from each position those after it."""
    later_SK = keys_K[None, :] > queries_S[:, None]
    return torch.zeros(later_SK.shape, device=later_SK.device).masked_fill(later_SK, -math.inf)


def rope_angles(positions_S: Tensor, head_width: int, base: float) -> Tensor:
    """The angle by which each pair of a head's numbers is turned (Su et al. 2021, RoFormer, eq. 15).

    angle[s, c] = s * base^(-2c / C)    for c = 0 .. C/2 - 1
    """
    pair_C = torch.arange(0, head_width, 2, device=positions_S.device, dtype=torch.float32)
    return positions_S.float()[:, None] * base ** (-pair_C / head_width)


@lru_cache(maxsize=32)
def rope_tables(count: int, head_width: int, base: float, device: torch.device | None) -> tuple[Tensor, Tensor]:
    """Cosine and sine (S, C) of the first positions, as `Positions` has them."""
    with torch.inference_mode(mode=False):  # or what a decoding has made could not be used in a training
        angles_SC = rope_angles(torch.arange(count, device=device), head_width, base)
        cosine_SC, sine_SC = angles_SC.cos(), angles_SC.sin()
        return torch.cat([cosine_SC, cosine_SC], dim=-1), torch.cat([-sine_SC, sine_SC], dim=-1)


def rotate(x_BHSC: Tensor, positions: Positions, *, back: bool = False, out: Tensor | None = None) -> Tensor:
    """x with pair c, held as numbers c and c + C/2, turned as a complex number: (a + ib) * exp(i * angle).

    back: by the opposite angle. out: where it is written; a new float32 tensor if None.
    """
    cosine, sine = positions.cosine_SC, positions.sine_SC
    assert cosine is not None, "there is no angle to turn by"
    assert sine is not None, "there is no angle to turn by"
    half, sign = x_BHSC.shape[-1] // 2, -1 if back else 1
    out = torch.mul(x_BHSC, cosine, out=out)
    out[..., :half].addcmul_(x_BHSC[..., half:], sine[:, :half], value=sign)
    out[..., half:].addcmul_(x_BHSC[..., :half], sine[:, half:], value=sign)
    return out


def heads_of(mixed_BS3HC: Tensor, positions: Positions) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value of each head (B, H, S, C), of what the linear layer mixed; query and key are rotated."""
    both_BHSC = mixed_BS3HC[:, :, :2].flatten(2, 3).transpose(1, 2)
    query_BHSC, key_BHSC = rotate(both_BHSC, positions).to(mixed_BS3HC.dtype).chunk(2, dim=1)
    return query_BHSC, key_BHSC, mixed_BS3HC[:, :, 2].transpose(1, 2)


class TrainedHeads(torch.autograd.Function):
    """`heads_of`, with its gradient: rotated back. The one that autograd finds writes many times as much to memory."""

    @staticmethod
    def forward(ctx: Any, mixed_BS3HC: Tensor, positions: Positions) -> tuple[Tensor, Tensor, Tensor]:
        ctx.positions = positions
        return heads_of(mixed_BS3HC, positions)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        query_BHSC, key_BHSC, value_BHSC = grad_outputs
        batch, heads, length, width = value_BHSC.shape
        mixed_BS3HC = value_BHSC.new_empty(batch, length, 3, heads, width)
        for place, gradient_BHSC in enumerate((query_BHSC, key_BHSC)):
            rotate(gradient_BHSC, ctx.positions, back=True, out=mixed_BS3HC[:, :, place].transpose(1, 2))
        mixed_BS3HC[:, :, 2].transpose(1, 2).copy_(value_BHSC)
        return mixed_BS3HC, None


def alibi(queries_S: Tensor, keys_K: Tensor, slopes: Sequence[float]) -> Tensor:
    """A penalty that grows with the distance, at its own slope in each head (Press et al. 2022, section 3).

        bias[h, s, k] = -slope[h] * |s - k|

    Unlike the paper's, which only looks back, this one is symmetric, since attention here may look both ways.
    """
    distance_SK = (queries_S[:, None] - keys_K[None, :]).abs().float()
    return -torch.tensor(slopes, device=distance_SK.device)[:, None, None] * distance_SK


def attend(query_BHSC: Tensor, key_BHKC: Tensor, value_BHKC: Tensor, positions: Positions) -> Tensor:
    """What each head sees (B, H, S, C): V, weighted by softmax(Q K' / sqrt(C) + bias) (Vaswani et al. 2017, eq. 1).

    A single query on a processor is quicker by plain products: the fused kernel's blocks are made for many.
    """
    bias = None if positions.bias_HSK is None else positions.bias_HSK.to(query_BHSC.dtype)
    if query_BHSC.shape[2] > 1 or query_BHSC.device.type != "cpu":
        return F.scaled_dot_product_attention(
            query_BHSC, key_BHKC, value_BHKC, attn_mask=None if bias is None else bias[None], is_causal=positions.causal
        )
    query_NSC, key_NKC, value_NKC = (x.flatten(0, 1) for x in (query_BHSC, key_BHKC, value_BHKC))
    nothing = query_NSC.new_zeros(1)
    score_NSK = torch.baddbmm(nothing, query_NSC, key_NKC.transpose(1, 2), beta=0, alpha=query_NSC.shape[-1] ** -0.5)
    if bias is not None:
        score_NSK = (score_NSK.unflatten(0, query_BHSC.shape[:2]) + bias).flatten(0, 1)
    return torch.bmm(score_NSK.softmax(dim=-1), value_NKC).view_as(query_BHSC)


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

    def keep(self, rows: Tensor) -> None:
        """Goes on with these rows of the batch alone."""
        self.keys_BHKC, self.values_BHKC = self.keys_BHKC[rows], self.values_BHKC[rows]


class Attention(nn.Module):
    """Softmax attention with rotary positions; dropout on what it puts out."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = nn.Dropout(dropout)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        x_BSD: Tensor,
        positions: Positions,
        cache: KeyValueCache | None = None,
        picked_N: Tensor | None = None,
    ) -> Tensor:
        """What each position sees (B, S, D); if `picked_N` is given, that of these of the B * S positions (N, D)."""
        batch, length, width = x_BSD.shape
        mixed = self.query_key_value(x_BSD).view(batch, length, 3, self.heads, width // self.heads)
        if positions.cosine_SC is None:
            query, key, value = mixed.permute(2, 0, 3, 1, 4)
        else:
            query, key, value = (TrainedHeads.apply if torch.is_grad_enabled() else heads_of)(mixed, positions)
        if cache is not None:
            key, value = cache.extend(key, value)
        seen = attend(query, key, value, positions)
        seen = seen.transpose(1, 2).reshape(batch, length, width)
        return self.dropout(self.out(seen if picked_N is None else seen.flatten(0, 1)[picked_N]))


class Block(nn.Module):
    """x + attention(LN(x)), then x + MLP(LN(x)) (Xiong et al. 2020, pre-LN), with GELU."""

    def __init__(self, width: int, heads: int, feed_forward_width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads, dropout)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, feed_forward_width), nn.GELU(), nn.Linear(feed_forward_width, width), nn.Dropout(dropout)
        )

    def forward(
        self,
        x_BSD: Tensor,
        positions: Positions,
        cache: KeyValueCache | None = None,
        picked_N: Tensor | None = None,
    ) -> Tensor:
        """All positions (B, S, D); if `picked_N` is given, these of the B * S (N, D), which saves the others' MLP."""
        seen = self.attention(self.attention_norm(x_BSD), positions, cache, picked_N)
        x = (x_BSD if picked_N is None else x_BSD.flatten(0, 1)[picked_N]) + seen
        return x + self.feed_forward(self.feed_forward_norm(x))
