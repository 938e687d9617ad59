"""Energies that others published, and the reference that a result is compared with.

Numbers are as printed, per site or in total, at t = 1 and without twist or field. Sources:

Parola    Parola et al., Physical Review B 45, 10741 (1992), table 2
varbench  the tables of github.com/varbench/varbench (Wu et al., Science 386, 296 (2024))
Qin       Qin, Shi and Zhang, Physical Review B 94, 085103 (2016), as Gu quotes them
Liu       Liu et al., Physical Review Letters 134, 256502, as Gu quotes them
Gu        Gu et al., arXiv 2507.02644v2, tables S1 and S2; "figure" where a number is only a label in a plot
ACE       arXiv 2604.25775v1, its own numbers and those of others that it quotes
Others    arXiv 2604.21978 and 2608.12465
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isclose

from models.nqs.system import SystemConfig

REFERENCE_STATES = 1_000_000  # up to here a reference is computed rather than looked up


@dataclass(frozen=True)
class PublishedEnergy:
    """One published ground-state energy, or variational energy, of one system."""

    lattice: str
    boundary: str
    filling: str
    U: float
    t_prime: float
    energy: float  # in total
    error: float  # one standard deviation, or half a unit of the last digit of an exact number; 0 where none is printed
    method: str
    source: str
    exact: bool  # no bias of a trial state: exact diagonalisation, or Monte Carlo without a sign problem

    @property
    def energy_per_site(self) -> float:
        """The total divided by the number of sites."""
        return self.energy / _sites(self.lattice)


@dataclass(frozen=True)
class Reference:
    """The total energy to compare with, its error, and where it is from."""

    energy: float
    error: float
    source: str


def published(system: SystemConfig) -> list[PublishedEnergy]:
    """All published energies of this system, exact ones first, then from low to high, in the system's units.

    A lattice lying on its side, spins exchanged, and another unit of energy t make no difference; a twist or a pinning
    field does: there is none in the tables.
    """
    if system.t <= 0 or any(system.twists) or system.pinning.strength or 2 in system.shape:
        return []
    rows = [
        row
        for row in TABLE
        if _geometry(row.lattice, row.boundary) == _geometry(system.lattice, system.boundary)
        and sorted(row.filling.split(",")) == sorted(system.filling.split(","))
        and isclose(row.U * system.t, system.U, rel_tol=1e-9)
        and isclose(row.t_prime * system.t, system.t_prime, rel_tol=1e-9)
    ]
    scaled = [
        PublishedEnergy(**{**vars(row), "energy": row.energy * system.t, "error": row.error * system.t}) for row in rows
    ]
    return sorted(scaled, key=lambda row: (not row.exact, row.energy))


def exact_energy(system: SystemConfig) -> float | None:
    """The total energy by a published exact diagonalisation, or None: looked up, and without statistical error."""
    return next((row.energy for row in published(system) if row.method == ED), None)


def reference_energy(system: SystemConfig) -> Reference | None:
    """What is known exactly of this system: free electrons, or diagonalised here, or published; None if nothing is.

    Diagonalises up to 1e6 states, which takes seconds, and raises TrainingError should that not converge. Of several
    published numbers it is the one with the smallest error.
    """
    from models.nqs.exact import free_fermion_energy, ground_state
    from models.nqs.sector import Sector

    if system.U == 0:
        return Reference(free_fermion_energy(system), 0.0, "free electrons")
    if Sector(system.sites, *system.particles).dimension <= REFERENCE_STATES:
        return Reference(ground_state(system).energy, 0.0, "exact diagonalisation")
    exact = [row for row in published(system) if row.exact]
    if not exact:
        return None
    best = min(exact, key=lambda row: row.error)
    return Reference(best.energy, best.error, f"{best.method}, {best.source}")


def _sites(lattice: str) -> int:
    length_x, length_y = lattice.split("x")
    return int(length_x) * int(length_y)


def _geometry(lattice: str, boundary: str) -> list[tuple[str, str]]:
    """Lengths with their boundaries, the same for a lattice and for one on its side."""
    return sorted(zip(lattice.split("x"), boundary.split(","), strict=True))


def _rows(
    key: tuple[str, float, float],
    method: str,
    source: str,
    energies: dict[str, float | tuple[float, float]],
    *,
    electrons: int | None = None,
    total: bool = False,
) -> Iterator[PublishedEnergy]:
    """Rows of one method by lattice, for key = (boundary, U, t_prime); 1/8 hole doping where no electrons are given."""
    boundary, U, t_prime = key
    for lattice, printed in energies.items():
        sites = _sites(lattice)
        count = electrons or sites * 7 // 8
        energy, error = printed if isinstance(printed, tuple) else (printed, 0.0)
        factor = 1 if total else sites
        yield PublishedEnergy(
            lattice,
            boundary,
            f"{(count + 1) // 2},{count // 2}",
            U,
            t_prime,
            energy * factor,
            error * factor,
            method,
            source,
            method in (ED, AFQMC),
        )


ED = "exact diagonalisation"
AFQMC = "auxiliary-field Monte Carlo"
NQS = "transformer backflow"

_TORUS, _OPEN = ("periodic,periodic", 8.0, 0.0), ("open,open", 8.0, 0.0)
_TORUS_T = ("periodic,periodic", 8.0, -0.2)


def _on_4x4() -> Iterator[PublishedEnergy]:
    """The 4x4 torus: electrons -> {U: total energy}."""
    parola = {
        16: {10: -7.02900, 20: -3.73991},
        15: {4: -14.66524, 8: -10.14724},
        14: {4: -15.74459, 8: -11.86884, 10: -10.80701, 20: -8.46148},
        13: {4: -16.72700, 8: -13.38126},
        12: {4: -17.72958, 8: -14.92531},
        11: {4: -18.64833, 8: -16.20437},
        10: {10: -16.90356, 20: -15.45150},
    }
    more_digits = {
        16: {4: -13.6218548212, 8: -8.4688750142},
        10: {4: -19.5809375254, 8: -17.5103666949},
    }
    for table, source, rounding in ((parola, "Parola", 5e-6), (more_digits, "varbench", 5e-11)):
        for electrons, of_U in table.items():
            for U, energy in of_U.items():
                key = ("periodic,periodic", float(U), 0.0)
                yield from _rows(key, ED, source, {"4x4": (energy, rounding)}, electrons=electrons, total=True)


def _half_filled() -> Iterator[PublishedEnergy]:
    """Half filling, without a sign problem."""
    small = ("periodic,periodic", 4.0, 0.0)
    cylinder = ("periodic,open", 8.0, 0.0)
    yield from _rows(small, AFQMC, "varbench", {"8x8": (-55.063, 0.004)}, electrons=64, total=True)
    yield from _rows(_TORUS, AFQMC, "varbench", {"8x8": (-33.642, 0.005)}, electrons=64, total=True)
    yield from _rows(cylinder, AFQMC, "varbench", {"8x8": (-32.029, 0.015)}, electrons=64, total=True)
    yield from _rows(cylinder, "DMRG, extrapolated", "varbench", {"8x8": (-32.003, 0.021)}, electrons=64, total=True)
    for lattice, monte_carlo, transformer in (
        ("8x8", (-0.5262, 5e-4), -0.52582),
        ("10x10", (-0.5254, 3e-4), -0.52492),
        ("12x12", (-0.5246, 1e-4), -0.52440),
    ):
        yield from _rows(_TORUS, AFQMC, "Qin", {lattice: monte_carlo}, electrons=_sites(lattice))
        yield from _rows(_TORUS, NQS, "Gu", {lattice: transformer}, electrons=_sites(lattice))


def _doped_open() -> Iterator[PublishedEnergy]:
    """1/8 hole doping, open boundaries and cylinders, U = 8."""
    dmrg = {"16x4": -0.68537, "16x6": -0.70550, "8x8": -0.69840, "16x8": -0.71250}
    peps: dict[str, float | tuple[float, float]] = {
        "16x4": (-0.68304, 5e-5),
        "16x6": (-0.7008, 2e-4),
        "8x8": (-0.69928, 3e-5),
        "16x8": (-0.7122, 3e-4),
        "16x12": (-0.7202, 2e-4),
        "16x16": (-0.7260, 2e-4),
    }
    transformer = {
        "16x4": -0.68325,
        "16x6": -0.70307,
        "8x8": -0.69952,
        "16x8": -0.71309,
        "16x12": -0.72212,
        "16x16": -0.72747,
    }
    mean_field = {
        "16x4": -0.52499,
        "16x6": -0.54269,
        "8x8": -0.53874,
        "16x8": -0.55335,
        "16x12": -0.56250,
        "16x16": -0.56716,
    }
    yield from _rows(_OPEN, "DMRG", "Liu", {**dmrg})
    yield from _rows(_OPEN, "PEPS", "Liu", peps)
    yield from _rows(_OPEN, NQS, "Gu", {**transformer})
    yield from _rows(_OPEN, "Hartree-Fock", "Gu", {**mean_field})
    for method, energy in _ON_16X16["open"].items():
        yield from _rows(_OPEN, method, "ACE", {"16x16": energy})
    around = ("periodic,open", 8.0, 0.0)
    yield from _rows(around, "DMRG", "varbench", {"4x8": -23.5645, "4x16": -48.0533}, total=True)
    extrapolated = {"4x8": (-23.5658, 3e-4), "4x16": (-48.073, 0.004)}
    yield from _rows(around, "DMRG, extrapolated", "varbench", {**extrapolated}, total=True)
    yield from _rows(("open,periodic", 8.0, -0.2), NQS, "Gu", {"16x8": -0.72791})
    yield from _rows(("open,periodic", 8.0, -0.2), "DMRG, m=40000", "Gu", {"16x8": -0.72747})


def _doped_torus() -> Iterator[PublishedEnergy]:
    """1/8 hole doping, periodic, t' = 0, U = 8."""
    yield from _rows(_TORUS, NQS, "Gu", {"16x4": -0.76298})
    labels = {"8x8": -0.7532, "12x12": -0.7567, "16x8": -0.7568, "16x12": -0.7562}
    yield from _rows(_TORUS, NQS, "Gu, figure", {**labels})
    yield from _rows(_TORUS, "hidden fermions", "varbench", {"4x8": (-24.426, 0.002)}, total=True)
    yield from _rows(_TORUS, "hidden fermions", "Gu", {"16x4": (-0.753, 0.002)})
    yield from _rows(_TORUS, "variational Monte Carlo", "varbench", {"8x8": (-47.501, 0.002)}, total=True)
    yield from _rows(_TORUS, "fixed node", "varbench", {"8x8": (-47.954, 0.001)}, total=True)
    on_16x4: dict[str, float | tuple[float, float]] = {
        "ACE": (-0.76464, 1e-5),
        "ACE, projected": (-0.76623, 1e-5),
        "ACE, projected, Green's function Monte Carlo": (-0.76647, 2e-5),
        "hidden fermion Pfaffian": (-0.76413, 3e-5),
        "neural backflow, 1 determinant": (-0.76258, 1e-5),
        "neural backflow, 32 symmetries": (-0.76486, 2e-5),
        "neural backflow, 32 symmetries, projected": (-0.76560, 1e-5),
        "neural backflow, all symmetries": (-0.766073, 6e-6),
    }
    for method, energy in on_16x4.items():
        yield from _rows(_TORUS, method, "ACE", {"16x4": energy})
    for method, energy in _ON_16X16["torus"].items():
        yield from _rows(_TORUS, method, "ACE", {"16x16": energy})
    for method, energies in {
        "SCALE, horizontal stripes": {"32x16": -0.7507},
        "SCALE, vertical stripes": {"32x16": -0.7507},
        "SCALE": {"32x32": -0.7501},
        "SCALE, horizontal stripes, Green's function Monte Carlo": {"32x16": -0.7546},
        "SCALE, vertical stripes, Green's function Monte Carlo": {"32x16": -0.7547},
        "SCALE, Green's function Monte Carlo": {"32x32": -0.7548, "16x8": (-0.75628, 2e-5)},
    }.items():
        yield from _rows(_TORUS, method, "ACE", {**energies})


