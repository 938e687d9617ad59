"""The Hamiltonian against one built from c and c+ alone, and local energies against expectation values."""

# D configurations of a sector   M = 2N spin-orbitals   W walkers

import functools
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.common.errors import ConfigError
from models.nqs.exact import full_matrix
from models.nqs.hamiltonian import Hubbard, LogPsi, local_energy
from models.nqs.sector import Sector
from models.nqs.system import SystemConfig

Matrix = NDArray[np.complex128]


def kron(left: Tensor, right: Tensor) -> Tensor:
    """The Kronecker product of two sparse matrices; the right one is square."""
    place = left.indices()[:, :, None] * len(right) + right.indices()[:, None, :]
    values = left.values()[:, None] * right.values()
    shape = (len(left) * len(right),) * 2
    return torch.sparse_coo_tensor(place.flatten(1), values.flatten(), shape, check_invariants=True).coalesce()


@functools.cache
def annihilators(orbitals: int) -> list[Tensor]:
    """c_m on the full Fock space as Kronecker products with Jordan and Wigner's strings; orbital 0 is leftmost."""
    one, parity, lower = (
        torch.tensor(entries, dtype=torch.complex128).to_sparse().coalesce()
        for entries in ([[1, 0], [0, 1]], [[1, 0], [0, -1]], [[0, 1], [0, 0]])
    )
    strings = ([parity] * m + [lower] + [one] * (orbitals - m - 1) for m in range(orbitals))
    return [functools.reduce(kron, string) for string in strings]


def neighbours(config: SystemConfig) -> list[tuple[int, int, complex]]:
    """(i, j, amplitude of c+_i c_j) by walking from every site along x, y and both diagonals, with all phases."""
    length_x, length_y = config.shape
    found: list[tuple[int, int, complex]] = []
    seen: set[frozenset[int]] = set()
    for x in range(length_x):
        for y in range(length_y):
            for dx, dy, hopping in (
                (1, 0, config.t),
                (0, 1, config.t),
                (1, 1, config.t_prime),
                (1, -1, config.t_prime),
            ):
                amplitude, end, reached = complex(hopping), [], True
                for place, step, axis in ((x, dx, 0), (y, dy, 1)):
                    to, length = place + step, config.shape[axis]
                    if step and length == 1:
                        reached = False
                    if not 0 <= to < length:
                        reached = reached and config.boundaries[axis] != "open"
                        amplitude *= -1 if config.boundaries[axis] == "antiperiodic" else 1
                        amplitude *= np.exp(1j * np.pi * config.twists[axis] * step)
                    end.append(to % length)
                i, j = x * length_y + y, end[0] * length_y + end[1]
                pair = frozenset((i, j))
                if reached and not (config.wrap_bond == "once" and pair in seen):
                    found.append((i, j, amplitude))
                    seen.add(pair)
    return found


def from_operators(config: SystemConfig) -> Matrix:
    """H on the sector's configurations, in the order of `Sector.all`."""
    sites = config.sites
    lower = annihilators(2 * sites)
    raising = [c.t() for c in lower]
    number = [up @ down for up, down in zip(raising, lower, strict=True)]
    hamiltonian = 0 * number[0]
    for i, j, amplitude in neighbours(config):
        for spin in (0, sites):
            hamiltonian = hamiltonian - amplitude * (raising[i + spin] @ lower[j + spin])
            hamiltonian = hamiltonian - amplitude.conjugate() * (raising[j + spin] @ lower[i + spin])
    for i in range(sites):
        hamiltonian = hamiltonian + config.U * (number[i] @ number[i + sites])
        x, y = divmod(i, config.shape[1])
        if config.pinning.pattern == "neel" and (not config.pinning.columns or x in config.pinning.columns):
            field = config.pinning.strength * (-1) ** (x + y) / 2
            hamiltonian = hamiltonian + field * number[i] - field * number[i + sites]
    occupied_DM = Sector(sites, *config.particles).all().numpy().astype(np.int64)
    place_D = occupied_DM @ (1 << np.arange(2 * sites)[::-1])  # as orbital 0 is the leftmost factor
    rows = hamiltonian.index_select(0, torch.from_numpy(place_D)).to_dense()
    return rows.numpy()[:, place_D]


