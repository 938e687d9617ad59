"""The losses of PPO on the real response tokens of a batch, and what is estimated from the same numbers."""

# N real response tokens   S responses   R tokens of a response, padded on the right

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def policy_loss(log_probs_N: Tensor, old_log_probs_N: Tensor, advantage_N: Tensor, clip: float) -> Tensor:
    """Minus the clipped surrogate of each token [N] (Schulman et al. 2017, eq. 7).

    -min(ratio A, clip(ratio, 1 - eps, 1 + eps) A),  ratio = pi(y) / pi_old(y)
    """
    ratio_N = (log_probs_N - old_log_probs_N).exp()
    return -torch.minimum(ratio_N * advantage_N, ratio_N.clamp(1.0 - clip, 1.0 + clip) * advantage_N)


def value_loss(value_N: Tensor, old_value_N: Tensor, return_N: Tensor, clip: float | None) -> Tensor:
    """Half the squared error of each token's value [N]; the larger one, where a value has moved beyond the clip.

        0.5 max((V - G)^2, (V_old + clip(V - V_old, +-eps) - G)^2)

    Not in the PPO paper; OpenRLHF's and so RTO's code has it.
    """
    error_N = (value_N - return_N) ** 2
    if clip is not None:
        moved_N = old_value_N + (value_N - old_value_N).clamp(-clip, clip)
        error_N = torch.maximum(error_N, (moved_N - return_N) ** 2)
    return 0.5 * error_N


def token_weights(real_SR: Tensor, reduction: Literal["token", "sequence"]) -> Tensor:
    """How much each token counts in the loss [S, R]; they sum to 1, and are zero where no token is real.

    token: all alike. sequence: a response's tokens share its weight, as in RTO's code. Taken of a whole batch, the
    weighted sum over its pieces is the batch's loss, however it was cut up.
    """
    if reduction == "token":
        return real_SR / real_SR.sum()
    lengths_S = real_SR.sum(dim=1)
    return real_SR / lengths_S.clamp(min=1)[:, None] / (lengths_S > 0).sum()


def clip_fraction(log_probs_N: Tensor, old_log_probs_N: Tensor, clip: float) -> Tensor:
    """Which tokens' probability ratio is beyond the clip [N], as 0 or 1."""
    return (((log_probs_N - old_log_probs_N).exp() - 1.0).abs() > clip).float()


def kl_k1(log_probs: Tensor, reference: Tensor) -> Tensor:
    """log p/q of samples of p: KL(p, q) in the mean, and of either sign (Schulman 2020, "Approximating KL")."""
    return log_probs - reference


def kl_k2(log_probs: Tensor, reference: Tensor) -> Tensor:
    """Half the squared log p/q of samples of p: biased, of low variance, never negative (Schulman 2020)."""
    return 0.5 * (log_probs - reference) ** 2


def kl_k3(log_probs: Tensor, reference: Tensor) -> Tensor:
    """q/p - 1 - log q/p of samples of p: KL(p, q) in the mean, and never negative (Schulman 2020)."""
    return torch.expm1(reference - log_probs) - (reference - log_probs)
