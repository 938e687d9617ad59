"""Orbitals that do not depend on where the other electrons are: free electrons, and unrestricted Hartree-Fock."""

# N sites   M = 2N spin-orbitals, all up, then all down   E electrons: columns, all up, then all down

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.nqs.lattice import bonds, fields
from models.nqs.system import SystemConfig

Matrix: TypeAlias = NDArray[Any]  # float64, or complex128 where a twist makes the hopping complex

_SAME_LEVEL = 1e-8  # levels closer than this, relative to their spread, are one shell


@dataclass(frozen=True, eq=False)
class MeanFieldState:
    """A Slater determinant: orthonormal orbitals, and the expectation value of the energy in it."""

    orbitals_ME: Matrix  # zero between the spins
    energy: float


def one_body(system: SystemConfig) -> tuple[Matrix, Matrix]:
    """The N x N matrices h of the terms sum_ij h_ij c+_i c_j for spin up and spin down: hopping and fields."""
    lattice = bonds(system)
    hopping_NN = np.zeros((system.sites, system.sites), lattice.hopping_E.dtype)
    first_E, second_E = lattice.pairs_E2.T
    np.add.at(hopping_NN, (first_E, second_E), -lattice.hopping_E)
    np.add.at(hopping_NN, (second_E, first_E), -lattice.hopping_E.conj())
    field_up_N, field_dn_N = fields(system).reshape(2, -1)
    return hopping_NN + np.diag(field_up_N), hopping_NN + np.diag(field_dn_N)


def free_orbitals(system: SystemConfig) -> Matrix:
    """orbitals_ME, the lowest single-particle orbitals of each spin: the exact ground state for U = 0.

    Where the last shell is only partly filled, `lowest_orbitals` makes the choice.
    """
    up_NN, dn_NN = one_body(system)
    n_up, n_dn = system.particles
    return _both_spins(lowest_orbitals(up_NN, n_up), lowest_orbitals(dn_NN, n_dn))


def lowest_orbitals(hamiltonian_NN: Matrix, count: int) -> Matrix:
    """The `count` lowest eigenvectors, as orthonormal columns.

    Within a degenerate shell they are the ones that also diagonalise a fixed potential without any symmetry, lowest
    first, and their largest entry is positive: so the result does not hang on the linear algebra library.
    """
    level_N, vector_NN = np.linalg.eigh(hamiltonian_NN)
    tolerance = _SAME_LEVEL * max(1.0, float(level_N[-1] - level_N[0]))
    shells = np.split(np.arange(len(level_N)), np.flatnonzero(np.diff(level_N) > tolerance) + 1)
    potential_N = np.cos(np.sqrt(2.0) * np.arange(1, len(level_N) + 1))
    resolved = []
    for shell in shells:
        basis = vector_NN[:, shell]
        _, rotation = np.linalg.eigh(basis.conj().T @ (potential_N[:, None] * basis))
        resolved.append(basis @ rotation)
    orbitals = np.concatenate(resolved, axis=1)[:, :count]
    # Entries of equal size differ by rounding; the first of them decides.
    size = np.abs(orbitals)
    largest = np.argmax(size > size.max(axis=0, initial=0.0) * (1 - 1e-6), axis=0)
    entry = orbitals[largest, np.arange(count)]
    return orbitals * (np.abs(entry) / entry)


def _both_spins(up_NE: Matrix, dn_NE: Matrix) -> Matrix:
    """The block-diagonal matrix of both spins' orbitals."""
    (sites, n_up), n_dn = up_NE.shape, dn_NE.shape[1]
    orbitals_ME = np.zeros((2 * sites, n_up + n_dn), np.result_type(up_NE, dn_NE))
    orbitals_ME[:sites, :n_up] = up_NE
    orbitals_ME[sites:, n_up:] = dn_NE
    return orbitals_ME


