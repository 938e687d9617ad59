"""Real tokens as one long row, so that no layer works on padding; and the grids that attention sees them in."""

# B prompts   G responses of each   P prompt tokens   R response tokens   T = R + 1 states   L columns
# M real tokens, each prompt's only once   S states that are asked for   Y places of all grids
# D width   H heads   C width of a head   X any size

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.rto.sequences import Sequences

SHORTER = 0.75  # a row shorter than this share of its grid's longest begins a grid of its own
TILE = 16  # grids have a multiple of so many columns, as attention's inner loops have


@dataclass(frozen=True)
class Grid:
    """Rows of about one length; a grid's places follow those of the grid before it, row by row."""

    rows: int
    columns: int

    @property
    def places(self) -> int:
        return self.rows * self.columns


@dataclass(frozen=True)
class Packing:
    """Where the real tokens of a batch stand.

    They are held as M rows: each prompt once, and after it its responses. Attention sees each prompt with one response
    as the row of a grid, from column 0 on. What is not real comes last there, so that a causal attention needs no
    mask: nothing real looks at it.
    """

    longest: int  # tokens of a sequence
    tokens_M: Tensor
    positions_M: Tensor  # of a token in its sequence, from 0
    grids: tuple[Grid, ...]
    from_Y: Tensor  # the row of M at each place; any row where nothing is real
    home_M: Tensor  # a token's place; a prompt's is that beside its first response
    states_S: Tensor  # the place of each state asked for
    copied_X: Tensor  # rows of M that are prompt tokens
    copies_XG: Tensor  # and their places, beside each response
    regular: bool  # the rows of M are the places, in order

    def attend(self, qkv_MX: Tensor, turns_MC: Tensor, heads: int, *, states: bool) -> Tensor:
        """Causal self-attention of each token in its own sequence, [M, D]; with `states` at these only, [S, D].

        qkv_MX: queries, keys and values, M by 3D. turns_MC: see `turn`.
        """
        seen = []
        # Autocast would compute this in bf16, which on a processor is several times slower than float32.
        with torch.autocast(qkv_MX.device.type, enabled=False):
            parts = [self._by_grid(part_YHC) for part_YHC in _Split.apply(qkv_MX, turns_MC, self, heads)]
            for q, k, v in zip(*parts, strict=True):
                seen_XHLC = F.scaled_dot_product_attention(q, k, v, is_causal=True)
                seen.append(seen_XHLC.transpose(1, 2).flatten(0, 1).flatten(1))
        seen_YD = (seen[0] if len(seen) == 1 else torch.cat(seen)).to(qkv_MX.dtype)
        if states:
            return _Pick.apply(seen_YD, self.states_S)
        return seen_YD if self.regular else _Pick.apply(seen_YD, self.home_M)

    def _by_grid(self, x_YHC: Tensor) -> list[Tensor]:
        """The grids, [rows, H, L, C] each."""
        parts = [x_YHC] if len(self.grids) == 1 else x_YHC.split([grid.places for grid in self.grids])
        return [
            part.unflatten(0, (grid.rows, grid.columns)).transpose(1, 2)
            for part, grid in zip(parts, self.grids, strict=True)
        ]

    def at_states(self, x_MD: Tensor) -> Tensor:
        """The rows of the states asked for, [S, D]."""
        return _Pick.apply(x_MD if self.regular else _Spread.apply(x_MD, self), self.states_S)

    def spread(self, x_MX: Tensor) -> Tensor:
        """Rows of M at their places, [Y, X]."""
        return x_MX.index_select(0, self.from_Y)

    def gather(self, x_YX: Tensor) -> Tensor:
        """The sum over a row's places, [M, X]; what stands at a place where nothing is real is left out."""
        x_MX = x_YX.index_select(0, self.home_M)
        if self.copies_XG.shape[1] > 1:
            copies_XGX = x_YX.index_select(0, self.copies_XG.flatten()).unflatten(0, self.copies_XG.shape)
            x_MX.index_copy_(0, self.copied_X, copies_XGX.sum(dim=1))
        return x_MX


