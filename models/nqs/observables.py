"""What a configuration says about densities, spins and their correlations: estimators that need no amplitude.

Each returns one value a walker, float64; how walkers are weighted is the caller's.

W walkers   N sites, site = x * Ly + y   M = 2N spin-orbitals, all up, then all down   X = Lx   Y = Ly
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.nqs.system import SystemConfig


def densities(occupied_WM: Tensor) -> Tensor:
    """density_W2N: 1 where there is an electron with spin up [:, 0], with spin down [:, 1]."""
    return occupied_WM.double().unflatten(1, (2, -1))


def double_occupancy(occupied_WM: Tensor) -> Tensor:
    """double_W = (1/N) sum_i n_i,up n_i,dn."""
    return densities(occupied_WM).prod(dim=1).mean(dim=1)


def spin_profile(occupied_WM: Tensor) -> Tensor:
    """spin_WN: S^z_i = (n_i,up - n_i,dn) / 2."""
    density_W2N = densities(occupied_WM)
    return (density_W2N[:, 0] - density_W2N[:, 1]) / 2


def staggered_profile(system: SystemConfig, occupied_WM: Tensor) -> Tensor:
    """staggered_WN: (-1)^(x+y) S^z_i; a domain wall of a stripe is where its sign turns."""
    x, y = np.divmod(np.arange(system.sites), system.shape[1])
    sign_N = torch.from_numpy((-1.0) ** (x + y)).to(occupied_WM.device)
    return sign_N * spin_profile(occupied_WM)


def holes_per_column(system: SystemConfig, occupied_WM: Tensor) -> Tensor:
    """hole_WX = 1 - (1/Ly) sum_y (n_up + n_dn): the density of holes in each column of constant x."""
    return 1 - densities(occupied_WM).sum(dim=1).unflatten(1, system.shape).mean(dim=2)


def spin_structure(system: SystemConfig, occupied_WM: Tensor) -> Tensor:
    """S_WXY(q) = (1/N) |sum_j exp(-i q r_j) S^z_j|^2 at the momenta of `momenta`.

    sum_q S(q) = sum_j (S^z_j)^2. An order along z of wave vector (pi, pi) is S[:, Lx/2, Ly/2].
    """
    return _structure(system, spin_profile(occupied_WM))


def charge_structure(system: SystemConfig, occupied_WM: Tensor) -> Tensor:
    """N_WXY(q) = (1/N) |sum_j exp(-i q r_j) (n_j - n)|^2, n the filling (N_up + N_dn) / N.

    The mean density at each site is not taken off: where it varies, as in a stripe, N(q) has its square as well.
    """
    filling = sum(system.particles) / system.sites
    return _structure(system, densities(occupied_WM).sum(dim=1) - filling)


def momenta(system: SystemConfig) -> NDArray[np.float64]:
    """momentum_XY2: q = 2 pi (m_x / Lx, m_y / Ly), m = 0, 1, ..., in the order of an FFT.

    The same along open directions, where momentum is not conserved and q labels standing waves. The phase of a
    boundary is not in it, as spin and charge do not feel it.
    """
    axes = [2 * np.pi * np.arange(length) / length for length in system.shape]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def _structure(system: SystemConfig, value_WN: Tensor) -> Tensor:
    return torch.fft.fft2(value_WN.unflatten(1, system.shape)).abs() ** 2 / system.sites