def _doped_torus_with_t_prime() -> Iterator[PublishedEnergy]:
    """1/8 hole doping, periodic, t' = -0.2, U = 8."""
    labels = {
        "8x8": -0.7447,
        "10x8": -0.7427,
        "12x8": -0.7456,
        "18x8": -0.7421,
        "20x8": -0.7433,
        "24x8": -0.7423,
        "12x12": -0.7414,
        "16x12": -0.7440,
    }
    yield from _rows(_TORUS_T, NQS, "Gu, figure", {**labels})
    yield from _rows(_TORUS_T, f"{NQS}, horizontal stripes", "Gu, figure", {"16x10": -0.7434})
    yield from _rows(_TORUS_T, f"{NQS}, vertical stripes", "Gu, figure", {"16x10": -0.7418})
    for method, energy in _ON_16X16["torus with t'"].items():
        yield from _rows(_TORUS_T, method, "ACE", {"16x16": energy})
    for stripes, energy, projected in (("horizontal", -0.7371, -0.7406), ("vertical", -0.7359, -0.7397)):
        yield from _rows(_TORUS_T, f"SCALE, {stripes} stripes", "ACE", {"32x16": energy})
        method = f"SCALE, {stripes} stripes, Green's function Monte Carlo"
        yield from _rows(_TORUS_T, method, "ACE", {"32x16": projected})
    yield from _rows(_TORUS_T, "Pfaffian, projected", "arXiv 2604.21978", {"8x8": (-0.75058, 1e-5)})
    yield from _rows(_TORUS_T, "Pfaffian, extrapolated", "arXiv 2604.21978", {"8x8": (-0.7540, 4e-4)})
    symmetric = {"12x12": (-0.74425, 1e-5), "16x16": (-0.74411, 1e-5)}
    yield from _rows(_TORUS_T, "SBP", "arXiv 2608.12465", {**symmetric})


