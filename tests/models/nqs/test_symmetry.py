"""Projections, against matrices that move creation operators past each other one by one."""

import numpy as np
import pytest
import torch
from torch import nn

from models.common.errors import ConfigError
from models.nqs.ansatz_config import AnsatzConfig
from models.nqs.determinants import log_sum
from models.nqs.network import make_ansatz
from models.nqs.sector import Sector
from models.nqs.symmetry import Projected, Symmetrizer
from models.nqs.symmetry_config import SymmetryConfig
from models.nqs.symmetry_group import Projection, projection
from models.nqs.system import SystemConfig
from tests.models.nqs.second_quantisation import (
    State,
    apply,
    basis_of,
    hubbard_terms,
    lattice_bonds,
    matrix,
    psi_of,
    values_of,
)

RING = SystemConfig(lattice="4x1", boundary="periodic", filling="2,2", U=4.0)
LADDER = SystemConfig(lattice="3x2", boundary="periodic,open", filling="2,2", U=4.0)
PLAQUETTE = SystemConfig(lattice="2x2", boundary="open", filling="2,2", U=4.0)
DIAGONAL = PLAQUETTE.but(t_prime=-0.3, filling="2,1")
ANTIPERIODIC = SystemConfig(lattice="4x1", boundary="antiperiodic,open", filling="1,1", U=3.0)
RECTANGLE = SystemConfig(lattice="3x2", boundary="open", filling="3,3", U=4.0)
CASES = {
    "translations": (RING, SymmetryConfig(translations="all")),
    "momentum pi": (RING, SymmetryConfig(translations="all", momentum="2,0")),
    "complex momentum": (LADDER, SymmetryConfig(translations="all", momentum="1,0")),
    "half translations": (RING, SymmetryConfig(translations="half")),
    "three electrons": (RING.but(filling="2,1"), SymmetryConfig(translations="all", point_group="D2")),
    "antiperiodic": (ANTIPERIODIC, SymmetryConfig(translations="all", spin_flip="even")),
    "C4v": (DIAGONAL, SymmetryConfig(point_group="C4v")),
    "d-wave": (PLAQUETTE, SymmetryConfig(point_group="C4v", irrep="B1", spin_flip="even")),
    "odd spin": (LADDER, SymmetryConfig(translations="all", point_group="D2", irrep="B2", spin_flip="odd")),
    "particle-hole": (RECTANGLE, SymmetryConfig(particle_hole="odd", point_group="D2", irrep="B1")),
    "everything": (
        RING,
        SymmetryConfig(translations="all", point_group="D2", spin_flip="even", particle_hole="even", momentum="2,0"),
    ),
}