SYSTEMS: dict[str, dict[str, Any]] = {
    "open chain": {"lattice": "4", "boundary": "open", "filling": "2,2", "U": 4},
    "ring": {"lattice": "5", "boundary": "periodic", "filling": "3,2", "U": 8},
    "free ring": {"lattice": "5", "boundary": "periodic", "filling": "2,2", "U": 0},
    "antiperiodic ring": {"lattice": "4", "boundary": "antiperiodic", "filling": "2,2", "U": 16},
    "twisted ring": {"lattice": "5", "boundary": "periodic", "filling": "2,3", "U": 3, "twist": "0.3,0"},
    "plaquette": {"lattice": "2x2", "boundary": "open", "filling": "2,2", "U": 8, "t_prime": -0.2},
    "doped plaquette": {"lattice": "2x2", "boundary": "periodic", "filling": "2,1", "U": 5, "t_prime": 0.4},
    "plaquette with both bonds": {
        "lattice": "2x2", "boundary": "periodic", "filling": "1,2", "U": 5, "t_prime": 0.4, "wrap_bond": "twice",
    },
    "twist through both bonds": {
        "lattice": "2x2", "boundary": "periodic", "filling": "2,2", "U": 5, "t_prime": 0.4, "wrap_bond": "twice",
        "twist": "0.3,-0.6",
    },
    "ladder": {"lattice": "3x2", "boundary": "periodic,open", "filling": "3,3", "U": 8},
    "doped ladder": {"lattice": "3x2", "boundary": "antiperiodic,periodic", "filling": "2,2", "U": 4, "t_prime": -0.3},
    "twisted ladder": {
        "lattice": "3x2", "boundary": "periodic,open", "filling": "2,1", "U": 4, "t_prime": -0.3, "twist": "-0.4,0",
    },
    "cylinder": {"lattice": "2x3", "boundary": "cylinder", "filling": "1,3", "U": 2.5, "t": 0.7, "t_prime": 0.1},
    "pinned ladder": {
        "lattice": "3x2", "boundary": "open", "filling": "2,2", "U": 6,
        "pinning": {"pattern": "neel", "strength": 0.7, "columns": (0, 1)},
    },
    "attractive": {"lattice": "2x3", "boundary": "open,antiperiodic", "filling": "2,2", "U": -4},
    "one electron": {"lattice": "3x2", "boundary": "open", "filling": "1,0", "U": 6},
    "no hole to hop to": {"lattice": "2x2", "boundary": "open", "filling": "4,4", "U": 6},
}  # fmt: skip
EVERY = pytest.mark.parametrize("name", SYSTEMS)


@EVERY
def test_the_matrix_is_the_one_of_creation_and_annihilation_operators(name: str) -> None:
    config = SystemConfig(**SYSTEMS[name])
    found = full_matrix(config).to_dense().numpy()
    assert np.abs(found - from_operators(config)).max() < 1e-13
    assert np.array_equal(found, found.conj().T), "Hermitian to the last bit"
    assert np.iscomplexobj(found) == config.is_complex


def random_state(dimension: int, *, phases: bool) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(dimension, dtype=torch.complex128 if phases else torch.float64, generator=generator)


@EVERY
@pytest.mark.parametrize("phases", [False, True], ids=["real", "complex"])
def test_local_energies_average_to_the_expectation_value(name: str, phases: bool) -> None:
    config = SystemConfig(**SYSTEMS[name])
    sector = Sector(config.sites, *config.particles)
    psi_D = random_state(sector.dimension, phases=phases)

    def psi(occupied_WM: Tensor) -> LogPsi:
        value_W = psi_D[sector.index(occupied_WM)]
        return value_W.abs().log(), value_W.sgn()

    energy_D = local_energy(Hubbard(config), psi, sector.all(), chunk=37)
    weight_D = psi_D.abs().square() / psi_D.abs().square().sum()
    state = psi_D.numpy()
    expected = (state.conj() @ from_operators(config) @ state) / (state.conj() @ state)
    assert energy_D.is_complex() == (phases or config.is_complex)
    assert abs(complex((weight_D * energy_D).sum()) - expected) < 1e-10


