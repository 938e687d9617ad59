"""Amplitudes from determinants: log|psi| and the sign (or phase) of psi, whatever the size of psi."""

# W walkers   K determinants   E electrons, which are both rows and columns

from typing import TypeAlias

import torch
from torch import Tensor

LogPsi: TypeAlias = tuple[Tensor, Tensor]  # log|psi| (-inf where psi = 0), and psi/|psi|: +-1, or complex


def log_sum_of_determinants(orbitals_WKEE: Tensor) -> LogPsi:
    """log|psi| and psi/|psi| of psi = sum_k det(orbitals_k) (Gu et al. 2025, Supp. 1.1).

        psi = exp(m) sum_k sign_k exp(log|det_k| - m)        m = max_k log|det_k|

    Determinants are taken in float64 (or complex128). Returns log_abs_W, -inf where psi is 0, and sign_W of the
    determinants' type, 1 where psi is 0. Where a determinant is exactly 0, its matrix has gradient 0, and where psi is
    0, all matrices of that walker have: neither spoils the gradients of the others.
    """
    orbitals_WKEE = orbitals_WKEE.to(torch.complex128 if orbitals_WKEE.is_complex() else torch.float64)
    sign_WK, log_abs_WK = _log_determinants(orbitals_WKEE)
    if orbitals_WKEE.shape[-3] == 1:
        return log_abs_WK.squeeze(-1), sign_WK.squeeze(-1)
    most_W1 = log_abs_WK.detach().amax(-1, keepdim=True)
    most_W1 = most_W1.masked_fill(most_W1 == -torch.inf, 0.0)
    sum_W = (sign_WK * (log_abs_WK - most_W1).exp()).sum(-1)
    zero_W = sum_W == 0
    sum_W = sum_W.masked_fill(zero_W, 1.0)
    log_abs_W = (sum_W.abs().log() + most_W1.squeeze(-1)).masked_fill(zero_W, -torch.inf)
    return log_abs_W, sum_W / sum_W.abs() if sum_W.is_complex() else sum_W.sign()


def _log_determinants(matrices: Tensor) -> LogPsi:
    """sign and log|det| of [..., E, E]; of a singular one 1 and -inf, with a gradient of 0."""
    sign, log_abs = torch.linalg.slogdet(matrices.detach())
    singular = log_abs == -torch.inf
    if torch.is_grad_enabled():
        # The derivative holds the inverse. A matrix that has none gives way to the identity before it is taken:
        # masking afterwards would leave 0 * inf. A second factorisation costs less than the network does by far.
        identity = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
        sign, log_abs = torch.linalg.slogdet(torch.where(singular[..., None, None], identity, matrices))
    return sign.masked_fill(singular, 1.0), log_abs.masked_fill(singular, -torch.inf)