class Table(nn.Module):
    """A vector as an ansatz."""

    def __init__(self, sector: Sector, vector: np.ndarray) -> None:
        super().__init__()
        self.psi = psi_of(sector, vector)

    def forward(self, occupied_WM: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.psi(occupied_WM)


def sector_of(system: SystemConfig) -> Sector:
    return Sector(system.sites, *system.particles)


def dense_hamiltonian(system: SystemConfig) -> np.ndarray:
    around = tuple(-1.0 if boundary == "antiperiodic" else 1.0 for boundary in system.boundaries)
    wraps = tuple(boundary != "open" for boundary in system.boundaries)
    bonds = lattice_bonds(system.shape, wraps, system.t_prime, around)  # pyright: ignore[reportArgumentType]
    return matrix(hubbard_terms(system.sites, bonds, system.U), basis_of(sector_of(system))).real


def dense_element(group: Projection, index: int, basis: list[State]) -> np.ndarray:
    """U_g column by column: the image of each creation operator, applied to the image of the vacuum."""
    element = group.elements[index]
    orbitals = len(element.permutation_M)
    place = {state: row for row, state in enumerate(basis)}
    dense = np.zeros((len(basis), len(basis)))
    for column, state in enumerate(basis):
        kind = "-" if element.swaps_holes else "+"
        images = [(kind, int(element.permutation_M[m])) for m in state]
        sign, image = apply(images, tuple(range(orbitals)) if element.swaps_holes else ())
        dense[place[image], column] = sign * element.vacuum * np.prod([element.sign_M[m] for m in state])
    return dense


@pytest.fixture(params=CASES.values(), ids=list(CASES))
def case(request: pytest.FixtureRequest) -> tuple[SystemConfig, SymmetryConfig]:
    return request.param


def test_configurations_and_signs_are_those_of_the_moved_creation_operators(case) -> None:
    system, config = case
    sector, group = sector_of(system), projection(config, system)
    basis, acts = basis_of(sector), Symmetrizer(group)
    images_WGM, signs_WG = acts.images(sector.all()), acts.signs(sector.all())
    for index in range(len(group.elements)):
        ours = np.zeros((len(basis), len(basis)))
        ours[sector.index(images_WGM[:, index]).numpy(), np.arange(len(basis))] = signs_WG[:, index].numpy()
        assert np.array_equal(ours, dense_element(group, index, basis))


def test_every_element_commutes_with_the_hamiltonian_and_the_characters_multiply(case) -> None:
    system, config = case
    group, basis = projection(config, system), basis_of(sector_of(system))
    hamiltonian = dense_hamiltonian(system)
    elements = [dense_element(group, index, basis) for index in range(len(group.elements))]
    for element in elements:
        assert np.abs(element @ hamiltonian - hamiltonian @ element).max() < 1e-12
    projector = np.tensordot(group.character_G.conj(), np.array(elements), axes=1) / len(elements)
    assert np.abs(projector @ projector - projector).max() < 1e-12
    for character, element in zip(group.character_G, elements, strict=True):
        assert np.abs(element @ projector - character * projector).max() < 1e-12


def test_projecting_any_vector_is_the_product_with_the_projectors_matrix(case) -> None:
    system, config = case
    sector, group = sector_of(system), projection(config, system)
    basis = basis_of(sector)
    projector = sum(
        np.conj(group.character_G[index]) * dense_element(group, index, basis) for index in range(len(group.elements))
    ) / len(group.elements)
    vector = np.random.default_rng(5).normal(size=len(basis))
    for amplitudes in (vector, vector + 1j * vector[::-1]):
        ours = values_of(Projected(Table(sector, amplitudes), group)(sector.all()))
        assert np.abs(ours - projector @ amplitudes).max() < 1e-12


def test_the_exact_ground_state_is_kept_or_annihilated_and_no_energy_is_below_the_best_symmetric_one(case) -> None:
    system, config = case
    sector, group = sector_of(system), projection(config, system)
    hamiltonian = dense_hamiltonian(system)
    levels, states = np.linalg.eigh(hamiltonian)
    if levels[1] - levels[0] > 1e-6:
        ground = states[:, 0]
        projected = values_of(Projected(Table(sector, ground), group)(sector.all()))
        share = np.vdot(projected, projected).real
        assert min(share, abs(share - 1)) < 1e-12
        assert share < 0.5 or np.abs(projected - ground).max() < 1e-10
    # The projector commutes with H: a projected level stays at its energy, the ground state is the lowest that is left.
    shares = [np.linalg.norm(values_of(Projected(Table(sector, state), group)(sector.all()))) for state in states.T]
    lowest = levels[np.array(shares) > 1e-6].min()
    vector = np.random.default_rng(7).normal(size=len(levels))
    projected = values_of(Projected(Table(sector, vector), group)(sector.all()))
    assert np.vdot(projected, hamiltonian @ projected).real >= (lowest - 1e-10) * np.vdot(projected, projected).real


def test_even_and_odd_spin_flip_are_even_and_odd_total_spin() -> None:
    sites, sector = RECTANGLE.sites, sector_of(RECTANGLE)
    # S^2 = S^- S^+ + Sz (Sz + 1), Sz = 0
    lower_raise = [
        (1.0, [("+", i + sites), ("-", i), ("+", j), ("-", j + sites)]) for i in range(sites) for j in range(sites)
    ]
    levels, states = np.linalg.eigh(matrix(lower_raise, basis_of(sector)).real)
    for parity, remainder in (("even", 0), ("odd", 1)):
        group = projection(SymmetryConfig.model_validate({"spin_flip": parity}), RECTANGLE)
        for level in sorted({round(value) for value in levels}):
            spin = round((np.sqrt(1 + 4 * level) - 1) / 2)
            members = states[:, np.abs(levels - level) < 1e-6]
            kept = values_of(Projected(Table(sector, members[:, 0]), group)(sector.all()))
            assert np.abs(kept - members[:, 0] * (spin % 2 == remainder)).max() < 1e-10


def test_the_half_filled_ground_state_is_a_singlet_of_spin_and_pseudospin() -> None:
    """Lieb 1989: on a bipartite lattice with equal sublattices, so that it is even under both reflections."""
    for system in (RECTANGLE, PLAQUETTE):
        config = SymmetryConfig(spin_flip="even", particle_hole="even")
        ground = np.linalg.eigh(dense_hamiltonian(system))[1][:, 0]
        sector = sector_of(system)
        kept = values_of(Projected(Table(sector, ground), projection(config, system))(sector.all()))
        assert np.abs(kept - ground).max() < 1e-10


def test_the_half_filled_plaquette_is_d_wave() -> None:
    """Scalapino and Trugman 1996: of the four irreps of the square, the ground state has only d_{x2-y2}."""
    sector = sector_of(PLAQUETTE)
    ground = np.linalg.eigh(dense_hamiltonian(PLAQUETTE))[1][:, 0]
    for irrep in ("A1", "A2", "B1", "B2"):
        group = projection(SymmetryConfig.model_validate({"point_group": "C4v", "irrep": irrep}), PLAQUETTE)
        kept = values_of(Projected(Table(sector, ground), group)(sector.all()))
        assert np.abs(kept - ground * (irrep == "B1")).max() < 1e-10


def test_momentum_is_that_of_a_plane_wave() -> None:
    system = SystemConfig(lattice="4x3", boundary="periodic", filling="1,0", U=0.0)
    sector = sector_of(system)
    x, y = np.divmod(np.arange(12), 3)
    site = sector.all().int().argmax(dim=1).numpy()
    for momentum in ((0, 0), (1, 0), (3, 2), (0, 1)):
        wave = np.exp(2j * np.pi * (momentum[0] * x / 4 + momentum[1] * y / 3))[site]
        for label in ("0,0", "1,0", "3,2", "0,1"):
            group = projection(SymmetryConfig(translations="all", momentum=label), system)
            kept = values_of(Projected(Table(sector, wave), group)(sector.all()))
            expected = wave * (label == f"{momentum[0]},{momentum[1]}")
            assert np.abs(kept - expected).max() < 1e-12


def test_groups_have_the_size_that_crystallography_gives_them() -> None:
    square = SystemConfig(lattice="4x4", boundary="periodic", filling="8,8", U=4.0)
    sizes = {
        128: SymmetryConfig(translations="all", point_group="C4v"),
        512: SymmetryConfig(translations="all", point_group="C4v", spin_flip="even", particle_hole="even"),
        4: SymmetryConfig(translations="half"),
        16: SymmetryConfig(translations="quarter"),
        8: SymmetryConfig(translations="half", spin_flip="even"),
    }
    for size, config in sizes.items():
        assert len(projection(config, square).elements) == size


def test_a_network_is_projected_in_pieces_as_in_one_and_has_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(2)
    config = SymmetryConfig(translations="all", point_group="D2", spin_flip="even")
    projected = Projected(make_ansatz(AnsatzConfig(width=8, heads=2), RING), projection(config, RING))
    occupied_WM = sector_of(RING).all()
    log_W, sign_W = projected(occupied_WM)
    monkeypatch.setattr("models.nqs.symmetry.IMAGES_AT_ONCE", 3 * len(occupied_WM))
    again_W, sign_again_W = projected(occupied_WM)
    assert torch.allclose(log_W, again_W, rtol=0, atol=1e-12)
    assert torch.equal(sign_W, sign_again_W)
    values_W = log_W.exp() * sign_W
    values_W.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in projected.parameters())


