"""Exact energies against published digits, closed forms, theorems, and dense diagonalisation."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch

from models.common.errors import ConfigError, TrainingError
from models.nqs import lanczos
from models.nqs.exact import (
    free_fermion_energy,
    full_matrix,
    ground_observables,
    ground_state,
    single_particle_matrix,
    two_site_energy,
)
from models.nqs.lanczos import lowest_eigenpair
from models.nqs.published import TABLE, exact_energy, published, reference_energy
from models.nqs.sector import Sector
from models.nqs.system import SystemConfig


def system(lattice: str, boundary: str, filling: str, U: float = 4.0, **changes: Any) -> SystemConfig:
    return SystemConfig(lattice=lattice, boundary=boundary, filling=filling, U=U, **changes)


# From a diagonalisation code of another hand: (lattice, boundary, filling, changes, {U: energy}).
ANOTHER_CODE = [
    ("2x2", "open", "2,2", {}, {4: -2.1027484835, 8: -1.3202349583}),
    ("2x2", "open", "1,1", {}, {4: -3.4185507189, 8: -3.2077509432}),
    ("2x2", "periodic", "2,2", {}, {4: -2.1027484835}),
    ("4x2", "open", "4,4", {}, {4: -5.0125031527, 8: -3.0259228057}),
    ("4x2", "open", "3,3", {}, {4: -6.8414378168, 8: -5.7500660284}),
    ("4x2", "periodic,open", "4,4", {}, {4: -5.9542366811, 8: -3.4671734372}),
    ("4x2", "periodic,open", "3,3", {}, {4: -7.4170990096, 8: -6.3696678579}),
    ("4x2", "periodic,open", "4,4", {"t_prime": -0.2}, {4: -5.956738609, 8: -3.468375059}),
    ("4x2", "periodic,open", "3,3", {"t_prime": -0.2}, {4: -7.431254337, 8: -6.409296194}),
    ("4x2", "periodic", "4,4", {"wrap_bond": "twice"}, {4: -10.2529529553, 8: -7.1267123444}),
    ("4x2", "periodic", "3,3", {"wrap_bond": "twice"}, {4: -12.5552898210, 8: -10.6268973547}),
    ("3x3", "open", "4,4", {}, {4: -6.8216273381, 8: -5.0412530308}),
    ("3x3", "open", "4,4", {"t_prime": -0.2}, {4: -6.842734022, 8: -5.094098549}),
    ("4", "periodic", "2,2", {}, {4: -2.1027484835, 8: -1.3202349583}),
    ("8", "periodic", "4,4", {}, {4: -4.6035263000, 8: -2.6661474201}),
]


@pytest.mark.parametrize("row", ANOTHER_CODE, ids=lambda row: f"{row[0]} {row[1]} {row[2]} {row[3]}")
def test_energies_are_those_of_another_code(row: tuple[str, str, str, dict[str, Any], dict[float, float]]) -> None:
    lattice, boundary, filling, changes, energies = row
    for U, energy in energies.items():
        found = ground_state(system(lattice, boundary, filling, U, **changes))
        assert found.energy == pytest.approx(energy, abs=6e-10)
        assert found.residual < 1e-7


@pytest.mark.slow
@pytest.mark.parametrize(
    ("boundary", "U", "energy"),
    [("open", 8, -4.9132592091), ("periodic,open", 4, -9.2052758621)],
)
def test_twelve_sites_have_the_energy_of_another_code(boundary: str, U: float, energy: float) -> None:
    found = ground_state(system("4x3", boundary, "6,6", U))
    assert found.energy == pytest.approx(energy, abs=6e-10)
    assert found.dimension == 853_776


SMALL = {
    "ladder with everything": system(
        "3x2", "periodic", "2,3", 5, t_prime=-0.3, wrap_bond="twice", twist="0.4,-0.7",
        pinning={"pattern": "stripe", "strength": 0.6, "wavelength": 2},
    ),
    "dense": system("3x2", "antiperiodic,open", "2,2", 8, t_prime=0.2),
    "beyond dense": system("3x2", "periodic,open", "3,3", 4),
    "complex beyond dense": system("4x2", "periodic,open", "2,3", 8, twist="0.3,0", t_prime=-0.2),
    "attractive": system("7", "periodic", "3,3", -6),
    "one spin only": system("3x3", "periodic", "4,0", 5),
    "full": system("2x2", "open", "4,4", 5),
}  # fmt: skip


@pytest.mark.parametrize("name", SMALL)
def test_ground_states_are_those_of_the_whole_matrix(name: str) -> None:
    """Two routes: T_up, T_dn and Lanczos here, and every connected configuration and LAPACK there."""
    found = ground_state(SMALL[name])
    levels = np.linalg.eigvalsh(full_matrix(SMALL[name]).to_dense().numpy())
    assert found.energy == pytest.approx(levels[0], abs=1e-9)
    assert found.dimension == len(levels)
    assert found.degeneracy == (levels < levels[0] + 1e-8).sum()


@pytest.mark.parametrize("U", [0.5, 4.0, 8.0, -3.0])
def test_two_sites_have_their_closed_form(U: float) -> None:
    found = ground_state(system("2", "open", "1,1", U, t=0.8)).energy
    assert found == pytest.approx(two_site_energy(U, 0.8), abs=1e-13)
    roots = np.roots([1, -U, -4 * 0.8**2])  # E^2 - U E - 4 t^2 = 0, from the two singlets
    assert found == pytest.approx(min(roots), abs=1e-13)


@pytest.mark.parametrize(
    ("lattice", "boundary", "filling", "changes"),
    [
        ("4x2", "periodic,open", "3,3", {}),
        ("3x3", "periodic", "2,5", {"t_prime": -0.3}),
        ("3x3", "antiperiodic", "2,2", {}),
        ("4x2", "open", "3,2", {"pinning": {"pattern": "neel", "strength": 0.5}}),
        ("7", "periodic", "3,2", {"twist": "0.4,0"}),
    ],
)
def test_without_interaction_each_spin_fills_its_levels(
    lattice: str, boundary: str, filling: str, changes: dict[str, Any]
) -> None:
    free = system(lattice, boundary, filling, 0, **changes)
    assert ground_state(free).energy == pytest.approx(free_fermion_energy(free), abs=1e-9)


def test_free_electrons_on_a_large_torus_fill_plane_waves() -> None:
    k = 2 * np.pi * np.arange(32) / 32
    levels = np.sort((-2 * np.cos(k)[:, None] - 2 * np.cos(k) + 4 * 0.2 * np.cos(k)[:, None] * np.cos(k)).ravel())
    free = system("32x32", "periodic", "448,440", 0, t_prime=-0.2)
    assert free_fermion_energy(free) == pytest.approx(levels[:448].sum() + levels[:440].sum(), abs=1e-9)
    with pytest.raises(ConfigError, match="fits: U=0"):
        free_fermion_energy(free.but(U=4))


@pytest.mark.parametrize(("lattice", "boundary"), [("4x2", "periodic,open"), ("6", "periodic"), ("3x2", "open")])
def test_particles_and_holes_are_alike(lattice: str, boundary: str) -> None:
    """E(-U, N_up, N_dn) = E(U, N_up, N - N_dn) - U N_up on a bipartite lattice; half filling goes into itself."""
    half = system(lattice, boundary, "1,1").sites // 2
    for up, down in ((half, half), (half, half - 1)):
        attractive = system(lattice, boundary, f"{up},{down}", -4)
        repulsive = system(lattice, boundary, f"{up},{2 * half - down}", 4)
        assert ground_state(attractive).energy == pytest.approx(ground_state(repulsive).energy - 4 * up, abs=1e-9)


OBSERVED = {
    "closed shell": system("7", "periodic", "3,3", 8),
    "open shell": system("7", "periodic", "4,3", 8),
    "polarised": system("3x2", "open", "3,1", 4, t_prime=-0.2),
    "twisted and pinned": system(
        "5", "periodic", "2,2", 4, twist="0.3,0", pinning={"pattern": "neel", "strength": 0.5}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OBSERVED)
def test_the_slope_of_the_energy_is_the_double_occupancy(name: str) -> None:
    """Hellmann and Feynman: dE/dU = sum_i <n_i,up n_i,dn>, by differences of fourth order."""
    config, step = OBSERVED[name], 0.02
    energy = {n: ground_state(config.but(U=config.U + n * step)).energy for n in (-2, -1, 1, 2)}
    slope = (8 * (energy[1] - energy[-1]) - (energy[2] - energy[-2])) / (12 * step)
    assert ground_observables(config).double_occupancy * config.sites == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize("name", OBSERVED)
def test_observables_are_traces_over_the_ground_states_of_the_whole_matrix(name: str) -> None:
    config = OBSERVED[name]
    levels, states = np.linalg.eigh(full_matrix(config).to_dense().numpy())
    ground = states[:, levels < levels[0] + 1e-8]
    weight_D = (np.abs(ground) ** 2).mean(axis=1)
    occupied_DM = Sector(config.sites, *config.particles).all().numpy().astype(float)
    up, down = occupied_DM[:, : config.sites], occupied_DM[:, config.sites :]
    mean = lambda values: np.tensordot(weight_D, values, axes=1)  # noqa: E731
    pairs = lambda a: a[:, :, None] * a[:, None, :]  # noqa: E731
    found = ground_observables(config)
    assert found.degeneracy == ground.shape[1]
    assert found.energy == pytest.approx(levels[0], abs=1e-9)
    assert np.allclose(found.density_up_N, mean(up), atol=1e-7)
    assert np.allclose(found.density_dn_N, mean(down), atol=1e-7)
    assert found.double_occupancy == pytest.approx(mean(up * down).mean(), abs=1e-7)
    assert np.allclose(found.spin_NN, mean(pairs((up - down) / 2)), atol=1e-7)
    charge = mean(pairs(up + down)) - np.outer(mean(up + down), mean(up + down))
    assert np.allclose(found.charge_NN, charge, atol=1e-7)


def test_what_takes_too_much_memory_is_refused_with_what_fits() -> None:
    with pytest.raises(ConfigError, match=r"165,636,900 states\nfits: up to .* such as filling=5,5 on 4x4"):
        ground_state(system("4x4", "periodic", "8,8"))
    with pytest.raises(ConfigError, match="fits: up to 15,625,000 states"):
        ground_state(system("4x4", "periodic", "8,8", twist="0.5,0"))


def test_lanczos_finds_every_copy_of_a_degenerate_level() -> None:
    generator = torch.Generator().manual_seed(1)
    frame = torch.linalg.qr(torch.randn(300, 300, dtype=torch.complex128, generator=generator)).Q
    levels = torch.tensor([-2.0] * 3 + [-1.9 + 0.02 * n for n in range(297)], dtype=torch.float64)
    matrix = (frame * levels) @ frame.mH
    found: list[torch.Tensor] = []
    for expected in (-2.0, -2.0, -2.0, -1.9):
        start = torch.randn(300, dtype=torch.complex128, generator=generator)
        pair = lowest_eigenpair(lambda vector: matrix @ vector, start, found, vectors=6, tolerance=1e-10)
        assert pair.value == pytest.approx(expected, abs=1e-12)
        assert float((matrix @ pair.vector_D - pair.value * pair.vector_D).norm()) < 1e-8
        found.append(pair.vector_D)
    overlap = torch.stack(found).conj() @ torch.stack(found).T
    assert torch.allclose(overlap, torch.eye(4).to(overlap), atol=1e-8)


def test_lanczos_that_does_not_converge_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanczos, "MOST_PRODUCTS", 5)
    with pytest.raises(TrainingError, match="not converged after 5 products"):
        ground_state(system("4x2", "periodic,open", "4,4"))


def test_the_hopping_matrix_has_both_spins_fields() -> None:
    pinned = system("2", "open", "1,1", pinning={"pattern": "neel", "strength": 0.4})
    assert single_particle_matrix(pinned, 0).tolist() == [[0.2, -1.0], [-1.0, -0.2]]
    assert single_particle_matrix(pinned, 1).tolist() == [[-0.2, -1.0], [-1.0, 0.2]]


def test_published_energies_fit_their_system_and_each_other() -> None:
    for row in TABLE:
        config = system(row.lattice, row.boundary, row.filling, row.U, t_prime=row.t_prime)
        assert row in published(config)
        free = free_fermion_energy(config.but(U=0))
        assert row.energy > free, "repulsion costs energy"
        for exact in published(config):
            if exact.exact:
                slack = 3 * math.hypot(row.error, exact.error) + 1e-12
                assert row.energy > exact.energy - slack, f"{row} lies below {exact}"


def test_published_energies_do_not_depend_on_how_a_system_is_written() -> None:
    torus = system("16x4", "periodic", "28,28", 8)
    assert len(published(torus)) > 5
    assert published(system("4x16", "periodic", "28,28", 8)) == published(torus)
    double = published(torus.but(t=2.0, U=16.0))
    assert [row.energy for row in double] == [2 * row.energy for row in published(torus)]
    assert published(torus.but(twist="0.5,0")) == []
    assert published(torus.but(boundary="antiperiodic,periodic")) == []
    assert len(published(system("4x4", "periodic", "7,8"))) == 1, "15 electrons, whichever spin is short of one"


def test_a_reference_is_computed_where_it_can_be_and_else_published() -> None:
    small = reference_energy(system("4x2", "periodic,open", "4,4", 8))
    assert small is not None
    assert small.energy == pytest.approx(-3.4671734372, abs=1e-9)
    assert small.source == "exact diagonalisation"
    half_filled = reference_energy(system("8x8", "periodic", "32,32", 8))
    assert dataclasses.asdict(half_filled or small) == {
        "energy": -33.642, "error": 0.005, "source": "auxiliary-field Monte Carlo, varbench",
    }  # fmt: skip
    free = system("16x16", "periodic", "112,112", 0)
    assert (reference_energy(free) or small).energy == free_fermion_energy(free)
    assert reference_energy(system("16x16", "periodic", "112,112", 8)) is None, "doped: nothing exact is known"
    assert exact_energy(system("4x4", "periodic", "7,7", 8)) == -11.86884
    assert exact_energy(system("8x8", "periodic", "32,32", 8)) is None, "Monte Carlo has an error"
