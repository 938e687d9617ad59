"""Mean fields against brute force: the Hamiltonian as a dense matrix over all occupations, from its definition."""

# N sites   M = 2N spin-orbitals   E electrons

from itertools import combinations

import numpy as np
import pytest
import torch

from models.nqs.ansatz_config import AnsatzConfig
from models.nqs.hamiltonian import Hubbard, local_energy
from models.nqs.meanfield import free_orbitals, lowest_orbitals, mean_field_energy, unrestricted_hartree_fock
from models.nqs.network import make_ansatz
from models.nqs.sector import Sector
from models.nqs.system import PinningConfig, SystemConfig

SQUARE = [(0, 1), (0, 2), (1, 3), (2, 3)]  # 2x2, open
CHAIN = [(0, 1), (1, 2), (2, 3)]


def system(lattice: str, filling: str, boundary: str = "open", U: float = 4.0, **more) -> SystemConfig:
    return SystemConfig(lattice=lattice, boundary=boundary, filling=filling, U=U, **more)


def annihilators(modes: int) -> list[np.ndarray]:
    """c_m as dense matrices, by Jordan and Wigner: signs on the modes before m."""
    sign, lower, one = np.diag([1.0, -1.0]), np.array([[0.0, 1.0], [0.0, 0.0]]), np.eye(2)
    found = []
    for mode in range(modes):
        matrix = np.eye(1)
        for factor in [sign] * mode + [lower] + [one] * (modes - mode - 1):
            matrix = np.kron(matrix, factor)
        found.append(matrix)
    return found


def dense_hamiltonian(bonds, sites, U, field_M=None) -> np.ndarray:
    """H over all 4^N occupations, with t = 1; bonds are pairs, or (i, j, t_b)."""
    c = annihilators(2 * sites)
    number = [each.T @ each for each in c]
    H = np.zeros((4**sites, 4**sites), complex)
    for i in range(sites):
        H += U * number[i] @ number[i + sites]
    for i, j, *hopping in bonds:
        for shift in (0, sites):
            hop = (hopping or [1.0])[0] * c[i + shift].T @ c[j + shift]
            H -= hop + hop.conj().T
    for mode, field in enumerate([] if field_M is None else field_M):
        H += field * number[mode]
    return H


def state_vector(orbitals_ME: np.ndarray) -> np.ndarray:
    """prod_e (sum_m orbitals[m, e] c+_m) |0>: each column creates an electron, the last one first."""
    modes = len(orbitals_ME)
    create = [each.T for each in annihilators(modes)]
    vector = np.zeros(2**modes, complex)
    vector[0] = 1.0
    for column in orbitals_ME.T[::-1]:
        vector = sum(amplitude * matrix for amplitude, matrix in zip(column, create, strict=True)) @ vector
    return vector


def expectation(H: np.ndarray, psi: np.ndarray) -> float:
    return float(np.real(np.vdot(psi, H @ psi)) / np.vdot(psi, psi).real)


def sector_ground_energy(H: np.ndarray, sites: int, n_up: int, n_dn: int) -> float:
    places = [
        sum(1 << (2 * sites - 1 - mode) for mode in (*up, *(sites + site for site in down)))
        for up in combinations(range(sites), n_up)
        for down in combinations(range(sites), n_dn)
    ]
    return np.linalg.eigvalsh(H[np.ix_(places, places)])[0]


@pytest.mark.parametrize("filling", ["2,2", "1,2", "3,1", "0,2"])
def test_energy_of_free_electrons_is_exact_without_interaction(filling):
    model = system("2x2", filling, U=0.0)
    exact = sector_ground_energy(dense_hamiltonian(SQUARE, 4, 0.0), 4, *model.particles)
    assert mean_field_energy(model, 0.0, free_orbitals(model)) == pytest.approx(exact, abs=1e-12)


def test_free_electrons_in_a_twisted_ring_are_exact():
    model = system("4", "2,1", "periodic,open", U=0.0, twist="0.3,0")
    phase = np.exp(0.3j * np.pi)
    # An electron that hops from site 0 forwards through the boundary, to site 3, or back.
    bonds = [*CHAIN, (0, 3, phase)]
    exact = sector_ground_energy(dense_hamiltonian(bonds, 4, 0.0), 4, 2, 1)
    assert mean_field_energy(model, 0.0, free_orbitals(model)) == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize(("lattice", "bonds"), [("2x2", SQUARE), ("4", CHAIN)])
@pytest.mark.parametrize("U", [-3.0, 1.0, 8.0])
def test_hartree_fock_energy_is_that_of_its_state_and_above_the_exact_one(lattice, bonds, U):
    model = system(lattice, "2,2")
    found = unrestricted_hartree_fock(model, U)
    H = dense_hamiltonian(bonds, 4, U)
    assert found.energy == pytest.approx(expectation(H, state_vector(found.orbitals_ME)), abs=1e-10)
    assert found.energy >= sector_ground_energy(H, 4, 2, 2) - 1e-10