# Table I of ACE.
_ON_16X16: dict[str, dict[str, float | tuple[float, float]]] = {
    "open": {
        "tensor backflow": -0.7219,
        "tensor backflow, Lanczos step": -0.7257,
        "SCALE": -0.7236,
        "SCALE, Green's function Monte Carlo": -0.7267,
        "ACE": -0.7280,
        "ACE, Green's function Monte Carlo": -0.7288,
    },
    "torus": {
        "hidden fermion Pfaffian, projected": (-0.7515, 1e-4),
        "tensor backflow": -0.7509,
        "tensor backflow, Lanczos step": -0.7552,
        NQS: -0.7563,
        "SCALE": -0.7529,
        "SCALE, Green's function Monte Carlo": -0.7560,
        "ACE": -0.7573,
        "ACE, Green's function Monte Carlo": -0.7583,
    },
    "torus with t'": {
        "hidden fermion Pfaffian, projected": (-0.7360, 1e-4),
        "tensor backflow": -0.7335,
        "tensor backflow, Lanczos step": -0.7386,
        "SCALE": -0.7373,
        "SCALE, Green's function Monte Carlo": -0.7405,
        "ACE": -0.7430,
        "ACE, Green's function Monte Carlo": -0.7440,
    },
}

TABLE: tuple[PublishedEnergy, ...] = (
    *_on_4x4(),
    *_half_filled(),
    *_doped_open(),
    *_doped_torus(),
    *_doped_torus_with_t_prime(),
)
