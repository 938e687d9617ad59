"""Exact diagonalisation, and closed forms, of small systems.

The ground state is kept as a matrix X with a row for each pattern of up electrons and a column for each of down ones:

    H X = T_up X + X T_dn^T + U (Occ_up Occ_dn^T) * X,      * elementwise

(Lin, Gubernatis, Gould and Tobochnik, Computers in Physics 7, 400 (1993).)

N sites   M = 2N spin-orbitals   R patterns of one spin (rows), C of the other (columns)   D = R C configurations
K degenerate ground states
"""

from dataclasses import dataclass
from math import comb, sqrt
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.common.errors import ConfigError
from models.nqs.hamiltonian import Hubbard
from models.nqs.lanczos import Eigenpair, lowest_eigenpair
from models.nqs.lattice import bonds, fields
from models.nqs.sector import Sector, patterns
from models.nqs.system import SystemConfig

MEMORY = 2_500_000_000  # bytes of state vectors
FEWEST_VECTORS, MOST_VECTORS, WORK_VECTORS = 6, 60, 4
DENSE_STATES = 500  # up to here, all eigenvalues at once are the quickest
COUNTED_STATES = 1_000_000  # up to here, the degeneracy is looked at: it takes one more run for every state
MATRIX_STATES = 100_000  # of `full_matrix`
RESIDUAL = 1e-9
SAME_LEVEL = 1e-8
BLOCK = 1 << 20  # elements of X that are transposed at once


@dataclass(frozen=True)
class GroundState:
    """The lowest energy of a sector; `degeneracy` is None where it was not looked at (beyond 1e6 states)."""

    energy: float
    dimension: int
    residual: float  # norm of H v - E v
    method: str
    degeneracy: int | None


@dataclass(frozen=True, eq=False)
class Observables:
    """Expectation values in the ground state; in the equal mixture of all of them where there are several."""

    energy: float
    degeneracy: int | None
    double_occupancy: float  # (1 / N) sum_i <n_i,up n_i,dn>
    density_up_N: Tensor
    density_dn_N: Tensor
    spin_NN: Tensor  # <Sz_i Sz_j>, Sz = (n_up - n_dn) / 2
    charge_NN: Tensor  # <n_i n_j> - <n_i> <n_j>, n = n_up + n_dn


def ground_state(system: SystemConfig) -> GroundState:
    """The exact ground state's energy in the system's sector; raises ConfigError where it takes too much memory.

    Up to 500 states by dense diagonalisation, beyond by Lanczos: 4x4 with 5+5 electrons (19 million states) in minutes.
    """
    energy, vectors_KD, residual, method = _ground_space(system)
    dimension = vectors_KD.shape[1]
    counted = dimension <= COUNTED_STATES
    return GroundState(energy, dimension, residual, method, len(vectors_KD) if counted else None)


def ground_observables(system: SystemConfig) -> Observables:
    """Densities, double occupancy and correlations of the exact ground state; raises ConfigError as `ground_state`."""
    energy, vectors_KD, _, _ = _ground_space(system)
    up_RN, down_CN = (_occupations(system.sites, count) for count in system.particles)
    weight_RC = vectors_KD.abs().square().mean(dim=0).reshape(len(up_RN), len(down_CN))
    up_up = up_RN.T @ (weight_RC.sum(dim=1)[:, None] * up_RN)
    down_down = down_CN.T @ (weight_RC.sum(dim=0)[:, None] * down_CN)
    up_down = up_RN.T @ weight_RC @ down_CN
    up_N, down_N = up_up.diagonal(), down_down.diagonal()  # n is its own square
    density_N = up_N + down_N
    return Observables(
        energy=energy,
        degeneracy=len(vectors_KD) if vectors_KD.shape[1] <= COUNTED_STATES else None,
        double_occupancy=float(up_down.diagonal().mean()),
        density_up_N=up_N,
        density_dn_N=down_N,
        spin_NN=(up_up + down_down - up_down - up_down.T) / 4,
        charge_NN=up_up + down_down + up_down + up_down.T - density_N[:, None] * density_N,
    )


