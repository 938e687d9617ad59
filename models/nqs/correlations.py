"""Estimators that move electrons: kinetic energy, momentum distribution and pairs of electrons.

The local value of an operator O at n is sum_n' <n|O|n'> psi(n') / psi(n); its mean over |psi|^2 is <O>. Values are real
parts, as the operators here are hermitian; float64, one a walker.

W walkers   N sites, site = x * Ly + y   M = 2N spin-orbitals, all up, then all down   X = Lx   Y = Ly
C connected configurations   Q ordered pairs of neighbouring sites (electron up, electron down)
"""

from collections.abc import Iterator
from itertools import product
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.nqs.hamiltonian import Hubbard, LogPsi, Psi, local_energy
from models.nqs.observables import momenta
from models.nqs.system import SystemConfig

Pairing = Literal["d", "s", "onsite"]


def kinetic_energy(
    hubbard: Hubbard, psi: Psi, occupied_WM: Tensor, log_psi: LogPsi | None = None, chunk: int = 8192
) -> Tensor:
    """kinetic_W: the local energy without U and fields; total."""
    energy_W = local_energy(hubbard, psi, occupied_WM, log_psi, chunk)
    return (energy_W.real if energy_W.is_complex() else energy_W) - hubbard.diagonal(occupied_WM)


@torch.no_grad()
def one_body_matrix(psi: Psi, occupied_WM: Tensor, log_psi: LogPsi | None = None, chunk: int = 8192) -> Tensor:
    """G_W2NN: the local value of c+_i c_j for up [:, 0] and down [:, 1]; float64, or complex128 where psi is.

    An electron of n at i comes from j in n'. The sign is that of the electrons between the two; `psi` sees at most
    `chunk` configurations at once, in all about N_up (N - N_up) + N_dn (N - N_dn) a walker.
    """
    sites = occupied_WM.shape[1] // 2
    log_W, sign_W = psi(occupied_WM) if log_psi is None else log_psi
    spin_W2N = occupied_WM.unflatten(1, (2, sites))
    matrix_W2NN = torch.diag_embed(spin_W2N.to(sign_W.dtype))
    places = (spin_W2N[..., :, None] & ~spin_W2N[..., None, :]).nonzero()
    for walker_C, spin_C, site_C, origin_C in (part.unbind(1) for part in places.split(chunk)):
        occupied_CM, order_C = _moved(occupied_WM[walker_C], site_C + spin_C * sites, origin_C + spin_C * sites)
        ratio_C = _ratio(psi, occupied_CM, log_W[walker_C], sign_W[walker_C])
        matrix_W2NN[walker_C, spin_C, site_C, origin_C] = order_C * ratio_C
    return matrix_W2NN


def momentum_distribution(system: SystemConfig, matrix_W2NN: Tensor) -> Tensor:
    """n_W2XY(k) = (1/N) sum_ij exp(i k (r_i - r_j)) G_ij = c+_k c_k, for each spin, at the momenta of `band_momenta`.

    sum_k n(k) is the number of electrons of the spin.
    """
    site_N2 = np.stack(np.divmod(np.arange(system.sites), system.shape[1]), axis=1)
    phase_KN = np.exp(1j * band_momenta(system).reshape(-1, 2) @ site_N2.T)
    phase_KN = torch.from_numpy(phase_KN).to(matrix_W2NN.device)
    by_momentum = torch.einsum("ki,wsij,kj->wsk", phase_KN, matrix_W2NN.to(torch.complex128), phase_KN.conj())
    return by_momentum.real.unflatten(2, system.shape) / system.sites


def band_momenta(system: SystemConfig) -> NDArray[np.float64]:
    """momentum_XY2 of single electrons: those of `momenta`, moved by the boundary's phase over the length.

    c+_k = N^-1/2 sum_j exp(i k r_j) c+_j; a boundary makes c_(x+L) = exp(i pi twist) c_x, so that exp(i k L) is that
    phase, and -1 where it is antiperiodic.
    """
    turn = [
        1.0 if boundary == "antiperiodic" else twist
        for boundary, twist in zip(system.boundaries, system.twists, strict=True)
    ]
    return momenta(system) + np.pi * np.array(turn) / np.array(system.shape)


