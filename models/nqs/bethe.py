"""The half-filled Hubbard ring of any length, and the infinite chain, by the Bethe ansatz of Lieb and Wu.

Lieb and Wu, Physical Review Letters 20, 1445 (1968); Physica A 321, 1 (2003) gives the derivation.

L sites and electrons   R = L / 2 rapidities of the down electrons   I intervals of an integral
"""

from math import pi

import numpy as np
import torch
from numpy.typing import NDArray

from models.common.errors import ConfigError, TrainingError

Array = NDArray[np.float64]

LEAST_U = 0.001
EASY_U = 8.0  # from here upward, Newton's method finds the roots from the estimate of large U
MOST_STEPS = 100
TOLERANCE = 1e-13


def half_filled_ring_energy(sites: int, U: float, t: float = 1.0) -> float:
    """The ground-state energy of a periodic chain of L = 4n + 2 sites with L/2 electrons of each spin.

        E = -2 t sum_j cos k_j

    over the roots of the Bethe equations (`_bethe_residuals`). Raises ConfigError for other lengths, whose ground state
    is degenerate at U = 0 and has other quantum numbers, and for U/t that is not positive.
    """
    _require_repulsion(U, t)
    if sites < 6 or sites % 4 != 2:
        near = max(6, sites - (sites - 2) % 4)
        raise ConfigError(
            f"a ring of {sites} sites is no closed shell at half filling\nfits: 6, 10, 14, ..; try {near}"
        )
    target = U / t
    coupling = max(target, EASY_U)
    k_L = 2 * pi * _centred(sites) / sites
    rapidity_R = coupling / 4 * np.tan(pi * _centred(sites // 2) / sites)
    roots = _newton(np.concatenate([k_L, rapidity_R]), sites, coupling)
    while coupling > target:  # the roots move steadily with U, down to where no simple estimate holds
        coupling = max(target, coupling * 0.7)
        roots = _newton(roots, sites, coupling)
    return float(-2 * t * np.cos(roots[:sites]).sum())


def infinite_chain_energy(U: float, t: float = 1.0) -> float:
    """The ground-state energy per site of the infinite half-filled chain (Lieb and Wu 1968, eq. 20).

        E / L = -4 t int_0^inf J0(w) J1(w) / (w (1 + exp(w U / 2t))) dw

    By Gauss and Legendre's rule of 20 points on intervals that resolve both the Bessel functions and the exponential,
    to where the exponential is below 1e-17. Raises ConfigError for U/t that is not positive.
    """
    _require_repulsion(U, t)
    node_20, weight_20 = np.polynomial.legendre.leggauss(20)
    width, end = min(1.0, 2 * t / U), 80 * t / U
    begin_I = np.arange(int(np.ceil(end / width))) * width
    w = torch.from_numpy((begin_I[:, None] + width * (node_20 + 1) / 2).ravel())
    weight = torch.from_numpy(np.tile(width * weight_20 / 2, len(begin_I)))
    falling = torch.exp(-w * U / (2 * t))  # 1 / (1 + e^x) as e^-x / (1 + e^-x), which does not overflow
    bessel = torch.special.bessel_j0(w) * torch.special.bessel_j1(w)
    return float(-4 * t * (weight * bessel / w * falling / (1 + falling)).sum())


def _require_repulsion(U: float, t: float) -> None:
    if t <= 0 or U / t < LEAST_U:
        raise ConfigError(f"U={U:g}, t={t:g}: the Bethe equations are for repulsion\nfits: t > 0 and U/t >= {LEAST_U}")


def _centred(count: int) -> Array:
    """The quantum numbers -(count-1)/2, ..., (count-1)/2 of the ground state."""
    return np.arange(count, dtype=np.float64) - (count - 1) / 2


def _bethe_residuals(roots: Array, sites: int, U: float) -> tuple[Array, Array]:
    """What is left of the logarithmic Bethe equations, and its derivatives; zero at the roots (k_j, Lambda_a).

        L k_j = 2 pi I_j - 2 sum_b atan(4 (sin k_j - Lambda_b) / U)
        2 sum_j atan(4 (Lambda_a - sin k_j) / U) = 2 pi J_a + 2 sum_b atan(2 (Lambda_a - Lambda_b) / U)

    with I_j and J_a without gaps around 0 in the ground state.
    """
    k_L, rapidity_R = roots[:sites], roots[sites:]
    charge_LR = 4 * (np.sin(k_L)[:, None] - rapidity_R) / U
    spin_RR = 2 * (rapidity_R[:, None] - rapidity_R) / U
    slope_LR, slope_RR = 8 / U / (1 + charge_LR**2), 4 / U / (1 + spin_RR**2)
    of_k = sites * k_L - 2 * pi * _centred(sites) + 2 * np.arctan(charge_LR).sum(axis=1)
    of_rapidity = -2 * np.arctan(charge_LR).sum(axis=0) - 2 * pi * _centred(sites // 2)
    of_rapidity -= 2 * np.arctan(spin_RR).sum(axis=1)
    cosine_LR = np.cos(k_L)[:, None] * slope_LR
    jacobian = np.block(
        [
            [np.diag(sites + cosine_LR.sum(axis=1)), -slope_LR],
            [-cosine_LR.T, np.diag(slope_LR.sum(axis=0) - slope_RR.sum(axis=1)) + slope_RR],
        ]
    )
    return np.concatenate([of_k, of_rapidity]), jacobian


def _newton(roots: Array, sites: int, U: float) -> Array:
    """The roots near an estimate, by Newton's method; a step is halved while it makes the residuals larger."""
    residuals, jacobian = _bethe_residuals(roots, sites, U)
    for _ in range(MOST_STEPS):
        step = np.linalg.solve(jacobian, residuals)
        share = 1.0
        while share > 1e-6:
            trial, trial_jacobian = _bethe_residuals(roots - share * step, sites, U)
            if np.abs(trial).max() < np.abs(residuals).max():
                break
            share /= 2
        else:
            break  # no step improves: this is rounding, or the estimate was too far away
        roots, residuals, jacobian = roots - share * step, trial, trial_jacobian
    if np.abs(residuals).max() > TOLERANCE * sites * 100:
        raise TrainingError(
            f"the Bethe equations for {sites} sites at U={U:g} have residual {np.abs(residuals).max():.1e}"
        )
    return roots
