"""The reward of each token: RTO's (arXiv 2404.18922, eq. 4.7), and those of the methods that it is compared with."""

# S responses   R tokens of a response, padded on the right

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.rto.ppo_losses import kl_k1, kl_k2, kl_k3
from models.rto.reward_config import TokenRewardConfig


@dataclass(frozen=True)
class TokenReward:
    """Each token's reward and the three parts that it is the sum of, signs and coefficients included; zero outside."""

    reward_SR: Tensor
    dpo_SR: Tensor
    kl_SR: Tensor
    score_SR: Tensor
    clipped_SR: Tensor  # bool: the DPO log-ratio is beyond its bound

    def shares_of_return(self) -> dict[str, float]:
        """How large each part of a response's return is: mean sizes, as shares of their sum.

        Sizes, as parts of opposite signs would make shares above 1. RS-PPO's DPO part has a return of 0.
        """
        parts = {"dpo": self.dpo_SR, "kl": self.kl_SR, "score": self.score_SR}
        sizes = {name: float(part_SR.sum(dim=1).abs().mean()) for name, part_SR in parts.items()}
        total = sum(sizes.values())
        return {name: size / total if total else 0.0 for name, size in sizes.items()}


def token_reward(
    config: TokenRewardConfig,
    *,
    real_SR: Tensor,
    policy_SR: Tensor,
    reference_SR: Tensor,
    dpo_SR: Tensor | None,
    score_S: Tensor | None,
    tokens_SR: Tensor | None = None,
) -> TokenReward:
    """The reward of every token, in one of five layouts (eq. 4.7; sections 5.2 and 5.3 for the others).

        r_h = beta1 clip(log pi_dpo/pi_ref (y_h), +-c) - beta2 KL(y_h) + [h = H] beta3 score(y)

    rto       so
    ppo       without the first part (eq. 2.3)
    semi_rto  the first part of each sentence, summed, at the sentence's last token
    ddpo      the first part of the response, summed, at its last token
    rs_ppo    as rto, but its sum is taken off again at the last token, so that the return is that of ppo

    policy_SR, reference_SR and dpo_SR are log-probabilities of the tokens taken: by the law that they were sampled
    from, by the reference and by the DPO policy. What they hold where no token is real is never read. dpo_SR may be
    None where beta1 is 0 or the layout ppo, score_S where beta3 is 0, tokens_SR where semi_rto has no delimiters.

    Unlike eq. 4.7 the log-ratio is bounded (`log_ratio_clip`), as in the paper's code, which clips it after scaling:
    +-0.05 with beta1 = 0.05 is c = 1. With k1 the KL part is the paper's log pi/pi_ref.
    """
    zero_SR = torch.zeros_like(policy_SR)
    estimate = {"k1": kl_k1, "k2": kl_k2, "k3": kl_k3}[config.kl_estimator]
    kl_SR = -config.beta2 * _real(estimate(policy_SR, reference_SR), real_SR) if config.beta2 else zero_SR
    last_SR = last_tokens(real_SR)
    score_SR = zero_SR
    if config.beta3:
        assert score_S is not None, "beta3 is above 0, so that a score is needed"
        score_SR = config.beta3 * _at(last_SR, score_S).to(policy_SR.dtype)
    given_SR, clipped_SR = zero_SR, torch.zeros_like(real_SR)
    if config.beta1 and config.layout != "ppo":
        assert dpo_SR is not None, "beta1 is above 0, so that the DPO policy's log-probabilities are needed"
        log_ratio_SR = _real(dpo_SR - reference_SR, real_SR)
        if config.log_ratio_clip is not None:
            bound = config.log_ratio_clip
            clipped_SR = log_ratio_SR.abs() > bound
            log_ratio_SR = log_ratio_SR.clamp(-bound, bound)
        given_SR = _laid_out(config, config.beta1 * log_ratio_SR, real_SR, tokens_SR)
    return TokenReward(
        reward_SR=given_SR + kl_SR + score_SR, dpo_SR=given_SR, kl_SR=kl_SR, score_SR=score_SR, clipped_SR=clipped_SR
    )


def last_tokens(real_SR: Tensor) -> Tensor:
    """Which tokens are the last of their response [S, R], bool."""
    follows_SR = torch.zeros_like(real_SR)
    follows_SR[:, :-1] = real_SR[:, 1:]
    return real_SR & ~follows_SR


def sentence_ends(
    real_SR: Tensor, *, tokens_SR: Tensor | None, delimiters: tuple[int, ...], every: int | None
) -> Tensor:
    """Which tokens end a sentence [S, R], bool: a delimiter, every so many-th token, and the last in any case."""
    ends_SR = last_tokens(real_SR)
    if every is not None:
        places_R = torch.arange(real_SR.shape[1], device=real_SR.device)
        ends_SR = ends_SR | ((places_R + 1) % every == 0)
    if delimiters:
        assert tokens_SR is not None, "delimiters are found among the tokens"
        ends_SR = ends_SR | torch.isin(tokens_SR, torch.tensor(delimiters, device=tokens_SR.device))
    return ends_SR & real_SR


def _laid_out(config: TokenRewardConfig, dpo_SR: Tensor, real_SR: Tensor, tokens_SR: Tensor | None) -> Tensor:
    """The DPO part where the layout puts it."""
    last_SR = last_tokens(real_SR)
    match config.layout:
        case "rto":
            return dpo_SR
        case "ddpo":
            return _at(last_SR, dpo_SR.sum(dim=1))
        case "rs_ppo":
            return dpo_SR - _at(last_SR, dpo_SR.sum(dim=1))
        case "semi_rto":
            ends_SR = sentence_ends(real_SR, tokens_SR=tokens_SR, delimiters=config.delimiters, every=config.sentence)
            return _moved_to(ends_SR, dpo_SR)
        case "ppo":
            return torch.zeros_like(dpo_SR)


def _moved_to(ends_SR: Tensor, values_SR: Tensor) -> Tensor:
    """At each end the sum since the end before; zero elsewhere. The last real token is an end."""
    before_SR = ends_SR.long().cumsum(dim=1) - ends_SR.long()  # ends before a token: the number of its sentence
    sums_SR = torch.zeros_like(values_SR).scatter_add(1, before_SR.clamp(max=values_SR.shape[1] - 1), values_SR)
    return torch.where(ends_SR, sums_SR.gather(1, before_SR.clamp(max=values_SR.shape[1] - 1)), 0.0)


def _at(places_SR: Tensor, values_S: Tensor) -> Tensor:
    """The values at the places of their rows; zero elsewhere."""
    return torch.where(places_SR, values_S[:, None], 0.0)


def _real(values_SR: Tensor, real_SR: Tensor) -> Tensor:
    """The values where a token is real; zero elsewhere, whatever stands there."""
    return torch.where(real_SR, values_SR, 0.0)
