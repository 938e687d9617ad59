"""From token rewards to advantages: with a critic, without one, and against the other responses of a prompt."""

# S responses   G responses of a prompt   R tokens of a response, padded on the right   T = R + 1 states

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.rto.token_reward import last_tokens


def generalized_advantage(
    reward_SR: Tensor,
    value_ST: Tensor,
    real_SR: Tensor,
    *,
    discount: float,
    gae_lambda: float,
    bootstrap_S: Tensor | None = None,
) -> Tensor:
    """The advantage of each token, zero where none is real (Schulman et al. 2016, eq. 16).

        A_t = sum_l (gamma lambda)^l delta_{t+l},  delta_t = r_t + gamma V(s_{t+1}) - V(s_t)

    The state after the last token is the end and worth 0; in a response where `bootstrap_S` is true it is no end, only
    where sampling stopped, and its value counts.
    """
    goes_on_SR = real_SR & ~last_tokens(real_SR)
    if bootstrap_S is not None:
        goes_on_SR = goes_on_SR | (last_tokens(real_SR) & bootstrap_S[:, None])
    next_SR = torch.where(goes_on_SR, value_ST[:, 1:], 0.0)
    delta_SR = torch.where(real_SR, reward_SR + discount * next_SR - value_ST[:, :-1], 0.0)
    return discounted_sum(delta_SR, discount * gae_lambda)


def return_to_go(reward_SR: Tensor, real_SR: Tensor, discount: float) -> Tensor:
    """What each token and those after it earn, zero where none is real: REINFORCE++'s (arXiv 2501.03262).

    G_t = sum_l gamma^l r_{t+l}
    """
    return discounted_sum(torch.where(real_SR, reward_SR, 0.0), discount)


def discounted_sum(values_SR: Tensor, decay: float) -> Tensor:
    """sum_l decay^l x_{t+l} at each t, in log2(R) steps, each of which doubles how far the sums reach."""
    sums_SR, reach = values_SR, 1
    while reach < values_SR.shape[1]:
        sums_SR = sums_SR + decay**reach * F.pad(sums_SR[:, reach:], (0, reach))
        reach *= 2
    return sums_SR


def whitened(values_SR: Tensor, real_SR: Tensor) -> Tensor:
    """Mean 0 and variance 1 over all real tokens; zero elsewhere. The variance is the biased one, as in RTO's code."""
    values_N = values_SR[real_SR]
    variance = values_N.var(correction=0).clamp(min=1e-8)
    return torch.where(real_SR, (values_SR - values_N.mean()) * variance.rsqrt(), 0.0)


def group_advantage(reward_SR: Tensor, real_SR: Tensor, discount: float, group: int) -> Tensor:
    """How much more each token and those after it earn than the group does from there; rows stand group after group.

        A_t = (G_t - mean of the group's G_t) / (std of the group's G_0 + 1e-4)

    A response that has ended counts with G at its last token. Where only last tokens are rewarded this is GRPO's
    outcome advantage (arXiv 2402.03300, section 4.1.2; 1e-4 as in TRL). Unlike its process advantage (section 4.1.3)
    no mean of single rewards is taken off, as that would make the sum over the rest depend on how many tokens follow.

    Dividing by the group's own spread biases the gradient (Liu et al. 2025, arXiv 2503.20783): on T3 a group of 8 ends
    at a total variation of 0.10 from the exact optimum, and drifts to 0.09 when it starts there; of 512, at 0.02.
    """
    to_go_SR = return_to_go(reward_SR, real_SR, discount)
    at_end_S = torch.where(last_tokens(real_SR), to_go_SR, 0.0).sum(dim=1)
    counted_SGR = torch.where(real_SR, to_go_SR, at_end_S[:, None]).unflatten(0, (-1, group))
    spread_S11 = counted_SGR[:, :, :1].std(dim=1, correction=0, keepdim=True) + 1e-4
    advantage_SGR = (counted_SGR - counted_SGR.mean(dim=1, keepdim=True)) / spread_S11
    return torch.where(real_SR, advantage_SGR.flatten(0, 1), 0.0)


def explained_variance(value_N: Tensor, return_N: Tensor) -> float:
    """Share of the returns' variance that the values account for: 1 at best, 0 for a constant, below that for worse."""
    variance = return_N.var(correction=0)
    return 0.0 if variance == 0 else float(1.0 - (return_N - value_N).var(correction=0) / variance)