def test_gradients_of_single_walkers_agree_with_finite_differences_under_vmap() -> None:
    torch.manual_seed(3)
    projected = Projected(
        make_ansatz(AnsatzConfig(kind="mean_field"), RING), projection(SymmetryConfig(translations="all"), RING)
    )
    names, values = zip(*projected.named_parameters(), strict=True)

    def log_psi(parameters, occupied_M):
        given = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(projected, given, (occupied_M[None],))[0][0]

    occupied_WM = sector_of(RING).all()[3:7]
    values = tuple(value.detach() for value in values)
    (gradient,) = torch.func.vmap(torch.func.grad(log_psi), in_dims=(None, 0))(values, occupied_WM)
    step = torch.zeros_like(values[0])
    step[0, 5, 1] = 1e-6
    above, below = (
        torch.stack([log_psi((values[0] + turn * step,), occupied_M) for occupied_M in occupied_WM]) for turn in (1, -1)
    )
    assert torch.allclose(gradient[:, 0, 5, 1], (above - below) / 2e-6, rtol=1e-6, atol=1e-7)


def test_sums_of_logarithms_neither_overflow_nor_lose_zeros() -> None:
    log_WG = torch.tensor([[1000.0, 999.0], [-torch.inf, -torch.inf], [-2000.0, -2000.0], [3.0, -torch.inf]])
    factor_WG = torch.tensor([[1.0, -1.0], [1.0, 1.0], [0.5, -0.5], [-2.0, 1.0]])
    log_W, sign_W = log_sum(log_WG.double(), factor_WG.double())
    expected = [1000 + np.log(1 - np.exp(-1)), -np.inf, -np.inf, 3 + np.log(2)]
    assert np.allclose(log_W.numpy(), expected, rtol=1e-14)
    assert sign_W.tolist() == [1, 1, 1, -1]