def full_matrix(system: SystemConfig) -> Tensor:
    """H over the whole sector as a sparse D x D tensor in the order of `Sector.all`, by `Hubbard.connected`.

    For up to 100 000 states; raises ConfigError beyond.
    """
    sector = Sector(system.sites, *system.particles)
    if sector.dimension > MATRIX_STATES:
        raise ConfigError(
            f"{system.label}: the matrix has {sector.dimension} rows\nfits: up to {MATRIX_STATES}; use ground_state"
        )
    hubbard, occupied_DM = Hubbard(system), sector.all()
    row_C, occupied_CM, element_C = hubbard.connected(occupied_DM)
    row_D = torch.arange(sector.dimension)
    place = torch.stack([torch.cat([row_D, row_C]), torch.cat([row_D, sector.index(occupied_CM)])])
    elements = torch.cat([hubbard.diagonal(occupied_DM).to(element_C.dtype), element_C])
    return torch.sparse_coo_tensor(place, elements, (sector.dimension,) * 2, check_invariants=False).coalesce()


def single_particle_matrix(system: SystemConfig, spin: int) -> NDArray[np.float64 | np.complex128]:
    """h_NN of one electron with spin 0 (up) or 1 (down): -t_b between sites, the pinning field on the diagonal."""
    lattice = bonds(system)
    h_NN = np.diag(fields(system).reshape(2, -1)[spin]).astype(np.complex128 if system.is_complex else np.float64)
    first, second = lattice.pairs_E2.T
    h_NN[first, second] = -lattice.hopping_E
    h_NN[second, first] = -lattice.hopping_E.conj()
    return h_NN


def free_fermion_energy(system: SystemConfig) -> float:
    """The exact ground-state energy at U = 0, on lattices of any size: each spin fills its lowest levels."""
    if system.U != 0:
        raise ConfigError(
            f"{system.label}: electrons are free at U=0 only\nfits: U=0, or ground_state for U={system.U:g}"
        )
    levels = (np.linalg.eigvalsh(single_particle_matrix(system, spin)) for spin in (0, 1))
    return float(sum(level[:count].sum() for level, count in zip(levels, system.particles, strict=True)))


def two_site_energy(U: float, t: float = 1.0) -> float:
    """The ground-state energy of two sites with one electron of each spin: (U - sqrt(U^2 + 16 t^2)) / 2."""
    return (U - sqrt(U * U + 16 * t * t)) / 2


def _ground_space(system: SystemConfig) -> tuple[float, Tensor, float, str]:
    """(energy, vectors_KD, largest residual, method) of all ground states; of one of them beyond 1e6 states."""
    vectors = _krylov_vectors(system)  # first, as it refuses what does not fit
    hamiltonian = _SpinFactored(system)
    if hamiltonian.dimension <= DENSE_STATES:
        dense_DD = hamiltonian.dense()
        levels_D, states_DD = torch.linalg.eigh(dense_DD)
        vectors_KD = states_DD[:, levels_D < levels_D[0] + SAME_LEVEL].T.contiguous()
        residual = float((dense_DD @ vectors_KD[0] - levels_D[0] * vectors_KD[0]).norm())
        return float(levels_D[0]), vectors_KD, residual, "dense"
    generator = torch.Generator().manual_seed(0)
    pairs: list[Eigenpair] = []
    while not pairs or hamiltonian.dimension <= COUNTED_STATES:
        start_D = torch.randn(hamiltonian.dimension, dtype=hamiltonian.dtype, generator=generator)
        found = [pair.vector_D for pair in pairs]
        pair = lowest_eigenpair(hamiltonian.apply, start_D, found, vectors, RESIDUAL)
        if pairs and pair.value > pairs[0].value + SAME_LEVEL:
            break
        pairs.append(pair)
    vectors_KD = torch.stack([pair.vector_D for pair in pairs])
    return pairs[0].value, vectors_KD, max(pair.residual for pair in pairs), "Lanczos"