def mean_field_energy(system: SystemConfig, U: float, orbitals_ME: Matrix) -> float:
    """<H> in the determinant of orthonormal orbitals that do not mix the spins, at interaction `U`.

    <H> = sum_spin tr(h_spin rho_spin) + U sum_i <n_i,up> <n_i,dn>        (Wick's theorem; rho_ij = <c+_i c_j>)
    """
    return _energy(one_body(system), U, orbitals_ME)


def _energy(hamiltonians: tuple[Matrix, Matrix], U: float, orbitals_ME: Matrix) -> float:
    """`mean_field_energy` with the one-body terms given."""
    both_spins = np.split(orbitals_ME, 2)
    one_body_energy = sum(np.vdot(phi, h @ phi).real for h, phi in zip(hamiltonians, both_spins, strict=True))
    return float(one_body_energy + U * np.sum(_density(both_spins[0]) * _density(both_spins[1])))


def unrestricted_hartree_fock(
    system: SystemConfig, U: float, seed: int = 0, starts: int = 4, damping: float = 0.5, steps: int = 300
) -> MeanFieldState:
    """The determinant of lowest energy that self-consistency finds, without a common orbital for both spins.

        h_spin + U diag(<n_other spin>)   fills each spin's lowest orbitals, whose densities enter it again

    Begins at the uniform, the staggered and random densities, `starts` in all, mixing `damping` of the old densities
    with the new. The energy is that of the Hamiltonian with interaction `U`, an upper bound to its ground state; it is
    so also where `steps` do not suffice for self-consistency. The same for the same arguments.
    """
    rng = np.random.default_rng(seed)
    found = [
        _self_consistent(system, U, density_2N, damping, steps) for density_2N in _start_densities(system, starts, rng)
    ]
    # Equal energies (a state and its image by symmetry) differ by rounding; the first of them is taken.
    least = min(state.energy for state in found)
    return next(state for state in found if state.energy <= least + 1e-9 * max(1.0, abs(least)))


def _start_densities(system: SystemConfig, starts: int, rng: np.random.Generator) -> list[NDArray[np.float64]]:
    """Densities [2, N] to begin at: uniform, staggered, then random ones."""
    uniform_21 = np.array(system.particles)[:, None] / system.sites
    x, y = np.divmod(np.arange(system.sites), system.shape[1])
    staggered_2N = 0.4 * (-1.0) ** (x + y) * np.array([[1.0], [-1.0]])
    noise = [rng.uniform(-0.5, 0.5, (2, system.sites)) for _ in range(max(0, starts - 2))]
    return [np.clip(uniform_21 + change, 0.0, 1.0) for change in (np.zeros_like(staggered_2N), staggered_2N, *noise)]


def _self_consistent(
    system: SystemConfig, U: float, density_2N: NDArray[np.float64], damping: float, steps: int
) -> MeanFieldState:
    """Follows the densities to self-consistency, or for `steps`, and returns the best determinant on the way."""
    hamiltonians, counts = one_body(system), system.particles
    best: MeanFieldState | None = None
    for _ in range(steps):
        up_NE, dn_NE = (
            lowest_orbitals(h_NN + U * np.diag(other_N), count)
            for h_NN, other_N, count in zip(hamiltonians, density_2N[::-1], counts, strict=True)
        )
        orbitals_ME = _both_spins(up_NE, dn_NE)
        energy = _energy(hamiltonians, U, orbitals_ME)
        if best is None or energy < best.energy:
            best = MeanFieldState(orbitals_ME, energy)
        new_2N = np.stack([_density(up_NE), _density(dn_NE)])
        if np.abs(new_2N - density_2N).max() < 1e-8:
            break
        density_2N = damping * density_2N + (1 - damping) * new_2N
    assert best is not None, "steps has to be positive"
    return best


def _density(orbitals_NE: Matrix) -> NDArray[np.float64]:
    """<n_i> of the determinant of these orthonormal orbitals."""
    return np.sum(np.abs(orbitals_NE) ** 2, axis=1)