def test_chunks_and_known_amplitudes_change_nothing() -> None:
    config = SystemConfig(**SYSTEMS["doped ladder"])
    sector = Sector(config.sites, *config.particles)
    psi_D = random_state(sector.dimension, phases=False)
    asked: list[int] = []

    def psi(occupied_WM: Tensor) -> LogPsi:
        asked.append(len(occupied_WM))
        value_W = psi_D[sector.index(occupied_WM)]
        return value_W.abs().log(), value_W.sgn()

    hubbard, walkers_WM = Hubbard(config), sector.all()[::3]
    whole = local_energy(hubbard, psi, walkers_WM)
    asked.clear()
    known = (psi_D[::3].abs().log(), psi_D[::3].sgn())
    pieces = local_energy(hubbard, psi, walkers_WM, log_psi=known, chunk=10)
    assert torch.allclose(whole, pieces, rtol=0, atol=1e-12)
    assert max(asked) <= 10
    assert sum(asked) == len(hubbard.connected(walkers_WM).walker_C), "the walkers themselves were not evaluated again"


def test_an_eigenstate_has_one_local_energy_everywhere() -> None:
    """The zero-variance property: where psi is an eigenstate, every configuration has its eigenvalue."""
    config = SystemConfig(**SYSTEMS["twisted ladder"])
    sector = Sector(config.sites, *config.particles)
    levels, states = np.linalg.eigh(from_operators(config))
    psi_D = torch.from_numpy(states[:, 0])
    walkers_WM = sector.all()[psi_D.abs() > 1e-6]

    def psi(occupied_WM: Tensor) -> LogPsi:
        value_W = psi_D[sector.index(occupied_WM)]
        return value_W.abs().log(), value_W.sgn()

    energy_W = local_energy(Hubbard(config), psi, walkers_WM)
    assert np.allclose(energy_W.numpy(), levels[0], atol=1e-8)


def test_connected_configurations_of_a_large_lattice_keep_their_electrons() -> None:
    config = SystemConfig(lattice="32x32", boundary="periodic", filling="448,447", U=8, t_prime=-0.2)
    generator = torch.Generator().manual_seed(0)
    up, down = (torch.rand(3, 1024, generator=generator).argsort(1) < count for count in config.particles)
    occupied_WM = torch.cat([up, down], dim=1)
    hubbard = Hubbard(config)
    walker_C, occupied_CM, element_C = hubbard.connected(occupied_WM)
    changed_C = (occupied_CM != occupied_WM[walker_C]).sum(1)
    assert (changed_C == 2).all()
    assert (occupied_CM[:, :1024].sum(1) == 448).all()
    assert (occupied_CM[:, 1024:].sum(1) == 447).all()
    assert sorted(set(element_C.abs().tolist())) == [0.2, 1.0]
    assert (walker_C.diff() >= 0).all()
    assert len(walker_C) == int(hubbard.allowed(occupied_WM).sum())
    for row in range(0, len(walker_C), 997):
        before, after = occupied_WM[walker_C[row]], occupied_CM[row]
        low, high = sorted((before != after).nonzero().flatten().tolist())
        sign = (-1) ** int(before[low + 1 : high].sum())
        hopping = 1.0 if abs(float(element_C[row])) == 1 else -0.2
        assert float(element_C[row]) == -hopping * sign


def test_a_matrix_that_is_too_large_is_refused() -> None:
    with pytest.raises(ConfigError, match="fits: up to 100000"):
        full_matrix(SystemConfig(lattice="4x3", boundary="open", filling="6,6", U=4))
