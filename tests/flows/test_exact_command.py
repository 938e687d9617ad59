"""`orchard exact`: the energy of a small Hubbard model, or one clear error."""

import math
from pathlib import Path

import pytest

from tests.fixtures.commands import orchard, orchard_json

DIMER = ("exact", "--lattice", "2", "--boundary", "open", "--filling", "1,1", "--U", "4")
DIMER_ENERGY = (4 - math.sqrt(4**2 + 16)) / 2  # two sites, two electrons: in every textbook


def test_the_dimer_has_its_textbook_energy() -> None:
    answer = orchard_json(*DIMER)
    assert answer["energy"] == pytest.approx(DIMER_ENERGY, abs=1e-12)
    assert answer["energy_per_site"] == pytest.approx(DIMER_ENERGY / 2, abs=1e-12)
    assert (answer["states"], answer["degeneracy"], answer["method"]) == (4, 1, "dense")
    assert answer["seconds"] >= 0
    assert answer["system"]["lattice"] == "2x1"
    assert answer["system"]["filling"] == "1,1"


def test_people_read_the_same_energy() -> None:
    done = orchard(*DIMER)
    assert done.returncode == 0, done.stderr
    assert f"{DIMER_ENERGY:.10f}" in done.stdout
    assert "degeneracy 1" in done.stdout


def test_every_option_reaches_the_hamiltonian() -> None:
    """One electron on a 4x2 torus: -2 cos k - hops along y - 4 t' cos k_x cos k_y, lowest at a twisted k."""
    one = (
        "exact",
        "--lattice",
        "4x2",
        "--boundary",
        "periodic",
        "--filling",
        "1,0",
        "--U",
        "5",
        "--wrap-bond",
        "twice",
    )
    answer = orchard_json(*one, "--t-prime", "-0.2", "--twist", "0.5,0")
    wave_numbers = [(2 * math.pi * n + math.pi / 2) / 4 for n in range(4)]
    levels = [
        -2 * math.cos(k) - 2 * sign + 4 * 0.2 * math.cos(k) * sign  # sign = cos k_y
        for k in wave_numbers
        for sign in (1, -1)
    ]
    assert answer["energy"] == pytest.approx(min(levels), abs=1e-12)


REFUSED = {
    "lattice": (("--lattice", "4by2"), "lattice: found '4by2'"),
    "boundary": (("--boundary", "closed"), "fits: periodic, antiperiodic, open"),
    "filling": (("--filling", "3,1"), "3 electrons with spin up on 2 sites; fits: 0 to 2"),
    "twist": (("--twist", "0.5,0"), "a twist along x, which is open"),
    "wrap bond": (("--wrap-bond", "thrice"), "'once' or 'twice'"),
    "memory": (("--lattice", "4x4", "--filling", "8,8"), "such as filling=5,5 on 4x4"),
    "usage": (("--U", "many"), "Invalid value for '--U'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_diagonalised_is_refused_with_what_fits(case: str, home: Path) -> None:
    changes, told = REFUSED[case]
    done = orchard(*DIMER, *changes, seconds=60)
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_help_teaches_by_example() -> None:
    assert "orchard exact --lattice" in orchard("exact", "--help").stdout
