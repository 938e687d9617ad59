"""Responses sampled from a policy, token by token with a cache."""

# B prompts   G responses of each   P prompt tokens   R response tokens   N real response tokens   V vocabulary
# X rows that are still being written, of B x G

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models.common.errors import ConfigError
from models.rto.policies import FrozenPolicy
from models.rto.sequences import Sequences

KEEP_BELOW = 0.8  # once only this share of the rows in the cache goes on, the others are taken out


@dataclass(frozen=True)
class Rollout:
    """Sampled responses."""

    sequences: Sequences
    log_probs_BGR: Tensor  # of each token under the law it was drawn from; 0 where not real
    truncated_BG: Tensor  # bool: had to stop at the length, without the end


@torch.no_grad()
def generate(
    policy: FrozenPolicy,
    prompts_BP: Tensor,
    prompt_real_BP: Tensor,
    *,
    group: int,
    most: int,
    least: int,
    end: int | None,
    uniforms_BGR: Tensor,
    temperature: float = 1.0,
    top_p: float = 1.0,
) -> Rollout:
    """`group` responses to each prompt, of `most` tokens at most, each up to and with its `end` token if it has one.

    least: tokens before a response may end; until then the end is left out of the law.
    end: None where responses have a fixed length.
    uniforms_BGR: numbers in [0, 1) from which the tokens are read off their law, so that a response does not depend
        on what else is in the batch.
    temperature: 0 takes the likeliest token, with log-probability 0. top_p: the smallest set of tokens that has this
        probability (Holtzman et al. 2020, section 3.1).
    """
    wanted = (prompts_BP.shape[0], group, most)
    if tuple(uniforms_BGR.shape[:2]) != wanted[:2] or uniforms_BGR.shape[2] < most:
        raise ConfigError(f"uniforms_BGR is {tuple(uniforms_BGR.shape)}; {wanted} is needed")
    device = prompts_BP.device
    uniforms_RX = uniforms_BGR[..., :most].reshape(-1, most).T.to(device, torch.float64).contiguous()
    rows = prompts_BP.shape[0] * group
    tokens_RX = torch.zeros(most, rows, dtype=torch.long, device=device)
    log_probs_RX = torch.zeros(most, rows, device=device)
    real_RX = torch.zeros(most, rows, dtype=torch.bool, device=device)
    rows_X = torch.arange(rows, device=device)  # of the cache, in the whole
    open_X = torch.ones(rows, dtype=torch.bool, device=device)

    decoding = policy.start_decoding(prompts_BP, prompt_real_BP, group, most)
    for place in range(most):
        forbidden = end if place < least else None
        law_XV = sampling_law(decoding.logits_XV, forbidden, temperature, top_p)
        tokens_X = draw(law_XV, uniforms_RX[place, rows_X])
        tokens_RX[place, rows_X] = tokens_X
        log_probs_RX[place, rows_X] = law_XV.gather(1, tokens_X[:, None]).squeeze(1).to(log_probs_RX.dtype)
        real_RX[place, rows_X] = open_X
        if end is not None:
            open_X = open_X & (tokens_X != end)
            going = int(open_X.sum())
            if going == 0:
                break
            if going <= KEEP_BELOW * rows_X.shape[0]:
                kept_X = open_X.nonzero().squeeze(1)
                decoding.keep(kept_X)
                rows_X, tokens_X, open_X = rows_X[kept_X], tokens_X[kept_X], open_X[kept_X]
        if place + 1 < most:
            decoding.append(tokens_X)

    shape = (prompts_BP.shape[0], group, most)
    real_BGR = real_RX.T.reshape(shape)
    responses_BGR = (tokens_RX * real_RX).T.reshape(shape)
    ended_BG = (responses_BGR == end).logical_and(real_BGR).any(dim=-1) if end is not None else real_BGR.any(dim=-1)
    return Rollout(
        Sequences(prompts_BP, prompt_real_BP, responses_BGR, real_BGR),
        (log_probs_RX * real_RX).T.reshape(shape),
        ~ended_BG,
    )


def sampling_law(logits_XV: Tensor, forbidden: int | None, temperature: float, top_p: float) -> Tensor:
    """log p of each token, [X, V], in float32 or better; -inf where it cannot be drawn."""
    logits_XV = logits_XV.to(torch.promote_types(logits_XV.dtype, torch.float32))
    if forbidden is not None:
        logits_XV = logits_XV.clone()
        logits_XV[:, forbidden] = -torch.inf
    if temperature == 0.0:
        best_X1 = logits_XV.argmax(dim=-1, keepdim=True)
        return torch.full_like(logits_XV, -torch.inf).scatter_(1, best_X1, 0.0)
    law_XV = F.log_softmax(logits_XV / temperature if temperature != 1.0 else logits_XV, dim=-1)
    if top_p >= 1.0:
        return law_XV
    sorted_XV, order_XV = law_XV.sort(dim=-1, descending=True)
    before_XV = sorted_XV.exp().cumsum(dim=-1) - sorted_XV.exp()
    kept_XV = torch.empty_like(before_XV, dtype=torch.bool).scatter_(1, order_XV, before_XV < top_p)
    return F.log_softmax(law_XV.masked_fill(~kept_XV, -torch.inf), dim=-1)


def draw(law_XV: Tensor, uniforms_X: Tensor) -> Tensor:
    """The first token up to which the law has more than this much probability, [X]: inverse of its cumulative sum."""
    cumulative_XV = law_XV.exp().to(torch.float64).cumsum_(dim=-1)
    # Rounding leaves the sum a little off 1; scaled, no number below 1 lies beyond the last token that can be drawn.
    cut_X1 = uniforms_X[:, None] * cumulative_XV[:, -1:]
    tokens_X = torch.searchsorted(cumulative_XV, cut_X1, right=True).squeeze(1)
    return tokens_X.clamp(max=law_XV.shape[1] - 1)


def without_early_end(logits_NV: Tensor, sequences: Sequences, *, end: int | None, least: int) -> Tensor:
    """The logits [N, V] of the law that `generate` draws from: no end among a response's first `least` tokens."""
    if end is None or least == 0:
        return logits_NV
    place_BGR = torch.arange(sequences.responses_BGR.shape[2], device=logits_NV.device).expand_as(
        sequences.responses_BGR
    )
    early_N = place_BGR[sequences.response_real_BGR] < least
    ends_V = torch.arange(logits_NV.shape[1], device=logits_NV.device) == end
    return logits_NV.masked_fill(early_N[:, None] & ends_V, -torch.inf)