def _krylov_vectors(system: SystemConfig) -> int:
    """How many state vectors there is memory for; raises ConfigError where these are too few."""
    bytes_each = 16 if system.is_complex else 8
    most = MEMORY // bytes_each // (FEWEST_VECTORS + WORK_VECTORS)
    dimension = Sector(system.sites, *system.particles).dimension
    if dimension > most:
        fits = max((n for n in range(1, system.sites // 2 + 1) if comb(system.sites, n) ** 2 <= most), default=0)
        here = f", such as filling={fits},{fits} on {system.lattice}" if fits else ""
        raise ConfigError(f"{system.label}: {dimension:,} states\nfits: up to {most:,} states{here}")
    return min(MOST_VECTORS, MEMORY // bytes_each // dimension - WORK_VECTORS)


def _occupations(sites: int, electrons: int) -> Tensor:
    """occupied_RN: the patterns of one spin, float64."""
    return (patterns(sites, electrons)[:, None] >> torch.arange(sites) & 1).double()


def _one_spin_matrix(system: SystemConfig, spin: int) -> Tensor:
    """T_RR: hops and fields of the electrons of one spin over their patterns, sparse.

    c+_i c_j on a pattern has the sign (-1)^(electrons strictly between i and j).
    """
    bits_R = patterns(system.sites, system.particles[spin]).numpy()
    h_NN = single_particle_matrix(system, spin)
    row_R = np.arange(len(bits_R))
    occupied_RN = bits_R[:, None] >> np.arange(system.sites) & 1
    rows, columns = [row_R], [row_R]
    elements: list[NDArray[Any]] = [(occupied_RN @ h_NN.diagonal()).astype(h_NN.dtype)]
    for i, j in np.argwhere(h_NN * (1 - np.eye(system.sites)) != 0):
        starts = np.flatnonzero(occupied_RN[:, j] & (1 - occupied_RN[:, i]))
        low, high = sorted((int(i), int(j)))
        between = np.bitwise_count(bits_R[starts] & ((1 << high) - (1 << (low + 1)))).astype(np.int64)
        rows.append(np.searchsorted(bits_R, bits_R[starts] ^ (1 << int(i)) ^ (1 << int(j))))
        columns.append(starts)
        elements.append(h_NN[i, j] * (1 - 2 * (between % 2)))
    place = torch.from_numpy(np.stack([np.concatenate(rows), np.concatenate(columns)]))
    values = torch.from_numpy(np.concatenate(elements))
    return torch.sparse_coo_tensor(place, values, (len(bits_R),) * 2, check_invariants=False).coalesce()


class _SpinFactored:
    """H as T_up, T_dn and the interaction; a state is the matrix X_RC, flattened."""

    def __init__(self, system: SystemConfig) -> None:
        self.up_RR, self.down_CC = _one_spin_matrix(system, 0), _one_spin_matrix(system, 1)
        self.interaction_RN = system.U * _occupations(system.sites, system.particles[0])
        self.down_CN = _occupations(system.sites, system.particles[1])
        self.rows, self.columns = len(self.interaction_RN), len(self.down_CN)
        self.dimension = self.rows * self.columns
        self.dtype = self.up_RR.dtype

    def apply(self, state_D: Tensor) -> Tensor:
        """H x, in new memory; the part that needs a transpose goes by blocks of rows to keep memory small."""
        state_RC = state_D.view(self.rows, self.columns)
        image_RC = self.up_RR @ state_RC
        step = max(1, BLOCK // self.columns)
        for begin in range(0, self.rows, step):
            rows = slice(begin, begin + step)
            image_RC[rows] += (self.down_CC @ state_RC[rows].T.contiguous()).T
            image_RC[rows] += (self.interaction_RN[rows] @ self.down_CN.T) * state_RC[rows]
        return image_RC.view(-1)

    def dense(self) -> Tensor:
        """H_DD as Kronecker products of its parts."""
        up, down = self.up_RR.to_dense(), self.down_CC.to_dense()
        hops = torch.kron(up, torch.eye(self.columns)) + torch.kron(torch.eye(self.rows), down)
        return hops + (self.interaction_RN @ self.down_CN.T).flatten().diag()
