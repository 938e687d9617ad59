"""Which Hubbard model: lattice, boundaries, electrons, couplings.

    H = - sum_{bonds (i, j), spin} (t_b c+_i c_j + h.c.) + U sum_i n_i,up n_i,down + sum_m field_m n_m

A config is text that a person types (`lattice="4x2"`, `filling="4,4"`), validated and brought to one spelling, so that
equal systems have equal fingerprints. Numbers come out of its properties. This module imports no numpy and no torch.
"""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, PositiveInt, ValidationInfo, field_validator, model_validator

from models.common.config import Config

BOUNDARIES = ("periodic", "antiperiodic", "open")
Pattern = Literal["none", "neel", "stripe"]


class PinningConfig(Config):
    """A field on the staggered magnetisation that picks one of several nearly degenerate orders (Gu et al., Supp. 3).

    neel:   sum_i strength * (-1)^(x+y) * S^z_i
    stripe: the same with its sign turned at every `wavelength`-th column, which puts domain walls (and holes) there
    """

    pattern: Pattern = "none"
    strength: float = 0.0  # the paper's h_m, in units of energy
    wavelength: PositiveInt | None = None  # columns between two domain walls of a stripe
    columns: tuple[int, ...] = ()  # which x feel the field; empty: all

    @model_validator(mode="after")
    def _uses_what_it_is_given(self) -> Self:
        if self.pattern == "none" and (self.strength or self.columns):
            raise ValueError("a strength or columns, but no pattern to apply; fits: pattern=neel, pattern=stripe")
        if self.pattern == "stripe" and self.wavelength is None:
            raise ValueError("a stripe without a wavelength; fits: wavelength=8, the columns between domain walls")
        if self.pattern != "stripe" and self.wavelength is not None:
            raise ValueError(f"pattern={self.pattern} has no wavelength; fits: pattern=stripe, or no wavelength")
        return self


def _two_words(value: Any, what: str, example: str) -> list[str]:
    """The two words of "a,b"; raises ValueError, naming `what` and an `example` that fits."""
    words = [word.strip() for word in str(value).split(",")]
    if len(words) != 2 or not all(words):
        raise ValueError(f"{what} '{value}' is not two words with a comma between; fits: {example}")
    return words


def _one_lattice(value: Any) -> str:
    """ "4x2", "10" and 10 as "LxxLy"."""
    words = str(value).lower().replace("×", "x").split("x")
    numbers = [int(word) for word in words if word.strip().isdecimal()]
    if not 1 <= len(words) <= 2 or len(numbers) != len(words) or min(numbers) < 1:
        raise ValueError(f"lattice '{value}' is not two positive lengths; fits: 4x2, or 10 for a chain")
    return f"{numbers[0]}x{numbers[1] if len(numbers) == 2 else 1}"


def _one_filling(value: Any) -> str:
    """The electrons of each spin as "N_up,N_dn"."""
    words = _two_words(value, "filling", "4,4 (electrons with spin up, with spin down)")
    if not all(word.isdecimal() for word in words):
        raise ValueError(f"filling '{value}' has no two counts; fits: 4,4 (electrons with spin up, with spin down)")
    up, down = map(int, words)
    if up + down == 0:
        raise ValueError("filling '0,0' has no electrons; fits: one or more, as in 1,0")
    return f"{up},{down}"


def _one_twist(value: Any) -> str:
    """The phases along x and y in units of pi, each in the shortest spelling."""
    words = _two_words(value, "twist", "0.5,0 (phases along x and y, in units of pi)")
    try:
        phases = [float(word) for word in words]
    except ValueError:
        phases = [math.nan]
    if not all(map(math.isfinite, phases)):
        raise ValueError(f"twist '{value}' has no two numbers; fits: 0.5,0 (phases along x and y, in units of pi)")
    return ",".join(f"{phase + 0.0:.15g}" for phase in phases)


Lattice = Annotated[str, BeforeValidator(_one_lattice)]
Filling = Annotated[str, BeforeValidator(_one_filling)]
Twist = Annotated[str, BeforeValidator(_one_twist)]


