"""Amplitudes from determinants: log|psi| and the sign (or phase) of psi, whatever the size of psi."""

# W walkers   K determinants   E electrons, which are both rows and columns

import torch
from torch import Tensor

from models.nqs.hamiltonian import LogPsi


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
    return log_sum(log_abs_WK, sign_WK)


def log_sum(log_WK: Tensor, factor_WK: Tensor) -> LogPsi:
    """(log |sum_k factor_k exp(log_k)|, its sign or phase) of each walker, with the largest exponent taken out.

    -inf with sign 1 where the sum is zero. `factor_WK` is real or complex; gradients flow through both.
    """
    largest_W = log_WK.detach().amax(dim=1)
    largest_W = torch.where(largest_W.isfinite(), largest_W, torch.zeros_like(largest_W))
    sum_W = (factor_WK * (log_WK - largest_W[:, None]).exp()).sum(dim=1)
    is_zero_W = sum_W == 0
    safe_W = torch.where(is_zero_W, torch.ones_like(sum_W), sum_W)  # so that log and division have a gradient
    size_W = safe_W.abs()
    log_W = torch.where(is_zero_W, torch.full_like(largest_W, -torch.inf), size_W.log() + largest_W)
    return log_W, safe_W / size_W if sum_W.is_complex() else safe_W.sign()


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