def test_hartree_fock_feels_a_pinning_field():
    model = system("4", "2,2", pinning=PinningConfig(pattern="neel", strength=0.7))
    signs = np.array([1, -1, 1, -1])
    found = unrestricted_hartree_fock(model, 2.0)
    H = dense_hamiltonian(CHAIN, 4, 2.0, 0.35 * np.concatenate([signs, -signs]))
    assert found.energy == pytest.approx(expectation(H, state_vector(found.orbitals_ME)), abs=1e-10)
    magnetisation = (np.abs(found.orbitals_ME) ** 2).sum(axis=1).reshape(2, 4) @ signs
    assert magnetisation[0] < -0.1 < 0.1 < magnetisation[1]


def test_hartree_fock_is_at_a_minimum():
    model = system("4x2", "4,3", "periodic,open")
    found = unrestricted_hartree_fock(model, 4.0)
    rng = np.random.default_rng(1)
    for _ in range(50):
        blocks = found.orbitals_ME + 0.03 * rng.normal(size=found.orbitals_ME.shape) * (found.orbitals_ME != 0)
        up, _ = np.linalg.qr(blocks[:8, :4])
        down, _ = np.linalg.qr(blocks[8:, 4:])
        moved = np.block([[up, np.zeros((8, 3))], [np.zeros((8, 4)), down]])
        assert mean_field_energy(model, 4.0, moved) > found.energy


def test_strong_repulsion_at_half_filling_orders_antiferromagnetically():
    model = system("4x2", "4,4", "periodic,open")
    found = unrestricted_hartree_fock(model, 8.0)
    # In the ordered state one spin's density is close to 1 and the other's close to 0, on alternating sites.
    up_N, dn_N = (found.orbitals_ME**2).sum(axis=1).reshape(2, 8)
    moment_N = (up_N - dn_N) * np.array([1, -1, -1, 1, 1, -1, -1, 1])
    assert np.abs(moment_N.sum()) > 0.8 * 8
    assert found.energy < mean_field_energy(model, 8.0, free_orbitals(model)) - 4.0


def test_hartree_fock_says_the_same_twice():
    model = system("4x2", "3,3", "periodic,open")
    first, second = (unrestricted_hartree_fock(model, 4.0, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.orbitals_ME, second.orbitals_ME)


def test_choice_within_a_degenerate_shell_does_not_depend_on_the_basis():
    ring = -np.roll(np.eye(8), 1, axis=1)
    ring = ring + ring.T
    shell, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))
    chosen = lowest_orbitals(ring, 4)
    # The same matrix with noise of rounding's size, in which the eigensolver returns any mixture of a shell.
    noise = shell @ np.diag(np.linspace(0, 1e-13, 8)) @ shell.T
    np.testing.assert_allclose(lowest_orbitals(ring + noise, 4), chosen, atol=1e-6)
    np.testing.assert_allclose(chosen.T @ chosen, np.eye(4), atol=1e-12)


# Levels in closed form: plane waves around a ring, standing waves between two ends; diagonals are products of both.
RING_BY_PAIR = [
    -(along_x + along_y - 0.2 * along_x * along_y) for along_x in (2.0, 0.0, 0.0, -2.0) for along_y in (1.0, -1.0)
]
TWISTED_RING = [-2 * np.cos((2 * wave + 0.3) * np.pi / 6) for wave in range(6)]
LADDER = [-(along_x + along_y) for along_x in (2**0.5, 0.0, -(2**0.5)) for along_y in (1.0, -1.0)]


@pytest.mark.parametrize(
    ("model", "levels", "ansatz"),
    [
        (
            system("4x2", "3,3", "periodic,open", U=0.0, t_prime=-0.2),
            RING_BY_PAIR,
            AnsatzConfig(kind="mean_field", start="free"),
        ),
        (
            system("6", "3,2", "periodic,open", U=0.0, twist="0.3,0"),
            TWISTED_RING,
            AnsatzConfig(kind="slater_jastrow", start="free", complex=True, generalised=False),
        ),
        (system("3x2", "2,3", U=0.0), LADDER, AnsatzConfig(start="free", head_scale=0.0)),
    ],
)
def test_free_electrons_have_the_same_local_energy_everywhere(model, levels, ansatz):
    psi = make_ansatz(ansatz, model)
    occupied = Sector(model.sites, *model.particles).all()
    log_W, _ = psi(occupied)
    occupied = occupied[log_W > log_W.max() - 20]  # elsewhere psi is 0 but for rounding
    energy = local_energy(Hubbard(model), psi, occupied)
    expected = sum(sum(sorted(levels)[:count]) for count in model.particles)
    assert len(occupied) > 100
    torch.testing.assert_close(energy, torch.full_like(energy, expected), rtol=0, atol=1e-9)
