"""Estimators averaged over every configuration, against operators as dense matrices of creation operators."""

from itertools import product

import numpy as np
import pytest
import torch

from models.nqs import correlations, observables
from models.nqs.hamiltonian import Hubbard, local_energy
from models.nqs.sector import Sector
from models.nqs.system import SystemConfig
from tests.models.nqs.second_quantisation import (
    Term,
    average,
    basis_of,
    expectation,
    hubbard_terms,
    lattice_bonds,
    matrix,
    psi_of,
)

SYSTEMS = {
    "ladder": SystemConfig(lattice="3x2", boundary="periodic,open", filling="2,1", U=3.0),
    "open": SystemConfig(lattice="2x2", boundary="open", filling="1,2", U=5.0, t_prime=-0.2),
    "ring": SystemConfig(lattice="4x1", boundary="antiperiodic,open", filling="2,2", U=2.0),
}


class Case:
    """A system with a random state of its sector."""

    def __init__(self, system: SystemConfig, *, is_complex: bool) -> None:
        self.system, self.sites = system, system.sites
        self.sector = Sector(system.sites, *system.particles)
        self.basis, self.occupied_DM = basis_of(self.sector), self.sector.all()
        generator = np.random.default_rng(len(self.basis))
        self.vector = generator.normal(size=len(self.basis))
        if is_complex:
            self.vector = self.vector + 1j * generator.normal(size=len(self.basis))
        self.psi = psi_of(self.sector, self.vector)

    def expect(self, terms: list[Term]) -> complex:
        return expectation(matrix(terms, self.basis), self.vector)

    def mean(self, local_D) -> np.ndarray:
        return average(local_D, self.vector)

    def bonds(self) -> list[tuple[int, int, float]]:
        around = tuple(-1.0 if boundary == "antiperiodic" else 1.0 for boundary in self.system.boundaries)
        wraps = tuple(boundary != "open" for boundary in self.system.boundaries)
        return lattice_bonds(self.system.shape, wraps, self.system.t_prime, around)  # pyright: ignore[reportArgumentType]