@torch.no_grad()
def pair_matrix(
    system: SystemConfig,
    pairing: Pairing,
    psi: Psi,
    occupied_WM: Tensor,
    log_psi: LogPsi | None = None,
    chunk: int = 8192,
) -> Tensor:
    """P_WNN: the local value of Delta+_i Delta_j, real part.

        Delta_i = (1/2) sum_delta f(delta) (c_i,up c_i+delta,dn - c_i,dn c_i+delta,up) / sqrt(2)
        onsite:   Delta_i = c_i,dn c_i,up

    over the neighbours delta = +-x, +-y that the lattice has; f = 1 along x, and along y -1 for "d", 1 for "s". In all
    about N^2 configurations a walker.
    """
    log_W, sign_W = psi(occupied_WM) if log_psi is None else log_psi
    up_Q, down_Q, weight_QN = (torch.from_numpy(part).to(occupied_WM.device) for part in _pairs(system, pairing))
    matrix_WNN = torch.zeros(
        len(occupied_WM), system.sites, system.sites, dtype=torch.float64, device=occupied_WM.device
    )
    for walkers in torch.arange(len(occupied_WM), device=occupied_WM.device).split(max(1, chunk // len(up_Q))):
        occupied_wM = occupied_WM[walkers]
        value_wQQ = torch.zeros(len(walkers), len(up_Q), len(up_Q), dtype=torch.float64, device=occupied_WM.device)
        for index_C, value_C in _pair_moves(psi, occupied_wM, up_Q, down_Q, log_W[walkers], sign_W[walkers], chunk):
            value_wQQ[index_C.unbind(1)] = value_C
        matrix_WNN[walkers] = weight_QN.T @ value_wQQ @ weight_QN
    return matrix_WNN


def _pair_moves(
    psi: Psi, occupied_WM: Tensor, up_Q: Tensor, down_Q: Tensor, log_W: Tensor, sign_W: Tensor, chunk: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Local values of c+_a,up c+_b,dn c_d,dn c_c,up = (c+_a,up c_c,up)(c+_b,dn c_d,dn), a chunk of them at a time.

    `index_C3` is (walker, pair (a, b), pair (c, d)). Up electrons stay among up electrons, so that the signs of the
    two moves multiply.
    """
    sites = occupied_WM.shape[1] // 2
    up_WQ, down_WQ = occupied_WM[:, up_Q], occupied_WM[:, sites + down_Q]
    up_moves_WQQ = up_WQ[:, :, None] & (~up_WQ[:, None, :] | (up_Q[:, None] == up_Q))
    down_moves_WQQ = down_WQ[:, :, None] & (~down_WQ[:, None, :] | (down_Q[:, None] == down_Q))
    for index_C3 in (up_moves_WQQ & down_moves_WQQ).nonzero().split(chunk):
        walker_C, to_C, from_C = index_C3.unbind(1)
        occupied_CM, up_order_C = _moved(occupied_WM[walker_C], up_Q[to_C], up_Q[from_C])
        occupied_CM, down_order_C = _moved(occupied_CM, sites + down_Q[to_C], sites + down_Q[from_C])
        ratio_C = _ratio(psi, occupied_CM, log_W[walker_C], sign_W[walker_C])
        yield index_C3, up_order_C * down_order_C * (ratio_C.real if ratio_C.is_complex() else ratio_C)


def by_distance(system: SystemConfig, matrix_WNN: Tensor) -> Tensor:
    """value_WXY: the mean of a matrix over all pairs of sites at each distance.

    Along a periodic direction r = (r_j - r_i) modulo its length; along an open one r = |r_j - r_i|, from 0 to L - 1.
    """
    distance_NN, count_R = _distances(system)
    distance_NN = torch.from_numpy(distance_NN).to(matrix_WNN.device)
    sums_WR = torch.zeros(len(matrix_WNN), len(count_R), dtype=matrix_WNN.dtype, device=matrix_WNN.device)
    sums_WR.index_add_(1, distance_NN.flatten(), matrix_WNN.flatten(1))
    return (sums_WR / torch.from_numpy(count_R).to(matrix_WNN.device)).unflatten(1, system.shape)


def _moved(occupied_CM: Tensor, from_C: Tensor, to_C: Tensor) -> tuple[Tensor, Tensor]:
    """(configuration, sign) of c+_to c_from on each row; unchanged with sign 1 where the two are the same."""
    occupied_CM = occupied_CM.scatter(1, from_C[:, None], False)  # noqa: FBT003 the value to write
    below_CM = occupied_CM.cumsum(dim=1, dtype=torch.int32)
    lower_C, upper_C = torch.minimum(from_C, to_C)[:, None], torch.maximum(from_C, to_C)[:, None]
    # Neither end is occupied now, so that the difference counts the electrons strictly between.
    between_C = (below_CM.gather(1, upper_C) - below_CM.gather(1, lower_C)).squeeze(1)
    occupied_CM = occupied_CM.scatter(1, to_C[:, None], True)  # noqa: FBT003 the value to write
    return occupied_CM, 1.0 - 2.0 * (between_C % 2).double()


def _ratio(psi: Psi, occupied_CM: Tensor, log_C: Tensor, sign_C: Tensor) -> Tensor:
    """psi(n') / psi(n)."""
    log_new_C, sign_new_C = psi(occupied_CM)
    return (log_new_C - log_C).exp() * sign_new_C * sign_C.conj()


def _pairs(system: SystemConfig, pairing: Pairing) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """(up_Q, down_Q, weight_QN): Delta_i = sum_q weight_qi c_up(q),up c_down(q),dn; "onsite" with the sign turned.

    c_i,up c_j,dn - c_i,dn c_j,up = c_i,up c_j,dn + c_j,up c_i,dn: one ordered pair and its mirror image.
    """
    length_x, length_y = system.shape
    weights: dict[tuple[int, int, int], float] = {}
    for x, y in product(range(length_x), range(length_y)):
        site = x * length_y + y
        if pairing == "onsite":
            weights[site, site, site] = 1.0
            continue
        for other, axis in _neighbours(system, x, y):
            factor = (-1.0 if pairing == "d" and axis == 1 else 1.0) / 8**0.5
            for up, down in ((site, other), (other, site)):
                weights[up, down, site] = weights.get((up, down, site), 0.0) + factor
    place = {pair: q for q, pair in enumerate(sorted({(up, down) for up, down, _ in weights}))}
    weight_QN = np.zeros((len(place), system.sites))
    for (up, down, site), weight in weights.items():
        weight_QN[place[up, down], site] = weight
    up_Q, down_Q = np.array(list(place), dtype=np.int64).reshape(-1, 2).T
    return up_Q.copy(), down_Q.copy(), weight_QN


def _neighbours(system: SystemConfig, x: int, y: int) -> set[tuple[int, int]]:
    """(site, axis) of the nearest neighbours, each once."""
    found = set()
    for axis, step in product((0, 1), (-1, 1)):
        place = [x, y]
        place[axis] += step
        length, boundary = system.shape[axis], system.boundaries[axis]
        if length > 1 and (0 <= place[axis] < length or boundary != "open"):
            place[axis] %= length
            found.add((place[0] * system.shape[1] + place[1], axis))
    return found


def _distances(system: SystemConfig) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(distance_NN, count_R): the number r_x * Ly + r_y of the distance from i to j, and how many pairs have it."""
    place_2N = np.stack(np.divmod(np.arange(system.sites), system.shape[1]))
    between = [
        np.abs(place_N - place_N[:, None]) if boundary == "open" else (place_N - place_N[:, None]) % length
        for place_N, length, boundary in zip(place_2N, system.shape, system.boundaries, strict=True)
    ]
    distance_NN = between[0] * system.shape[1] + between[1]
    return distance_NN, np.bincount(distance_NN.flatten(), minlength=system.sites).astype(np.float64)
