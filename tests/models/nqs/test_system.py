"""A system's text: one spelling for equal systems, an error that says what fits for all others; and its bonds."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from models.common.errors import ConfigError
from models.nqs.exact import single_particle_matrix
from models.nqs.lattice import bonds, fields, point_group, translations
from models.nqs.sector import Sector
from models.nqs.system import SystemConfig

PLAIN: dict[str, Any] = {"lattice": "4x3", "boundary": "periodic", "filling": "2,1", "U": 4.0}


def system(**changes: Any) -> SystemConfig:
    return SystemConfig(**{**PLAIN, **changes})


REFUSED = {
    "letters for a lattice": ({"lattice": "axb"}, "fits: 4x2, or 10 for a chain"),
    "three lengths": ({"lattice": "2x2x2"}, "fits: 4x2"),
    "no sites": ({"lattice": "0x3"}, "fits: 4x2"),
    "an unknown boundary": ({"boundary": "closed"}, "fits: periodic, antiperiodic, open"),
    "three boundaries": ({"boundary": "open,open,open"}, "two of them as in periodic,open"),
    "one count": ({"filling": "4"}, "fits: 4,4"),
    "a negative count": ({"filling": "-1,2"}, "fits: 4,4"),
    "no electrons": ({"filling": "0,0"}, "no electrons"),
    "more up electrons than sites": ({"filling": "13,1"}, "13 electrons with spin up on 12 sites; fits: 0 to 12"),
    "more down electrons than sites": ({"filling": "1,13"}, "13 electrons with spin down on 12 sites"),
    "U as a word": ({"U": "strong"}, "valid number"),
    "U without end": ({"U": float("inf")}, "finite"),
    "a twist that is no number": ({"twist": "half,0"}, "fits: 0.5,0"),
    "a twist that is not finite": ({"twist": "nan,0"}, "fits: 0.5,0"),
    "one twist": ({"twist": "0.5"}, "fits: 0.5,0"),
    "a twist of an open side": ({"boundary": "open,periodic", "twist": "0.5,0"}, "a twist along x, which is open"),
    "a twist of an antiperiodic side": ({"boundary": "antiperiodic", "twist": "0,0.5"}, "which is antiperiodic"),
    "antiperiodic on one bond": ({"lattice": "2x4", "boundary": "antiperiodic,open"}, "wrap_bond=twice"),
    "a twist on one bond": ({"lattice": "4x2", "twist": "0,0.5"}, "wrap_bond=twice"),
    "antiperiodic without bonds": ({"lattice": "8", "boundary": "open,antiperiodic"}, "length 1"),
    "an unknown wrap": ({"wrap_bond": "thrice"}, "'once' or 'twice'"),
    "an unknown field": ({"u": 4}, "Extra inputs"),
    "a strength without a pattern": ({"pinning": {"strength": 0.1}}, "fits: pattern=neel"),
    "a stripe without wavelength": ({"pinning": {"pattern": "stripe", "strength": 0.1}}, "fits: wavelength=8"),
    "a wavelength without stripe": ({"pinning": {"pattern": "neel", "wavelength": 4}}, "has no wavelength"),
    "a column outside": ({"pinning": {"pattern": "neel", "columns": (4,)}}, "fits: 0 to 3"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_system_is_refused_with_what_fits(case: str) -> None:
    changes, told = REFUSED[case]
    with pytest.raises(ValidationError, match=re.escape(told)):
        system(**changes)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"lattice": 10}, {"lattice": "10x1", "boundary": "periodic,open"}),
        ({"lattice": "10", "boundary": "antiperiodic"}, {"lattice": "10x1", "boundary": "antiperiodic,open"}),
        ({"lattice": "10", "boundary": "periodic,periodic"}, {"lattice": "10x1", "boundary": "periodic,open"}),
        ({"boundary": "cylinder"}, {"boundary": "open, periodic"}),
        ({"filling": " 2 , 1"}, {"filling": "2,1"}),
        ({"twist": "0.50,-0"}, {"twist": "0.5,0"}),
    ],
)
def test_equal_systems_have_equal_fingerprints(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert system(**one).fingerprint() == system(**other).fingerprint()


def test_numbers_come_out_as_they_went_in() -> None:
    found = system(boundary="periodic,open", twist="0.25,0")
    assert (found.shape, found.sites, found.particles) == ((4, 3), 12, (2, 1))
    assert (found.boundaries, found.twists) == (("periodic", "open"), (0.25, 0.0))
    assert found.is_complex
    assert not system(twist="1,0").is_complex, "a twist of pi is a sign"
    assert "4x3" in found.label
    assert "U=4" in found.label


@pytest.mark.parametrize("lattice", ["7", "4x3", "4x4", "3x5", "8x6"])
@pytest.mark.parametrize("boundary", ["periodic", "open"])
def test_bonds_are_the_pairs_at_distance_one_and_root_two(lattice: str, boundary: str) -> None:
    config = system(lattice=lattice, boundary=boundary, t_prime=-0.3)
    length_x, length_y = config.shape
    expected: dict[tuple[int, int], float] = {}
    for i in range(config.sites):
        for j in range(i):
            apart = []
            for a, b, length in ((i // length_y, j // length_y, length_x), (i % length_y, j % length_y, length_y)):
                direct = abs(a - b)
                apart.append(min(direct, length - direct) if boundary == "periodic" else direct)
            if sorted(apart) == [0, 1]:
                expected[j, i] = 1.0
            elif apart == [1, 1]:
                expected[j, i] = -0.3
    found = bonds(config)
    pairs = [tuple(pair) for pair in found.pairs_E2.tolist()]
    assert dict(zip(pairs, found.hopping_E.tolist(), strict=True)) == expected
    assert len(pairs) == len(expected), "each pair once"


def test_a_length_of_two_has_its_bond_once_or_twice() -> None:
    once, twice = bonds(system(lattice="4x2")), bonds(system(lattice="4x2", wrap_bond="twice"))
    assert len(once.pairs_E2) == len(twice.pairs_E2) == 12
    assert set(once.hopping_E.tolist()) == {1.0}
    along_y = twice.pairs_E2[:, 1] - twice.pairs_E2[:, 0] == 1
    assert set(twice.hopping_E[along_y].tolist()) == {2.0}
    assert set(twice.hopping_E[~along_y].tolist()) == {1.0}


def test_phases_sit_on_the_boundary() -> None:
    ring = bonds(system(lattice="5", boundary="antiperiodic"))
    assert dict(zip(map(tuple, ring.pairs_E2.tolist()), ring.hopping_E.tolist(), strict=True)) == {
        (0, 1): 1.0, (1, 2): 1.0, (2, 3): 1.0, (3, 4): 1.0, (0, 4): -1.0,
    }  # fmt: skip
    assert np.array_equal(bonds(system(lattice="5", twist="1,0")).hopping_E, ring.hopping_E), "a twist of pi is a sign"


@pytest.mark.parametrize("sign", [1, -1])
def test_a_twist_moves_every_wave_number(sign: int) -> None:
    """-2 cos k - 4 t' terms at k = (2 pi n + phase) / L: the plane waves of a twisted torus, t' included."""
    config = system(lattice="4x3", twist=f"{sign * 0.3},0.7", t_prime=-0.25)
    found = np.linalg.eigvalsh(single_particle_matrix(config, 0))
    k_x = (2 * np.pi * np.arange(4)[:, None] + sign * 0.3 * np.pi) / 4
    k_y = (2 * np.pi * np.arange(3) + 0.7 * np.pi) / 3
    expected = -2 * np.cos(k_x) - 2 * np.cos(k_y) + 4 * 0.25 * np.cos(k_x) * np.cos(k_y)
    assert np.allclose(found, np.sort(expected.ravel()), atol=1e-13)


def test_pinning_fields_are_the_patterns_they_are_named_after() -> None:
    neel = fields(system(lattice="2x2", boundary="open", pinning={"pattern": "neel", "strength": 0.4}))
    assert np.allclose(neel, [0.2, -0.2, -0.2, 0.2, -0.2, 0.2, 0.2, -0.2])
    pinning = {"pattern": "stripe", "strength": 1, "wavelength": 2, "columns": (1, 2)}
    stripe = fields(system(lattice="4x1", boundary="open", pinning=pinning))
    assert np.allclose(stripe[:4], [0, -0.5, -0.5, 0]), "the domain wall between columns 1 and 2 turns the sign"
    assert np.array_equal(stripe[4:], -stripe[:4])
    assert not fields(system()).any()


@pytest.mark.parametrize(
    ("changes", "count_translations", "count_point_group"),
    [
        ({"lattice": "4x4"}, 16, 8),
        ({"lattice": "4x4", "t_prime": -0.2}, 16, 8),
        ({"lattice": "4x3"}, 12, 4),
        ({"lattice": "4x4", "boundary": "periodic,open"}, 4, 4),
        ({"lattice": "4x4", "boundary": "open"}, 1, 8),
        ({"lattice": "6"}, 6, 2),
        ({"lattice": "4x4", "boundary": "antiperiodic,periodic"}, 4, 4),
        ({"lattice": "4x4", "pinning": {"pattern": "neel", "strength": 0.1}}, 8, 4),
        ({"lattice": "4x4", "pinning": {"pattern": "neel", "strength": 0.1, "columns": (0,)}}, 2, 1),
    ],
)
def test_symmetries_are_as_many_as_the_group_has(
    changes: dict[str, Any], count_translations: int, count_point_group: int
) -> None:
    config = system(**changes)
    assert len(translations(config)) == count_translations
    assert len(point_group(config)) == count_point_group
    for symmetry in (*translations(config), *point_group(config)):
        assert sorted(symmetry.permutation_N.tolist()) == list(range(config.sites))
    assert translations(config)[0].permutation_N.tolist() == list(range(config.sites))


def test_a_symmetry_leaves_the_hopping_matrix_as_it_is() -> None:
    config = system(lattice="4x4", boundary="periodic,open", t_prime=0.3)
    h_NN = single_particle_matrix(config, 0)
    for symmetry in (*translations(config), *point_group(config)):
        moved = symmetry.permutation_N
        assert np.array_equal(h_NN[np.ix_(moved, moved)], h_NN), symmetry.name


@pytest.mark.parametrize(("sites", "up", "down"), [(4, 2, 2), (6, 0, 3), (6, 6, 1), (8, 3, 5), (30, 1, 2)])
def test_a_sector_lists_every_configuration_once_in_the_order_of_its_index(sites: int, up: int, down: int) -> None:
    sector = Sector(sites, up, down)
    occupied_DM = sector.all()
    assert occupied_DM.shape == (sector.dimension, 2 * sites)
    assert (occupied_DM[:, :sites].sum(1) == up).all()
    assert (occupied_DM[:, sites:].sum(1) == down).all()
    bits = [
        (sum(1 << i for i in range(sites) if row[i]), sum(1 << i for i in range(sites) if row[sites + i]))
        for row in occupied_DM.tolist()
    ]
    assert bits == sorted(set(bits)), "ascending by (up bits, down bits), none twice"
    assert sector.index(occupied_DM).tolist() == list(range(sector.dimension))


def test_a_sector_beyond_the_bits_of_a_number_says_so() -> None:
    sector = Sector(1024, 448, 448)
    assert not sector.indexable
    with pytest.raises(ConfigError, match="fits: up to 62 sites"):
        sector.all()
    with pytest.raises(ConfigError, match="fits: up to 62 sites"):
        sector.index(torch.zeros(1, 2048, dtype=torch.bool))