class SystemConfig(Config):
    """One Hubbard model in one sector of fixed (N_up, N_dn)."""

    lattice: Lattice  # "LxxLy"; site = x * Ly + y
    boundary: str  # along x and y; one word means both, "cylinder" is open,periodic
    filling: Filling  # "N_up,N_dn"
    U: float
    t: float = 1.0
    t_prime: float = 0.0  # across the diagonals of a plaquette
    twist: Twist = "0,0"  # the phase that a hop through the boundary picks up, in units of pi
    # Along a periodic length of 2 the bond inside and the bond around join the same two sites.
    wrap_bond: Literal["once", "twice"] = "once"
    pinning: PinningConfig = PinningConfig()

    @field_validator("boundary", mode="before")
    @classmethod
    def _one_boundary(cls, value: Any, info: ValidationInfo) -> str:
        """A word for each direction; along a length of 1 there are no bonds, and periodic is spelled open."""
        words = str(value).replace(" ", "").split(",")
        if words == ["cylinder"]:
            words = ["open", "periodic"]
        if len(words) > 2 or any(word not in BOUNDARIES for word in words):
            fits = ", ".join(BOUNDARIES)
            raise ValueError(
                f"boundary '{value}' is not known; fits: {fits}, two of them as in periodic,open, cylinder"
            )
        lengths = info.data.get("lattice", "2x2").split("x")  # without a lattice, that field has its own error
        meaningless = set(BOUNDARIES) if len(words) == 1 else {"periodic"}
        pairs = zip(lengths, [words[0], words[-1]], strict=True)
        return ",".join("open" if length == "1" and word in meaningless else word for length, word in pairs)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for spin, count in zip(("up", "down"), self.particles, strict=True):
            if count > self.sites:
                raise ValueError(f"{count} electrons with spin {spin} on {self.sites} sites; fits: 0 to {self.sites}")
        for axis, length, boundary, twist in zip("xy", self.shape, self.boundaries, self.twists, strict=True):
            if twist and boundary != "periodic":
                raise ValueError(f"a twist along {axis}, which is {boundary}; fits: boundary periodic, or twist 0")
            if length == 1 and (twist or boundary == "antiperiodic"):
                raise ValueError(f"a phase along {axis}, which has length 1 and no bonds; fits: open along {axis}")
            if length == 2 and self.wrap_bond == "once" and (twist or boundary == "antiperiodic"):
                raise ValueError(
                    f"a phase along {axis}, which has length 2: its bond is counted once and cannot carry it\n"
                    f"fits: wrap_bond=twice, a longer lattice, or no phase along {axis}"
                )
        outside = [column for column in self.pinning.columns if not 0 <= column < self.shape[0]]
        if outside:
            raise ValueError(f"pinning.columns has {outside[0]}; fits: 0 to {self.shape[0] - 1}")
        return self

    @property
    def shape(self) -> tuple[int, int]:
        """(Lx, Ly)."""
        length_x, length_y = self.lattice.split("x")
        return int(length_x), int(length_y)

    @property
    def sites(self) -> int:
        """Lx * Ly."""
        return self.shape[0] * self.shape[1]

    @property
    def boundaries(self) -> tuple[str, str]:
        """Along x and y: each of `BOUNDARIES`."""
        words = self.boundary.split(",")
        return words[0], words[1]

    @property
    def twists(self) -> tuple[float, float]:
        """Phases along x and y in units of pi."""
        along_x, along_y = self.twist.split(",")
        return float(along_x), float(along_y)

    @property
    def particles(self) -> tuple[int, int]:
        """(N_up, N_dn)."""
        up, down = self.filling.split(",")
        return int(up), int(down)

    @property
    def is_complex(self) -> bool:
        """Whether some hopping has an imaginary part; a twist of pi is -1, which is real."""
        return any(twist % 1 for twist in self.twists)

    @property
    def label(self) -> str:
        """The system in a few words, for people."""
        up, down = self.particles
        parts = [f"{self.lattice} {self.boundary}", f"{up}+{down} electrons", f"U={self.U:g}"]
        parts += [f"t={self.t:g}"] * (self.t != 1)
        parts += [f"t'={self.t_prime:g}"] * (self.t_prime != 0)
        parts += [f"twist {self.twist}"] * any(self.twists)
        parts += [f"wrap bond {self.wrap_bond}"] * (self.wrap_bond != "once")
        parts += [f"{self.pinning.pattern} field {self.pinning.strength:g}"] * (self.pinning.pattern != "none")
        return ", ".join(parts)
