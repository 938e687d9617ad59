"""The fixed-node projection, against the effective Hamiltonian of small systems diagonalised densely."""

from typing import Any

import numpy as np
import pytest

from models.common.errors import ConfigError, TrainingError
from models.nqs.fixed_node import FixedNodeEnergy, Population, fixed_node_energy, history_weights, weighted_mean
from models.nqs.hamiltonian import Hubbard
from models.nqs.sector import Sector
from models.nqs.system import SystemConfig
from tests.models.nqs.second_quantisation import basis_of, hubbard_terms, lattice_bonds, matrix, psi_of

LADDER = SystemConfig(lattice="3x2", boundary="open", filling="2,2", U=4.0)
CHAIN = SystemConfig(lattice="4x1", boundary="open", filling="2,2", U=4.0)
FRUSTRATED = SystemConfig(lattice="2x2", boundary="open", filling="2,1", U=4.0, t_prime=0.5)


def dense(system: SystemConfig) -> np.ndarray:
    wraps = tuple(boundary != "open" for boundary in system.boundaries)
    bonds = lattice_bonds(system.shape, wraps, system.t_prime)  # pyright: ignore[reportArgumentType]
    sector = Sector(system.sites, *system.particles)
    return matrix(hubbard_terms(system.sites, bonds, system.U), basis_of(sector)).real


def effective(hamiltonian: np.ndarray, psi: np.ndarray) -> np.ndarray:
    """ten Haaf et al. 1995, element by element."""
    result = np.zeros_like(hamiltonian)
    for row in range(len(psi)):
        result[row, row] = hamiltonian[row, row]
        for column in range(len(psi)):
            if row == column or hamiltonian[row, column] == 0:
                continue
            if psi[row] * hamiltonian[row, column] * psi[column] < 0:
                result[row, column] = hamiltonian[row, column]
            else:
                result[row, row] += hamiltonian[row, column] * psi[column] / psi[row]
    return result


def near_ground_state(hamiltonian: np.ndarray, noise: float, seed: int) -> np.ndarray:
    """The ground state with errors, some of them in its signs."""
    ground = np.linalg.eigh(hamiltonian)[1][:, 0]
    return ground + noise * np.random.default_rng(seed).normal(size=len(ground)) / np.sqrt(len(ground))


def project(system: SystemConfig, psi: np.ndarray, *, seed: int = 1, walkers: int = 400) -> FixedNodeEnergy:
    sector = Sector(system.sites, *system.particles)
    start = np.random.default_rng(seed).choice(len(psi), size=walkers, p=psi**2 / (psi**2).sum())
    return fixed_node_energy(
        Hubbard(system),
        psi_of(sector, psi),
        sector.all()[start],
        time_step=0.1,
        steps=300,
        equilibration=40,
        seed=seed,
        history=40,
    )


@pytest.mark.parametrize("system", [LADDER, FRUSTRATED], ids=["ladder", "frustrated"])
def test_the_energy_is_that_of_the_effective_hamiltonian_between_exact_and_variational(system: SystemConfig) -> None:
    hamiltonian = dense(system)
    psi = near_ground_state(hamiltonian, noise=0.5, seed=3)
    exact, variational = np.linalg.eigvalsh(hamiltonian)[0], psi @ hamiltonian @ psi / (psi @ psi)
    fixed_node = np.linalg.eigvalsh(effective(hamiltonian, psi))[0]
    assert exact + 0.01 < fixed_node < variational - 0.1  # so that the test below can tell the three apart
    found = project(system, psi)
    assert found.error < 0.05 * (variational - exact)
    assert abs(found.energy - fixed_node) < 4 * found.error
    assert exact < found.energy < variational


def test_an_open_chain_has_no_sign_problem_so_that_any_positive_state_gives_the_exact_energy() -> None:
    hamiltonian = dense(CHAIN)
    exact = np.linalg.eigvalsh(hamiltonian)[0]
    psi = np.random.default_rng(2).uniform(0.5, 1.5, size=len(hamiltonian))
    found = project(CHAIN, psi)
    assert abs(found.energy - exact) < 4 * found.error
    assert found.error < 0.02
    assert psi @ hamiltonian @ psi / (psi @ psi) > exact + 0.5