REFUSED = {
    "fits: equal numbers": (RING.but(filling="2,1"), {"spin_flip": "even"}),
    "not square": (LADDER, {"point_group": "C4v"}),
    "has no translation": (RECTANGLE, {"translations": "all"}),
    "half filling": (RING.but(filling="1,1"), {"particle_hole": "even"}),
    "two sublattices": (PLAQUETTE.but(t_prime=0.1), {"particle_hole": "even"}),
    "exclude each other": (RING, {"point_group": "D2", "irrep": "A2"}),
    "no state of this filling": (ANTIPERIODIC.but(filling="2,1"), {"translations": "all"}),
    "without translations": (RING, {"momentum": "1,0"}),
    "without a point group": (RING, {"irrep": "B1"}),
    "the twist 0.5,0": (RING.but(twist="0.5,0"), {"translations": "all"}),
    "changes the pinning": (RING.but(pinning={"pattern": "neel", "strength": 0.1}), {"translations": "all"}),
    "with a pinning field": (RING.but(pinning={"pattern": "neel", "strength": 0.1}), {"spin_flip": "even"}),
    "mirror x is not": (RING.but(twist="0.5,0"), {"point_group": "D2"}),
    "mirror diagonal is not": (
        SystemConfig(lattice="3x3", boundary="periodic,open", filling="1,1", U=1.0),
        {"point_group": "C4v"},
    ),
}


@pytest.mark.parametrize("says", REFUSED)
def test_what_does_not_fit_is_refused_with_what_does(says: str) -> None:
    system, fields = REFUSED[says]
    config = SymmetryConfig.model_validate(fields)
    with pytest.raises(ConfigError, match=says):
        projection(config, system)
    with pytest.raises(ValueError, match="fits:"):
        config.check(system)


def test_a_mirror_that_turns_the_momentum_is_refused_and_a_fitting_pinning_field_is_not() -> None:
    with pytest.raises(ConfigError, match="exclude each other"):
        projection(SymmetryConfig(translations="all", momentum="1,0", point_group="D2"), RING)
    pinned = SystemConfig(lattice="4x4", boundary="periodic", filling="8,8", U=4.0).but(
        pinning={"pattern": "neel", "strength": 0.1}
    )
    assert len(projection(SymmetryConfig(translations="half"), pinned).elements) == 4


def test_the_momentum_has_one_spelling_and_says_whether_it_is_complex() -> None:
    assert SymmetryConfig(momentum=" 1, 00", translations="all").momentum == "1,0"
    with pytest.raises(ValueError, match="two whole numbers"):
        SymmetryConfig(momentum="0.5,0")
    assert SymmetryConfig(momentum="1,0", translations="all").is_complex(RING)
    assert not SymmetryConfig(momentum="2,0", translations="all").is_complex(RING)