def state_real(sequences: Sequences) -> Tensor:
    """Which states are real, [B, G, T]: that after the prompt, and those after real tokens."""
    return F.pad(sequences.response_real_BGR, (1, 0), value=True)


def pack(sequences: Sequences, *, final: bool) -> Packing:
    """The batch's real tokens, and as states those before each response token; with `final` those after the last too.

    Without `final` a response's last token is left out: nothing asks for the state after it.
    """
    batch, group, width = sequences.responses_BGR.shape
    device = sequences.responses_BGR.device
    prompt_B = sequences.prompt_real_BP.sum(dim=-1)
    lengths_BG = sequences.lengths_BG
    response_BG = lengths_BG if final else (lengths_BG - 1).clamp(min=0)
    row_BG = prompt_B[:, None] + response_BG
    longest_first = row_BG.flatten().sort(descending=True, stable=True)
    lengths = longest_first.values.tolist()
    grids = _grids(lengths)
    columns = torch.tensor([grid.columns for grid in grids for _ in range(grid.rows)], device=device)
    starts_BG = torch.empty_like(columns).index_copy_(0, longest_first.indices, columns.cumsum(dim=0) - columns)
    starts_BG = starts_BG.view(batch, group)

    block_B = prompt_B + response_BG.sum(dim=-1)
    prompt_start_B = block_B.cumsum(dim=0) - block_B
    response_start_BG = (prompt_start_B + prompt_B)[:, None] + response_BG.cumsum(dim=-1) - response_BG

    # All prompt tokens, then all response tokens: their values, rows of M, and places.
    prompt_row_X, prompt_padded_X = sequences.prompt_real_BP.nonzero(as_tuple=True)
    prompt_column_X = prompt_padded_X - (sequences.prompts_BP.shape[1] - prompt_B)[prompt_row_X]
    copied_X = prompt_start_B[prompt_row_X] + prompt_column_X
    copies_XG = starts_BG[prompt_row_X] + prompt_column_X[:, None]
    column_R = torch.arange(width, device=device)
    taken = (column_R < response_BG[..., None]).nonzero(as_tuple=True)
    response_X = response_start_BG[taken[:2]] + taken[2]
    response_place_X = starts_BG[taken[:2]] + prompt_B[taken[0]] + taken[2]

    rows_X = torch.cat([copied_X, response_X])
    places_X = torch.cat([copies_XG[:, 0], response_place_X])
    positions_X = torch.cat([prompt_column_X, prompt_B[taken[0]] + taken[2]])
    tokens_X = torch.cat([sequences.prompts_BP[sequences.prompt_real_BP], sequences.responses_BGR[taken]])
    from_Y = torch.zeros(sum(grid.places for grid in grids), dtype=torch.long, device=device)
    from_Y[places_X] = rows_X
    from_Y[copies_XG] = copied_X[:, None].expand_as(copies_XG)

    state_T = torch.arange(width + 1 if final else width, device=device)
    asked_BGT = state_real(sequences) if final else sequences.response_real_BGR
    places_BGT = (starts_BG + prompt_B[:, None] - 1)[..., None] + state_T
    return Packing(
        longest=lengths[0],
        tokens_M=torch.empty_like(tokens_X).index_copy_(0, rows_X, tokens_X),
        positions_M=torch.empty_like(positions_X).index_copy_(0, rows_X, positions_X),
        grids=grids,
        from_Y=from_Y,
        home_M=torch.empty_like(places_X).index_copy_(0, rows_X, places_X),
        states_S=places_BGT[asked_BGT],
        copied_X=copied_X,
        copies_XG=copies_XG,
        regular=group == 1 and len(grids) == 1 and len(from_Y) == len(rows_X),
    )