@pytest.mark.parametrize("system", [LADDER, CHAIN], ids=["ladder", "chain"])
def test_the_exact_state_has_the_exact_energy_without_any_spread(system: SystemConfig) -> None:
    levels, states = np.linalg.eigh(dense(system))
    psi = np.where(np.abs(states[:, 0]) > 1e-9, states[:, 0], 0.0)  # zeros by symmetry, without their rounding
    found = project(system, psi, walkers=20)
    assert abs(found.energy - levels[0]) < 1e-6
    assert found.error < 1e-6
    assert found.hops > 0.05


def test_few_walkers_have_a_bias_that_the_history_of_weights_takes_away() -> None:
    hamiltonian = dense(CHAIN)
    exact = np.linalg.eigvalsh(hamiltonian)[0]
    psi = np.random.default_rng(5).uniform(0.5, 1.5, size=len(hamiltonian))
    sector = Sector(4, 2, 2)
    start = np.random.default_rng(0).choice(len(psi), size=8, p=psi**2 / (psi**2).sum())
    found = fixed_node_energy(
        Hubbard(CHAIN),
        psi_of(sector, psi),
        sector.all()[start],
        time_step=0.3,
        steps=600,
        equilibration=20,
        seed=0,
        history=12,
    )
    assert found.uncorrected - exact > 0.15
    assert abs(found.energy - exact) < 4 * found.error
    assert abs(found.energy - exact) < 0.6 * (found.uncorrected - exact)


def test_the_same_seed_gives_the_same_bits_and_another_one_does_not() -> None:
    psi = np.random.default_rng(2).uniform(0.5, 1.5, size=36)
    sector = Sector(4, 2, 2)

    def energies(seed: int, chunk: int) -> list[tuple[float, ...]]:
        population = Population(
            Hubbard(CHAIN), psi_of(sector, psi), sector.all()[:12], time_step=0.1, seed=seed, chunk=chunk
        )
        return [population.step() for _ in range(5)]

    assert energies(1, 8192) == energies(1, 7)
    assert energies(1, 8192) != energies(2, 8192)


def test_history_weights_are_products_of_the_last_mean_weights() -> None:
    log_mean = np.log([2.0, 3.0, 5.0, 7.0, 11.0])
    weights = history_weights(log_mean, 2)
    assert np.allclose(weights / weights[-1] * 77, [2, 6, 15, 35, 77], rtol=1e-12)
    assert np.allclose(history_weights(log_mean, 0), 1.0)


def test_the_error_of_a_correlated_series_is_that_of_its_closed_form() -> None:
    """x_k = r x_{k-1} + noise: the mean of K has variance var(x) (1 + r) / (1 - r) / K."""
    generator = np.random.default_rng(11)
    r, length = 0.9, 4096
    squares = []
    for _ in range(20):
        series = np.zeros(length)
        for k in range(1, length):
            series[k] = r * series[k - 1] + generator.normal()
        squares.append(weighted_mean(np.ones(length), series)[1] ** 2)
    expected = 1 / (1 - r**2) * (1 + r) / (1 - r) / length
    assert 0.8 * expected < np.mean(squares) < 2.0 * expected  # the largest of several errors is a little too large


def test_what_cannot_work_is_refused() -> None:
    sector = Sector(4, 2, 2)
    walkers = sector.all()[:8]
    settings: dict[str, Any] = {"time_step": 0.1, "steps": 20, "equilibration": 0, "seed": 1}
    with pytest.raises(ConfigError, match="real states"):
        fixed_node_energy(Hubbard(CHAIN), psi_of(sector, np.ones(36) + 0j), walkers, **settings)
    with pytest.raises(ConfigError, match="no error bar"):
        fixed_node_energy(Hubbard(CHAIN), psi_of(sector, np.ones(36)), walkers, **{**settings, "steps": 3})
    vanishing = np.ones(36)
    vanishing[3] = 0.0
    with pytest.raises(TrainingError, match="1 of 8"):
        fixed_node_energy(Hubbard(CHAIN), psi_of(sector, vanishing), walkers, **settings)
