"""The Bethe ansatz against exact diagonalisation, against energies of another solver, and in its limits."""

import math

import numpy as np
import pytest

from models.common.errors import ConfigError
from models.nqs.bethe import half_filled_ring_energy, infinite_chain_energy
from models.nqs.exact import free_fermion_energy, ground_state
from models.nqs.system import SystemConfig

# Solved by another hand with scipy.optimize.root: {sites: (U=2, U=4, U=8)}.
ANOTHER_SOLVER = {
    6: (-5.4094568451, -3.6687061789, -2.0481308861),
    10: (-8.6384157400, -5.8343226358, -3.3149967291),
    14: (-11.9543478648, -8.0883491039, -4.6131026260),
    50: (-42.244338098, -28.699339410, -16.384196908),
}


def ring(sites: int, U: float, t: float = 1.0) -> SystemConfig:
    return SystemConfig(lattice=str(sites), boundary="periodic", filling=f"{sites // 2},{sites // 2}", U=U, t=t)


@pytest.mark.parametrize("sites", ANOTHER_SOLVER)
def test_rings_have_the_energies_of_another_solver(sites: int) -> None:
    for U, energy in zip((2, 4, 8), ANOTHER_SOLVER[sites], strict=True):
        assert half_filled_ring_energy(sites, U) == pytest.approx(energy, abs=1e-9)


@pytest.mark.parametrize(("U", "t"), [(0.1, 1.0), (1.0, 1.0), (4.0, 1.0), (8.0, 0.5), (100.0, 1.0)])
def test_six_sites_agree_with_diagonalisation(U: float, t: float) -> None:
    assert half_filled_ring_energy(6, U, t) == pytest.approx(ground_state(ring(6, U, t)).energy, abs=1e-10)


def test_ten_sites_agree_with_diagonalisation() -> None:
    assert half_filled_ring_energy(10, 4) == pytest.approx(ground_state(ring(10, 4)).energy, abs=1e-10)


def test_weak_repulsion_is_first_order_perturbation_theory() -> None:
    """E = E(U=0) + U L / 4 + O(U^2): at half filling each site is doubly occupied in one case of four."""
    U = 0.002
    expected = free_fermion_energy(ring(30, 0)) + U * 30 / 4
    assert half_filled_ring_energy(30, U) == pytest.approx(expected, abs=30 * U**2)


def test_strong_repulsion_is_the_heisenberg_ring() -> None:
    """E = (4 / U) (E_Heisenberg(J=1) - L / 4): for 6 spins, from 64 x 64 matrices."""
    half_z, half_up = np.diag([0.5, -0.5]), np.array([[0.0, 1.0], [0.0, 0.0]])

    def at(operator: np.ndarray, site: int) -> np.ndarray:
        return np.kron(np.kron(np.eye(2**site), operator), np.eye(2 ** (5 - site)))

    heisenberg = np.zeros((64, 64))
    for i in range(6):
        j = (i + 1) % 6
        flip = at(half_up, i) @ at(half_up.T, j)
        heisenberg += at(half_z, i) @ at(half_z, j) + (flip + flip.T) / 2
    U = 2000.0
    expected = 4 / U * (np.linalg.eigvalsh(heisenberg)[0] - 6 / 4)
    assert half_filled_ring_energy(6, U) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("U", "energy"), [(2, -0.8443743414), (4, -0.5737293679), (8, -0.3275305344)])
def test_the_infinite_chain_has_its_published_energy(U: float, energy: float) -> None:
    assert infinite_chain_energy(U) == pytest.approx(energy, abs=1e-10)


def test_the_infinite_chain_has_its_limits() -> None:
    assert infinite_chain_energy(0.001) == pytest.approx(-4 / math.pi + 0.001 / 4, abs=1e-5)
    assert infinite_chain_energy(1e5) == pytest.approx(-4 * math.log(2) / 1e5, rel=1e-6)
    assert infinite_chain_energy(4, 2) == pytest.approx(2 * infinite_chain_energy(2), abs=1e-13)


@pytest.mark.parametrize("U", [1.0, 4.0, 12.0])
def test_long_rings_approach_the_infinite_chain(U: float) -> None:
    gaps = [infinite_chain_energy(U) - half_filled_ring_energy(sites, U) / sites for sites in (10, 30, 90)]
    assert gaps[0] > gaps[1] > gaps[2] > 0
    assert gaps[1] / gaps[2] == pytest.approx(9, rel=0.15), "the correction falls as 1 / L^2"


def test_what_has_no_such_solution_is_refused() -> None:
    with pytest.raises(ConfigError, match="try 6"):
        half_filled_ring_energy(8, 4)
    with pytest.raises(ConfigError, match="U/t >="):
        half_filled_ring_energy(6, -4)
    with pytest.raises(ConfigError, match="U/t >="):
        infinite_chain_energy(0)
