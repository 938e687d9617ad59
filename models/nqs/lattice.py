"""Bonds, fields and symmetries of a system.

N sites, site = x * Ly + y   E bonds, each pair of sites at most once   M = 2N spin-orbitals, all up, then all down
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from models.nqs.system import SystemConfig


@dataclass(frozen=True, eq=False)
class Bonds:
    """The term - t_b c+_i c_j + h.c. of each bond b = (i, j), i < j; what joins the same two sites is one sum."""

    pairs_E2: NDArray[np.int64]
    hopping_E: NDArray[np.float64] | NDArray[np.complex128]  # t_b; complex only where a twist makes it so


@dataclass(frozen=True, eq=False)
class Symmetry:
    """A permutation of sites that leaves every hopping and every field as it is: site i goes to permutation_N[i]."""

    name: str
    permutation_N: NDArray[np.int64]


def bonds(system: SystemConfig) -> Bonds:
    """All bonds with an amplitude other than zero: t along x and y, t_prime along both diagonals.

    A hop through an antiperiodic boundary has the factor -1, one through a twisted boundary exp(i pi twist) in the
    direction of growing x (or y): t_b c+_i c_j moves an electron from j, beyond the boundary, to i. A pair of sites
    that is reached in several ways (lengths of 2) has one amplitude with wrap_bond "once", and their sum with "twice".
    """
    amplitudes: dict[tuple[int, int], complex] = {}
    for step, hopping in (((1, 0), system.t), ((0, 1), system.t), ((1, 1), system.t_prime), ((1, -1), system.t_prime)):
        for x, y in product(*map(range, system.shape)):
            for pair, amplitude in _bond_from(system, x, y, step, hopping):
                seen = amplitudes.get(pair, 0) if system.wrap_bond == "twice" else 0
                amplitudes[pair] = seen + amplitude
    kept = sorted((pair, amplitude) for pair, amplitude in amplitudes.items() if amplitude != 0)
    hopping_E = np.array([amplitude for _, amplitude in kept], dtype=np.complex128)
    return Bonds(
        np.array([pair for pair, _ in kept], dtype=np.int64).reshape(-1, 2),
        hopping_E if system.is_complex else hopping_E.real.copy(),
    )


def _bond_from(
    system: SystemConfig, x: int, y: int, step: tuple[int, int], hopping: float
) -> list[tuple[tuple[int, int], complex]]:
    """The bond from (x, y) along `step`, as ((lower, higher site), amplitude), or nothing beyond an open boundary."""
    amplitude: complex = hopping
    end = []
    for place, move, length, boundary, twist in zip(
        (x, y), step, system.shape, system.boundaries, system.twists, strict=True
    ):
        if move and length == 1:
            return []
        wraps, inside = divmod(place + move, length)
        if wraps and boundary == "open":
            return []
        if wraps:
            amplitude *= _phase(boundary, twist * wraps)
        end.append(inside)
    length_y = system.shape[1]
    first, second = x * length_y + y, end[0] * length_y + end[1]
    return [((first, second), amplitude) if first < second else ((second, first), complex(amplitude).conjugate())]


def _phase(boundary: str, twist: float) -> complex:
    """What a hop through the boundary picks up; whole multiples of pi are exactly real."""
    sign = -1.0 if boundary == "antiperiodic" else 1.0
    return sign * (float((-1) ** int(twist)) if twist == int(twist) else complex(np.exp(1j * np.pi * twist)))


def fields(system: SystemConfig) -> NDArray[np.float64]:
    """field_M: the energy of an electron in each spin-orbital, from the pinning field on S^z = (n_up - n_dn) / 2."""
    pinning = system.pinning
    length_x, length_y = system.shape
    x, y = np.divmod(np.arange(length_x * length_y), length_y)
    field_N = pinning.strength * (-1.0) ** (x + y)
    if pinning.wavelength:
        field_N = field_N * (-1.0) ** (x // pinning.wavelength)
    if pinning.columns:
        field_N = np.where(np.isin(x, pinning.columns), field_N, 0.0)
    return np.concatenate([field_N, -field_N]) / 2


def translations(system: SystemConfig) -> list[Symmetry]:
    """The translations that are symmetries, identity first.

    None through an antiperiodic or twisted boundary: there a translation needs a change of gauge as well.
    """
    length_x, length_y = system.shape
    x, y = np.divmod(np.arange(length_x * length_y), length_y)
    shifts = product(range(length_x), range(length_y))
    moved = [(f"by {dx},{dy}", ((x + dx) % length_x) * length_y + (y + dy) % length_y) for dx, dy in shifts]
    return _symmetries(system, moved)


def point_group(system: SystemConfig) -> list[Symmetry]:
    """The rotations and mirrors about the lattice's centre that are symmetries, identity first: at most 8."""
    length_x, length_y = system.shape
    x, y = np.divmod(np.arange(length_x * length_y), length_y)
    across_x, across_y = length_x - 1 - x, length_y - 1 - y
    images = [
        ("identity", x, y),
        ("mirror x", across_x, y),
        ("mirror y", x, across_y),
        ("rotation by 180", across_x, across_y),
    ]
    if length_x == length_y:
        images += [
            ("rotation by 90", across_y, x),
            ("rotation by 270", y, across_x),
            ("mirror diagonal", y, x),
            ("mirror antidiagonal", across_y, across_x),
        ]
    return _symmetries(system, [(name, image_x * length_y + image_y) for name, image_x, image_y in images])


def _symmetries(system: SystemConfig, candidates: list[tuple[str, NDArray[np.int64]]]) -> list[Symmetry]:
    """Those of the candidates that change neither bonds nor fields; of equal permutations the first."""
    lattice, field_2N = bonds(system), fields(system).reshape(2, -1)
    terms = _terms(lattice, np.arange(system.sites))
    kept: dict[bytes, Symmetry] = {}
    for name, permutation_N in candidates:
        codes, amplitudes = _terms(lattice, permutation_N)
        same_bonds = np.array_equal(codes, terms[0]) and np.allclose(amplitudes, terms[1], rtol=0, atol=1e-12)
        if same_bonds and np.array_equal(field_2N[:, permutation_N], field_2N):
            kept.setdefault(permutation_N.tobytes(), Symmetry(name, permutation_N))
    return list(kept.values())


def _terms(lattice: Bonds, permutation_N: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.complex128]]:
    """Both directions of every bond after the permutation, sorted: (code of the ordered pair, amplitude)."""
    first, second = permutation_N[lattice.pairs_E2].T
    codes = np.concatenate([first, second]) * len(permutation_N) + np.concatenate([second, first])
    amplitudes = np.concatenate([lattice.hopping_E, lattice.hopping_E.conj()]).astype(np.complex128)
    order = np.argsort(codes)
    return codes[order], amplitudes[order]
