"""The group that a state is projected on: signed permutations of spin-orbitals, and the character of each.

N sites, site = x * Ly + y   M = 2N spin-orbitals, all up, then all down   G elements of the group

An element g acts as a unitary U on operators and on the vacuum:

    U c+_m U^-1 = s_m c+_p(m),   U |0> = v |0>            (it keeps electrons)
    U c+_m U^-1 = s_m c_p(m),    U |0> = v c+_0 ... c+_(M-1) |0>    (it exchanges electrons and holes)
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import gcd

import numpy as np
from numpy.typing import NDArray

from models.common.errors import ConfigError
from models.nqs.lattice import bonds, fields, point_group
from models.nqs.symmetry_config import SymmetryConfig
from models.nqs.system import SystemConfig

PARTS = {"half": 2, "quarter": 4}  # of the length of a periodic direction
# (mirror x, mirror y, diagonal mirror); a rotation is a product of two mirrors
MIRROR_CHARACTERS = {
    "D2": {"A1": (1, 1), "A2": (-1, -1), "B1": (-1, 1), "B2": (1, -1)},
    "C4v": {"A1": (1, 1, 1), "A2": (-1, -1, -1), "B1": (1, 1, -1), "B2": (-1, -1, 1)},
}
MIRRORS = ("mirror x", "mirror y", "mirror diagonal")


@dataclass(frozen=True, eq=False)
class Element:
    """One symmetry; all its signs are +1 or -1."""

    permutation_M: NDArray[np.int64]  # p
    sign_M: NDArray[np.int64]  # s
    swaps_holes: bool = False
    vacuum: int = 1  # v

    def key(self) -> tuple[bytes, bytes, bool]:
        """Equal for elements that are equal up to the sign of the vacuum."""
        return self.permutation_M.tobytes(), self.sign_M.tobytes(), self.swaps_holes

    def after(self, first: "Element") -> "Element":
        """The element that acts as `first` and then as this one."""
        vacuum = first.vacuum * (self._full_sign() if first.swaps_holes else self.vacuum)
        return Element(
            self.permutation_M[first.permutation_M],
            first.sign_M * self.sign_M[first.permutation_M],
            first.swaps_holes != self.swaps_holes,
            vacuum,
        )

    def _full_sign(self) -> int:
        """The sign in U |full> = sign |full>, or sign |0>: there c_0 ... c_(M-1) |full> = (-1)^(M(M-1)/2) |0>."""
        orbitals = len(self.permutation_M)
        emptied = (-1) ** (orbitals * (orbitals - 1) // 2) if self.swaps_holes else 1
        return self.vacuum * int(self.sign_M.prod()) * parity(self.permutation_M) * emptied

    def within(self, particles: tuple[int, int]) -> "Element":
        """The same operator on states with these (N_up, N_dn), with s = 1 for the first orbital of each spin.

        A sign common to all orbitals of one spin is a constant there, and moves into the vacuum's.
        """
        sign_2N = self.sign_M.reshape(2, -1)
        first = sign_2N[:, 0]
        constant = int(np.prod(first ** np.array(particles)))
        return Element(
            self.permutation_M, (sign_2N * first[:, None]).reshape(-1), self.swaps_holes, self.vacuum * constant
        )


@dataclass(frozen=True, eq=False)
class Projection:
    """The projector (1/G) sum_g conj(character_g) U_g on the states with U_g psi = character_g psi."""

    elements: tuple[Element, ...]  # the whole group, each element once
    character_G: NDArray[np.complex128]

    @property
    def is_complex(self) -> bool:
        """Whether some character is not +1 or -1."""
        return bool(np.abs(self.character_G.imag).max() > 1e-12)


def parity(permutation_M: NDArray[np.int64]) -> int:
    """+1 or -1: the sign of a permutation, as (-1)^(length - number of cycles)."""
    seen = np.zeros(len(permutation_M), dtype=bool)
    cycles = 0
    for start in range(len(permutation_M)):
        cycles += not seen[start]
        place = start
        while not seen[place]:
            seen[place] = True
            place = int(permutation_M[place])
    return (-1) ** (len(permutation_M) - cycles)


def projection(config: SymmetryConfig, system: SystemConfig) -> Projection:
    """The group and the characters that the config names, on this system.

    Raises ConfigError where something is not a symmetry of the system, or the characters contradict each other.
    """
    return _projection(config.model_dump_json(), system.model_dump_json())


@lru_cache(maxsize=64)  # a config is checked each time that it is put together
def _projection(config_json: str, system_json: str) -> Projection:
    config, system = SymmetryConfig.model_validate_json(config_json), SystemConfig.model_validate_json(system_json)
    _require_something_to_label(config)
    generators = [
        *_translations(config, system),
        *_mirrors(config, system),
        *_spin_flip(config, system),
        *_particle_hole(config, system),
    ]
    return closure(generators, system)


def closure(generators: list[tuple[Element, complex]], system: SystemConfig) -> Projection:
    """The group that the generators make, by multiplying until nothing new comes.

    Raises ConfigError where an element is reached with two different characters: then no state but zero has them.
    """
    identity = Element(np.arange(2 * system.sites), np.ones(2 * system.sites, dtype=np.int64))
    found: dict[tuple[bytes, bytes, bool], tuple[Element, complex]] = {identity.key(): (identity, 1.0)}
    fresh = [(identity, 1.0 + 0j)]
    while fresh:
        reached = []
        for element, character in fresh:
            for generator, factor in generators:
                product = generator.after(element).within(system.particles)
                known = found.get(product.key())
                if known is None:
                    found[product.key()] = (product, character * factor)
                    reached.append((product, character * factor))
                elif abs(known[1] * known[0].vacuum - character * factor * product.vacuum) > 1e-9:
                    raise ConfigError(
                        "these characters exclude each other: no state of this filling has all of them\n"
                        "fits: the mirror at a momentum that it does not change, an irrep whose mirrors the lattice "
                        "has, an even number of electrons with an antiperiodic translation"
                    )
        fresh = reached
    elements, characters = zip(*found.values(), strict=True)
    return Projection(elements, np.array(characters, dtype=np.complex128))


def is_symmetry(element: Element, system: SystemConfig) -> bool:
    """Whether a permutation with signs that keeps electrons leaves hoppings and fields unchanged.

    t c+_i c_j becomes t s_i s_j c+_p(i) c_p(j); both are compared as matrices of all spin-orbitals.
    """
    lattice = bonds(system)
    matrix_NN = np.zeros((system.sites, system.sites), dtype=np.complex128)
    first, second = lattice.pairs_E2.T
    matrix_NN[first, second], matrix_NN[second, first] = lattice.hopping_E, lattice.hopping_E.conj()
    matrix_MM = np.kron(np.eye(2), matrix_NN) + np.diag(fields(system))
    image_MM = np.zeros_like(matrix_MM)
    image_MM[np.ix_(element.permutation_M, element.permutation_M)] = (
        matrix_MM * element.sign_M[:, None] * element.sign_M
    )
    return bool(np.abs(image_MM - matrix_MM).max() < 1e-12)


def _require_something_to_label(config: SymmetryConfig) -> None:
    if config.momenta != (0, 0) and config.translations == "none":
        raise ConfigError(f"momentum {config.momentum} without translations\nfits: translations=all, or momentum 0,0")
    if config.irrep != "A1" and config.point_group == "none":
        raise ConfigError(f"irrep {config.irrep} without a point group\nfits: point_group=D2 or C4v, or irrep A1")


def _of_sites(permutation_N: NDArray[np.int64], sign_N: NDArray[np.int64] | None = None) -> Element:
    """The same permutation for both spins."""
    sites = len(permutation_N)
    signs = np.ones(sites, dtype=np.int64) if sign_N is None else sign_N
    return Element(np.concatenate([permutation_N, permutation_N + sites]), np.concatenate([signs, signs]))


def _translations(config: SymmetryConfig, system: SystemConfig) -> Iterator[tuple[Element, complex]]:
    """The shortest translation along each periodic direction; its eigenvalue at momentum k is exp(-i k shift).

    Through an antiperiodic boundary an electron gets -1 on its way, so that all hoppings are mapped on each other.
    """
    if config.translations == "none":
        return
    if any(system.twists):
        raise ConfigError(
            f"translations with the twist {system.twist}, which needs a gauge with complex phases\n"
            "fits: twist 0,0, an antiperiodic boundary, or translations=none"
        )
    shifts = [
        (axis, length // (gcd(length, PARTS[config.translations]) if config.translations in PARTS else length))
        for axis, (length, boundary) in enumerate(zip(system.shape, system.boundaries, strict=True))
        if boundary != "open"
    ]
    shifts = [(axis, shift) for axis, shift in shifts if shift < system.shape[axis]]
    if not shifts:
        raise ConfigError(
            f"translations={config.translations} of {system.lattice} with boundary {system.boundary} has no "
            "translation in it\nfits: a periodic direction of even length, translations=all, or translations=none"
        )
    place = np.divmod(np.arange(system.sites), system.shape[1])
    for axis, shift in shifts:
        length = system.shape[axis]
        wraps, inside = np.divmod(place[axis] + shift, length)
        moved = [inside if axis == along else place[along] for along in (0, 1)]
        signs = (-1) ** wraps if system.boundaries[axis] == "antiperiodic" else np.ones_like(wraps)
        element = _of_sites(moved[0] * system.shape[1] + moved[1], signs)
        if not is_symmetry(element, system):
            raise ConfigError(
                f"a translation by {shift} along {'xy'[axis]} changes the pinning field\n"
                "fits: a pattern with that period, pinning.pattern=none, or translations=none"
            )
        yield element.within(system.particles), np.exp(-2j * np.pi * config.momenta[axis] * shift / length)


def _mirrors(config: SymmetryConfig, system: SystemConfig) -> Iterator[tuple[Element, complex]]:
    """The mirrors that generate the point group."""
    if config.point_group == "none":
        return
    length_x, length_y = system.shape
    if config.point_group == "C4v" and length_x != length_y:
        raise ConfigError(f"point_group=C4v on {system.lattice}, which is not square\nfits: point_group=D2")
    place_N = np.arange(system.sites).reshape(length_x, length_y)
    images = {MIRRORS[0]: place_N[::-1], MIRRORS[1]: place_N[:, ::-1], MIRRORS[2]: place_N.T}
    symmetric = {symmetry.permutation_N.tobytes() for symmetry in point_group(system)}
    characters = MIRROR_CHARACTERS[config.point_group][config.irrep]
    for name, character in zip(MIRRORS, characters, strict=False):
        permutation_N = images[name].reshape(-1)  # a mirror is its own inverse, so that image and origin are alike
        if permutation_N.tobytes() not in symmetric:
            raise ConfigError(
                f"point_group={config.point_group}: {name} is not a symmetry of {system.label}\n"
                "fits: equal boundaries along x and y for C4v, no twist or pinning that it changes, point_group=none"
            )
        yield _of_sites(np.ascontiguousarray(permutation_N)).within(system.particles), complex(character)


def _spin_flip(config: SymmetryConfig, system: SystemConfig) -> Iterator[tuple[Element, complex]]:
    """The rotation of all spins by pi about y: c+_up -> c+_dn, c+_dn -> -c+_up."""
    if config.spin_flip == "none":
        return
    up, down = system.particles
    if up != down:
        raise ConfigError(
            f"spin_flip={config.spin_flip} with filling {system.filling}: it exchanges N_up and N_dn\n"
            f"fits: equal numbers, such as filling {(up + down) // 2},{(up + down) // 2}, or spin_flip=none"
        )
    sites = np.arange(system.sites)
    signs = np.repeat([1, -1], system.sites)
    element = Element(np.concatenate([sites + system.sites, sites]), signs)
    if not is_symmetry(element, system):
        raise ConfigError("spin_flip with a pinning field, which it reverses\nfits: pinning.pattern=none, or none here")
    yield element.within(system.particles), 1.0 if config.spin_flip == "even" else -1.0


def _particle_hole(config: SymmetryConfig, system: SystemConfig) -> Iterator[tuple[Element, complex]]:
    """c+_i -> (-1)^(x+y) c_i for both spins; U sum n_up n_dn stays as it is when N_up + N_dn = N."""
    if config.particle_hole == "none":
        return
    half = system.sites // 2
    if system.particles != (half, half) or system.sites % 2:
        raise ConfigError(
            f"particle_hole={config.particle_hole} with filling {system.filling} on {system.sites} sites: it needs "
            f"half filling\nfits: filling {half},{half} on an even number of sites, or particle_hole=none"
        )
    x, y = np.divmod(np.arange(system.sites), system.shape[1])
    sublattice_N = (-1) ** (x + y)
    lattice = bonds(system)
    first, second = lattice.pairs_E2.T
    if (sublattice_N[first] == sublattice_N[second]).any() or system.is_complex or fields(system).any():
        raise ConfigError(
            f"particle_hole={config.particle_hole} needs real hoppings between two sublattices, and no field\n"
            "fits: t_prime=0, even lengths along periodic directions, no twist, no pinning, or particle_hole=none"
        )
    element = Element(np.arange(2 * system.sites), np.concatenate([sublattice_N, sublattice_N]), swaps_holes=True)
    yield element.within(system.particles), 1.0 if config.particle_hole == "even" else -1.0