@pytest.fixture(params=[(name, kind) for name in SYSTEMS for kind in (False, True)], ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    name, is_complex = request.param
    return Case(SYSTEMS[name], is_complex=is_complex)


def number(orbital: int) -> list[tuple[str, int]]:
    return [("+", orbital), ("-", orbital)]


def spin_terms(site: int, sites: int) -> list[Term]:
    return [(0.5, number(site)), (-0.5, number(site + sites))]


def times(first: list[Term], second: list[Term]) -> list[Term]:
    return [(a * b, left + right) for (a, left), (b, right) in product(first, second)]


def test_densities_double_occupancy_and_profiles_are_those_of_number_operators(case: Case) -> None:
    n, length_y = case.sites, case.system.shape[1]
    density = case.mean(observables.densities(case.occupied_DM))
    spin, staggered = (
        case.mean(observables.spin_profile(case.occupied_DM)),
        case.mean(observables.staggered_profile(case.system, case.occupied_DM)),
    )
    for site in range(n):
        assert density[0, site] == pytest.approx(case.expect([(1, number(site))]), abs=1e-12)
        assert density[1, site] == pytest.approx(case.expect([(1, number(site + n))]), abs=1e-12)
        assert spin[site] == pytest.approx(case.expect(spin_terms(site, n)), abs=1e-12)
        assert staggered[site] == pytest.approx((-1) ** sum(divmod(site, length_y)) * spin[site], abs=1e-12)
    double = case.expect([(1 / n, number(site) + number(site + n)) for site in range(n)])
    assert case.mean(observables.double_occupancy(case.occupied_DM)) == pytest.approx(double, abs=1e-12)


def test_holes_are_counted_by_column(case: Case) -> None:
    length_x, length_y = case.system.shape
    holes = case.mean(observables.holes_per_column(case.system, case.occupied_DM))
    for x in range(length_x):
        electrons = case.expect(
            [(1, number(x * length_y + y + spin)) for y in range(length_y) for spin in (0, case.sites)]
        )
        assert holes[x] == pytest.approx(1 - electrons / length_y, abs=1e-12)
    assert holes.sum() * length_y == pytest.approx(case.sites - sum(case.system.particles), abs=1e-12)


def test_structure_factors_are_transforms_of_correlations_and_obey_their_sum_rules(case: Case) -> None:
    n, length_y = case.sites, case.system.shape[1]
    spin_q = case.mean(observables.spin_structure(case.system, case.occupied_DM))
    charge_q = case.mean(observables.charge_structure(case.system, case.occupied_DM))
    filling = sum(case.system.particles) / n
    charges: list[list[Term]] = [[(1, number(i)), (1, number(i + n)), (-filling, [])] for i in range(n)]
    spins = [spin_terms(i, n) for i in range(n)]
    momenta = observables.momenta(case.system)
    for found, operators in ((spin_q, spins), (charge_q, charges)):
        by_pair = np.array([[case.expect(times(operators[i], operators[j])) for j in range(n)] for i in range(n)])
        for index in np.ndindex(*case.system.shape):
            phase = np.exp(1j * np.array([momenta[index] @ divmod(i, length_y) for i in range(n)]))
            assert found[index] == pytest.approx(phase @ by_pair @ phase.conj() / n, abs=1e-12)
        assert found.sum() == pytest.approx(np.trace(by_pair), abs=1e-12)
    double = n * case.mean(observables.double_occupancy(case.occupied_DM))
    assert spin_q.sum() == pytest.approx((sum(case.system.particles) - 2 * double) / 4, abs=1e-12)
    assert spin_q[0, 0] == pytest.approx((case.system.particles[0] - case.system.particles[1]) ** 2 / 4 / n, abs=1e-12)


def test_the_one_body_matrix_is_that_of_its_operators(case: Case) -> None:
    n = case.sites
    found = case.mean(correlations.one_body_matrix(case.psi, case.occupied_DM, chunk=50))
    for spin, i, j in product((0, 1), range(n), range(n)):
        expected = case.expect([(1, [("+", i + spin * n), ("-", j + spin * n)])])
        assert found[spin, i, j] == pytest.approx(expected, abs=1e-11)


def test_momentum_distributions_sum_to_the_electrons_and_with_the_band_to_the_kinetic_energy(case: Case) -> None:
    system = case.system
    matrix_D2NN = correlations.one_body_matrix(case.psi, case.occupied_DM)
    by_momentum = case.mean(correlations.momentum_distribution(system, matrix_D2NN))
    assert by_momentum.sum(axis=(1, 2)) == pytest.approx(np.array(system.particles), abs=1e-11)
    k, n, length_y = correlations.band_momenta(system), case.sites, system.shape[1]
    for index in np.ndindex(*system.shape):
        wave = np.exp(1j * np.array([k[index] @ divmod(i, length_y) for i in range(n)])) / np.sqrt(n)
        terms: list[Term] = [(wave[i] * wave[j].conj(), [("+", i), ("-", j)]) for i, j in product(range(n), range(n))]
        assert by_momentum[(0, *index)] == pytest.approx(case.expect(terms), abs=1e-11)
    if system.lattice == "4x1":  # periodic in all its directions
        kinetic = case.mean(correlations.kinetic_energy(Hubbard(system), case.psi, case.occupied_DM))
        assert (-2 * np.cos(k[..., 0]) * by_momentum).sum() == pytest.approx(kinetic, abs=1e-11)


def test_a_twist_moves_the_momenta_so_that_the_band_gives_the_kinetic_energy() -> None:
    system = SystemConfig(lattice="4x3", boundary="periodic", filling="1,1", U=1.0, twist="0.3,-0.5")
    case = Case(system, is_complex=True)
    by_momentum = case.mean(
        correlations.momentum_distribution(system, correlations.one_body_matrix(case.psi, case.occupied_DM))
    )
    kinetic = case.mean(correlations.kinetic_energy(Hubbard(system), case.psi, case.occupied_DM))
    band = -2 * np.cos(correlations.band_momenta(system)).sum(axis=-1)
    assert (band * by_momentum).sum() == pytest.approx(kinetic, abs=1e-11)


def test_kinetic_energy_and_double_occupancy_make_up_the_energy(case: Case) -> None:
    hubbard, n = Hubbard(case.system), case.sites
    kinetic = case.mean(correlations.kinetic_energy(hubbard, case.psi, case.occupied_DM))
    assert kinetic == pytest.approx(case.expect(hubbard_terms(n, case.bonds(), 0.0)), abs=1e-11)
    potential = case.system.U * n * case.mean(observables.double_occupancy(case.occupied_DM))
    energy = case.mean(local_energy(hubbard, case.psi, case.occupied_DM))
    assert kinetic + potential == pytest.approx(np.real(energy), abs=1e-11)
    assert energy == pytest.approx(case.expect(hubbard_terms(n, case.bonds(), case.system.U)), abs=1e-11)


def pair_operator(case: Case, site: int, pairing: str) -> list[Term]:
    """Delta_i as its definition says, from the bonds along x and y."""
    n, length_y = case.sites, case.system.shape[1]
    if pairing == "onsite":
        return [(1.0, [("-", site + n), ("-", site)])]
    terms: list[Term] = []
    for i, j, _ in case.bonds():
        along_x, along_y = (a - b for a, b in zip(divmod(i, length_y), divmod(j, length_y), strict=True))
        if site not in (i, j) or (along_x and along_y):
            continue
        other = j if site == i else i
        factor = (-1.0 if pairing == "d" and along_y else 1.0) / 2 / np.sqrt(2)
        terms += [(factor, [("-", site), ("-", other + n)]), (-factor, [("-", site + n), ("-", other)])]
    return terms


@pytest.mark.parametrize("pairing", ["d", "s", "onsite"])
def test_pair_correlations_are_those_of_pair_operators(case: Case, pairing) -> None:
    n = case.sites
    found = case.mean(correlations.pair_matrix(case.system, pairing, case.psi, case.occupied_DM, chunk=100))
    operators = [pair_operator(case, site, pairing) for site in range(n)]
    for i, j in product(range(n), range(n)):
        creates: list[Term] = [
            (factor, [("+", orbital) for _, orbital in reversed(string)]) for factor, string in operators[i]
        ]
        assert found[i, j] == pytest.approx(case.expect(times(creates, operators[j])).real, abs=1e-11)


def test_a_mean_by_distance_wraps_along_periodic_directions_only() -> None:
    system = SYSTEMS["ladder"]
    pairs = np.random.default_rng(3).normal(size=(6, 6))
    found = correlations.by_distance(system, torch.from_numpy(pairs)[None])[0].numpy()
    for dx, dy in product(range(3), range(2)):
        members = [
            pairs[i, j]
            for i, j in product(range(6), range(6))
            if (j // 2 - i // 2) % 3 == dx and abs(j % 2 - i % 2) == dy
        ]
        assert found[dx, dy] == pytest.approx(np.mean(members), abs=1e-12)
