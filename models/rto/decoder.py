"""The project's own decoder, of Llama's shape, and its cache for decoding."""

# B prompts   G responses of each   P prompt tokens   R response tokens   T = R + 1 states   K places in the cache
# M real tokens of the batch   S states that are asked for   D width   F inner width   H heads   C width of a head
# X any size

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.common.errors import DataError
from models.rto.layers import RmsNorm, gated
from models.rto.packing import Packing, pack, pairs, state_real, turn
from models.rto.policy_config import DecoderConfig
from models.rto.sequences import Sequences

Change: TypeAlias = Callable[[Tensor], Tensor]


class Decoder(nn.Module):
    """Llama without its head (Touvron et al. 2023, section 2.2): RMSNorm before each layer, SwiGLU, rotary positions.

    Linear layers see real tokens only, each prompt's once for all of its responses. Unlike in the weights of
    `transformers`, the two numbers of a rotary pair stand side by side, as in RoFormer and in Llama's first release:
    they turn as one complex number, in one pass.
    """

    def __init__(self, config: DecoderConfig, vocabulary: int) -> None:
        super().__init__()
        self.config = config
        self.vocabulary = vocabulary
        self.context = config.context
        self.width = config.width
        self.embedding = nn.Embedding(vocabulary, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = RmsNorm(config.width)
        nn.init.normal_(self.embedding.weight, std=config.width**-0.5)

    def forward(self, sequences: Sequences) -> Tensor:
        """The state after the prompt and after each response token, [B, G, T, D]; zero where not real."""
        states_SD = self.states(sequences, final=True)
        real_BGT = state_real(sequences)
        states_BGTD = states_SD.new_zeros(*real_BGT.shape, states_SD.shape[1])
        return states_BGTD.masked_scatter(real_BGT[..., None], states_SD)

    def states(self, sequences: Sequences, *, final: bool) -> Tensor:
        """The states before the real response tokens, row after row, [N, D]; with `final` all real states, [S, D]."""
        packing = pack(sequences, final=final)
        _check_length(packing.longest, self.config.context)
        return self._run(packing)

    def prefill(self, prompts_BP: Tensor, prompt_real_BP: Tensor, group: int, most: int) -> tuple[Cache, Tensor]:
        """A cache of B x G rows, each prompt `group` times with room for `most` tokens, and their states [X, D]."""
        nothing_B11 = prompts_BP.new_zeros(prompts_BP.shape[0], 1, 1)
        packing = pack(Sequences(prompts_BP, prompt_real_BP, nothing_B11, nothing_B11.bool()), final=True)
        _check_length(packing.longest + most, self.config.context)
        cache = Cache(self.config, prompt_real_BP, group, most)
        states_BD = self._run(packing, cache)
        return cache, states_BD.repeat_interleave(group, dim=0)

    def advance(self, tokens_X: Tensor, cache: Cache) -> Tensor:
        """The states after one token more in each of the cache's rows, [X, D]."""
        turns_XC = rotary(cache.next_positions(), self.config)
        cache.length += 1
        mask = cache.mask()
        x_XD = self.embedding(tokens_X)
        for place, block in enumerate(self.blocks):
            x_XD = block(x_XD, partial(cache.extend, place, turns_XC, mask))
        return self.norm(x_XD)

    def _run(self, packing: Packing, cache: Cache | None = None) -> Tensor:
        """The states that the packing asks for, [S, D]."""
        turns_MC = rotary(packing.positions_M, self.config)
        x_MD = self.embedding(packing.tokens_M)
        *blocks, last = self.blocks

        def attend(qkv_MX: Tensor, *, states: bool = False) -> Tensor:
            if cache is not None:
                cache.fill(qkv_MX, turns_MC)
            return packing.attend(qkv_MX, turns_MC, self.config.heads, states=states)

        for block in blocks:
            x_MD = block(x_MD, attend)
        # After the last look at other tokens only the states asked for are worked on.
        return self.norm(last(x_MD, partial(attend, states=True), packing.at_states))


class Block(nn.Module):
    """Attention and a gated feed-forward layer, each added to what it read."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.attention_norm = RmsNorm(config.width)
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)
        self.feed_forward_norm = RmsNorm(config.width)
        self.gate_up = nn.Linear(config.width, 2 * config.feed_forward_width, bias=False)
        self.down = nn.Linear(config.feed_forward_width, config.width, bias=False)
        for layer in (self.qkv, self.gate_up):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
        for layer in (self.out, self.down):  # so that the sum over all blocks begins at the same size for any depth
            nn.init.normal_(layer.weight, std=(2 * config.layers * layer.in_features) ** -0.5)

    def forward(self, x_MD: Tensor, attend: Change, keep: Change | None = None) -> Tensor:
        """[M, D]; or where `attend` gives some rows only, those, which `keep` picks from what was read."""
        seen_MD = attend(self.qkv(self.attention_norm(x_MD)))
        x_MD = (x_MD if keep is None else keep(x_MD)) + self.out(seen_MD)
        return x_MD + self.down(gated(self.gate_up(self.feed_forward_norm(x_MD))))


def rotary(positions_M: Tensor, config: DecoderConfig) -> Tensor:
    """exp(i * angle), by which each pair of a head's numbers is turned (Su et al. 2021, RoFormer, eq. 15); [M, C / 2].

    angle[m, c] = m * base^(-2c / C)    for c = 0 .. C/2 - 1
    """
    head_width = config.width // config.heads
    pair_C = torch.arange(0, head_width, 2, device=positions_M.device, dtype=torch.float32)
    angles_MC = positions_M.float()[:, None] * config.rope_base ** (-pair_C / head_width)
    return torch.polar(torch.ones_like(angles_MC), angles_MC)


class Cache:
    """Keys and values of the tokens so far in B x G rows; prompts end at one column, so that all go on together."""

    def __init__(self, config: DecoderConfig, prompt_real_BP: Tensor, group: int, most: int) -> None:
        columns = prompt_real_BP.shape[1]
        self.heads = config.heads
        self.group = group
        self.most = columns + most
        self.length = columns
        self.prompt_real_BP = prompt_real_BP
        self.before_X = (~prompt_real_BP).sum(dim=-1).repeat_interleave(group)  # columns before a row's prompt begins
        self.masked = bool((self.before_X > 0).any())
        self.held: list[Tensor] = []  # keys and values at each block, [2, X, H, K, C]

    def fill(self, qkv_MX: Tensor, turns_MC: Tensor) -> None:
        """Takes in the prompts' keys and values at the next block."""
        _, k_MHC, v_MHC = qkv_MX.unflatten(1, (3, self.heads, -1)).unbind(dim=1)
        exact = torch.promote_types(qkv_MX.dtype, torch.float32)
        # What lies beyond `length` is never read, and so need not be cleared.
        room_2XHKC = v_MHC.new_empty(2, len(self.before_X), self.heads, self.most, v_MHC.shape[-1])
        for room_XHKC, part_MHC in zip(room_2XHKC, (turn(k_MHC.to(exact), turns_MC), v_MHC), strict=True):
            prompts_BPHC = v_MHC.new_zeros(*self.prompt_real_BP.shape, *v_MHC.shape[1:])
            prompts_BPHC[self.prompt_real_BP] = part_MHC.to(v_MHC.dtype)
            rooms_BGHKC = room_XHKC.unflatten(0, (-1, self.group))
            rooms_BGHKC[..., : self.length, :] = prompts_BPHC.transpose(1, 2)[:, None]
        self.held.append(room_2XHKC)

    def next_positions(self) -> Tensor:
        """Of the token that comes next in each row, counted from its prompt's beginning."""
        return self.length - self.before_X

    def extend(self, place: int, turns_XC: Tensor, mask: Tensor | None, qkv_XX: Tensor) -> Tensor:
        """Takes in one token in each row at one block, and returns what its query sees, [X, D]."""
        assert self.length <= self.most, f"a cache of {self.most} places is full"
        qkv_X3HC = self._split(qkv_XX, turns_XC)
        self.held[place][:, :, :, self.length - 1] = qkv_X3HC[:, 1:].transpose(0, 1)
        keys_XHKC, values_XHKC = self.held[place][:, :, :, : self.length].unbind()
        return _seen(qkv_X3HC[:, 0], keys_XHKC, values_XHKC, mask).flatten(1)

    def mask(self) -> Tensor | None:
        """Where each row may look, [X, 1, 1, K]; None: everywhere."""
        if not self.masked:
            return None
        return (torch.arange(self.length, device=self.before_X.device) >= self.before_X[:, None])[:, None, None]

    def keep(self, rows_X: Tensor) -> None:
        """Forgets all rows but these."""
        self.before_X = self.before_X[rows_X]
        self.held = [room_2XHKC[:, rows_X] for room_2XHKC in self.held]

    def _split(self, qkv_XX: Tensor, turns_XC: Tensor) -> Tensor:
        """Queries and keys, turned in their place, and values, [X, 3, H, C]; not for gradients."""
        exact_XX = qkv_XX.to(torch.promote_types(qkv_XX.dtype, torch.float32))
        exact_X3HC = exact_XX.view(len(qkv_XX), 3, self.heads, -1)
        pairs(exact_X3HC)[:, :2].mul_(turns_XC[:, None, None])
        return exact_X3HC.to(qkv_XX.dtype)


def _seen(query_XHC: Tensor, keys_XHKC: Tensor, values_XHKC: Tensor, mask: Tensor | None) -> Tensor:
    """What one query in each row and head sees, [X, H, C]."""
    if query_XHC.device.type != "cpu" or query_XHC.dtype not in (torch.float32, torch.float64):
        return F.scaled_dot_product_attention(query_XHC[:, :, None], keys_XHKC, values_XHKC, attn_mask=mask)[:, :, 0]
    # On a processor two plain products are a fifth quicker than the kernel above, which is made for many queries.
    scaled_Y1C = (query_XHC * query_XHC.shape[-1] ** -0.5).flatten(0, 1)[:, None]
    scores_Y1K = torch.bmm(scaled_Y1C, keys_XHKC.flatten(0, 1).transpose(1, 2))
    if mask is not None:
        scores_Y1K.view(*query_XHC.shape[:2], 1, -1).masked_fill_(~mask, -torch.inf)
    return torch.bmm(scores_Y1K.softmax(dim=-1), values_XHKC.flatten(0, 1)).view(query_XHC.shape)


def _check_length(tokens: int, context: int) -> None:
    if tokens > context:
        raise DataError(
            f"prompt and response have {tokens} tokens, and the policy's context is {context}\n"
            f"try policy.context={2 ** math.ceil(math.log2(tokens))}, or shorter prompts and responses"
        )
