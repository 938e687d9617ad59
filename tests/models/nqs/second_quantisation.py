"""Operators as dense matrices, from nothing but the anticommutation of c and c+: every sign by moving one past another.

A basis state is the ascending tuple (m_1, m_2, ...) for c+_m1 c+_m2 ... |0>; m = site + N * (1 for spin down).
"""

from collections.abc import Callable, Iterable
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.nqs.sector import Sector

State = tuple[int, ...]
Operator = tuple[str, int]  # ("+", m) creates, ("-", m) annihilates
Term = tuple[complex, list[Operator]]
Bond = tuple[int, int, float]


def apply(operators: list[Operator], state: State) -> tuple[int, State]:
    """(sign, state) of a string of operators, the rightmost first; sign 0 where it annihilates the state."""
    sign, electrons = 1, list(state)
    for kind, orbital in reversed(operators):
        if (kind == "+") == (orbital in electrons):
            return 0, ()
        if kind == "-":
            sign *= (-1) ** electrons.index(orbital)
            electrons.remove(orbital)
        else:
            electrons.insert(0, orbital)
            sign *= bubble_sort(electrons)
    return sign, tuple(electrons)


def bubble_sort(numbers: list[int]) -> int:
    """Sorts in place by swapping neighbours; returns (-1)^swaps."""
    sign = 1
    for end in range(len(numbers), 1, -1):
        for i in range(end - 1):
            if numbers[i] > numbers[i + 1]:
                numbers[i], numbers[i + 1] = numbers[i + 1], numbers[i]
                sign = -sign
    return sign


def basis_of(sector: Sector) -> list[State]:
    """The sector's configurations as tuples, in the sector's order."""
    return [tuple(row.nonzero().flatten().tolist()) for row in sector.all()]


def matrix(terms: Iterable[Term], basis: list[State]) -> NDArray[np.complex128]:
    """<row| sum of terms |column>."""
    place = {state: index for index, state in enumerate(basis)}
    dense = np.zeros((len(basis), len(basis)), dtype=np.complex128)
    for factor, operators in terms:
        for column, state in enumerate(basis):
            sign, image = apply(operators, state)
            if sign:
                dense[place[image], column] += factor * sign
    return dense


def lattice_bonds(
    shape: tuple[int, int], periodic: tuple[bool, bool], t_prime: float = 0.0, around: tuple[float, float] = (1.0, 1.0)
) -> list[Bond]:
    """(i, j, t) of each pair of sites that are neighbours; `around` multiplies a hop through the boundary."""
    length_x, length_y = shape
    bonds = []
    for i, j in combinations(range(length_x * length_y), 2):
        factor, steps = 1.0, []
        for a, b, length, wraps, phase in zip(
            divmod(i, length_y), divmod(j, length_y), shape, periodic, around, strict=True
        ):
            step = abs(a - b)
            if wraps and step == length - 1 and length > 2:
                step, factor = 1, factor * phase
            steps.append(step)
        if sorted(steps) == [0, 1]:
            bonds.append((i, j, factor))
        elif steps == [1, 1] and t_prime:
            bonds.append((i, j, t_prime * factor))
    return bonds


def hubbard_terms(sites: int, bonds: list[Bond], U: float) -> list[Term]:
    """-t (c+_i c_j + c+_j c_i) of both spins, and U n_up n_dn."""
    hops: list[Term] = [
        (-t, [("+", a + spin), ("-", b + spin)])
        for i, j, t in bonds
        for a, b in ((i, j), (j, i))
        for spin in (0, sites)
    ]
    return hops + [(U, [("+", i), ("-", i), ("+", i + sites), ("-", i + sites)]) for i in range(sites)]


def psi_of(sector: Sector, vector: NDArray) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """The amplitudes of a vector in the sector's order, looked up."""
    values = torch.as_tensor(vector)

    def psi(occupied_WM: Tensor) -> tuple[Tensor, Tensor]:
        value_W = values[sector.index(occupied_WM)]
        return value_W.abs().log(), value_W.sgn()

    return psi


def values_of(log_psi: tuple[Tensor, Tensor]) -> NDArray:
    """psi itself."""
    return (log_psi[0].exp() * log_psi[1]).detach().numpy()


def average(local_W: Tensor, vector: NDArray) -> NDArray:
    """The mean over |psi|^2 of one value per basis state."""
    density = np.abs(vector) ** 2
    return np.tensordot(density / density.sum(), local_W.numpy(), axes=1)


def expectation(dense: NDArray, vector: NDArray) -> complex:
    """<psi|O|psi> / <psi|psi>."""
    return complex(vector.conj() @ dense @ vector / (vector.conj() @ vector))