def _grids(lengths: list[int]) -> tuple[Grid, ...]:
    """Grids for rows of these lengths, the longest first."""
    grids = []
    begin = 0
    for row in range(1, len(lengths) + 1):
        if row == len(lengths) or lengths[row] < SHORTER * lengths[begin]:
            grids.append(Grid(row - begin, -(-lengths[begin] // TILE) * TILE))
            begin = row
    return tuple(grids)


def turn(parts_XHC: Tensor, turns_XC: Tensor, out: Tensor | None = None) -> Tensor:
    """Each pair of numbers 2c and 2c + 1 of a head turned as a complex number: (a + ib) * exp(i * angle)."""
    out = torch.empty_like(parts_XHC, memory_format=torch.contiguous_format) if out is None else out
    torch.mul(pairs(parts_XHC), turns_XC[:, None], out=pairs(out))
    return out


def pairs(parts_XHC: Tensor) -> Tensor:
    """The same memory as complex numbers, [X, H, C / 2]."""
    return torch.view_as_complex(parts_XHC.unflatten(-1, (-1, 2)))


class _Split(torch.autograd.Function):
    """Queries and keys, turned, and values at their places, [Y, H, C] each.

    One step, so that no gradient is put together from parts; and gathered, where autograd would add row by row: slow on
    a processor, and in another order each time on a GPU. At places where nothing is real it is zero, since nothing
    looked at them. On a processor the three are float32 at least.
    """

    @staticmethod
    def forward(
        ctx: Any, qkv_MX: Tensor, turns_MC: Tensor, packing: Packing, heads: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(turns_MC)
        ctx.packing, ctx.dtype = packing, qkv_MX.dtype
        exact = torch.promote_types(qkv_MX.dtype, torch.float32)
        within = exact if qkv_MX.device.type == "cpu" else qkv_MX.dtype
        qkv_M3HC = qkv_MX.unflatten(1, (3, heads, -1))
        qk_MXC = turn(qkv_M3HC[:, :2].to(exact).flatten(1, 2), turns_MC)
        q_YHC, k_YHC = qk_MXC.to(within).unflatten(1, (2, heads)).unbind(dim=1)
        v_YHC = qkv_M3HC[:, 2].to(within)
        if not packing.regular:
            q_YHC, k_YHC, v_YHC = (packing.spread(part) for part in (q_YHC, k_YHC, v_YHC))
        return q_YHC, k_YHC, v_YHC

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (turns_MC,) = ctx.saved_tensors
        packing: Packing = ctx.packing
        q, k, v = (
            grads if packing.regular else (packing.gather(grad.flatten(1)).view(-1, *grad.shape[1:]) for grad in grads)
        )
        exact = torch.promote_types(ctx.dtype, torch.float32)
        grad_M3HC = q.new_empty(q.shape[0], 3, *q.shape[1:], dtype=exact)
        for place, part in enumerate((q, k)):
            turn(part.to(exact), turns_MC.conj(), out=grad_M3HC[:, place])
        grad_M3HC[:, 2] = v
        return grad_M3HC.flatten(1).to(ctx.dtype), None, None, None


class _Spread(torch.autograd.Function):
    """Rows of M at their places."""

    @staticmethod
    def forward(ctx: Any, x_MX: Tensor, packing: Packing) -> Tensor:
        ctx.packing = packing
        return packing.spread(x_MX)

    @staticmethod
    def backward(ctx: Any, grad_YX: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return ctx.packing.gather(grad_YX), None


class _Pick(torch.autograd.Function):
    """Some places, none of them twice: what index_select does, with a gradient that is copied and not added."""

    @staticmethod
    def forward(ctx: Any, x_YD: Tensor, places_X: Tensor) -> Tensor:
        ctx.save_for_backward(places_X)
        ctx.count = x_YD.shape[0]
        return x_YD.index_select(0, places_X)

    @staticmethod
    def backward(ctx: Any, grad_XD: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (places_X,) = ctx.saved_tensors
        return grad_XD.new_zeros(ctx.count, grad_XD.shape[1]).index_copy_(0, places_X, grad_XD), None
