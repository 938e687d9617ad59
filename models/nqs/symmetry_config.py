"""Which symmetries a state is projected on. This module imports no numpy and no torch."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from models.common.config import Config
from models.common.errors import ConfigError
from models.nqs.system import SystemConfig


def _one_momentum(value: Any) -> str:
    """The two integers of a momentum in one spelling."""
    words = str(value).replace(" ", "").split(",")
    if len(words) != 2 or not all(word.removeprefix("-").isdecimal() for word in words):
        raise ValueError(f"momentum '{value}' is not two whole numbers; fits: 0,0, or 1,0 for kx = 2 pi / Lx")
    return f"{int(words[0])},{int(words[1])}"


class SymmetryConfig(Config):
    """A one-dimensional representation of a group of symmetries; none of them by default.

    translations: of all periodic directions, by multiples of L/2 (half), L/4 (quarter) or 1 (all), whole sites only.
    point_group: D2 has the mirrors x and y and their product; C4v has the diagonals and rotations by 90 as well.
    irrep: C4v: B1 is d_{x2-y2}, B2 is d_{xy}, A2 is odd in every mirror. D2: A2 is odd in both mirrors, B1 in mirror x
        (x -> -x) only, B2 in mirror y only.
    spin_flip: even or odd total spin S, by the rotation of all spins by pi, whose eigenvalue is (-1)^S.
    particle_hole: the eigenvalue of c_i -> (-1)^(x+y) c+_i, which is (-1)^(S + pseudospin).
    """

    translations: Literal["none", "half", "quarter", "all"] = "none"
    momentum: Annotated[str, BeforeValidator(_one_momentum)] = "0,0"  # in units of 2 pi / Lx, 2 pi / Ly
    point_group: Literal["none", "D2", "C4v"] = "none"
    irrep: Literal["A1", "A2", "B1", "B2"] = "A1"
    spin_flip: Literal["none", "even", "odd"] = "none"
    particle_hole: Literal["none", "even", "odd"] = "none"

    @property
    def momenta(self) -> tuple[int, int]:
        """(mx, my): k = (2 pi mx / Lx, 2 pi my / Ly)."""
        along_x, along_y = self.momentum.split(",")
        return int(along_x), int(along_y)

    @property
    def is_trivial(self) -> bool:
        """Whether nothing is projected."""
        return {self.translations, self.point_group, self.spin_flip, self.particle_hole} == {"none"}

    def check(self, system: SystemConfig) -> None:
        """Raises ValueError where the system lacks one of these symmetries, or no state has all of them at once."""
        if self.is_trivial and self.irrep == "A1" and self.momenta == (0, 0):
            return
        from models.nqs.symmetry_group import projection  # here, so that reading a config imports no numpy

        try:
            projection(self, system)
        except ConfigError as error:
            raise ValueError(str(error)) from None

    def is_complex(self, system: SystemConfig) -> bool:
        """Whether the projected state is complex though the ansatz is real: some character is not +1 or -1."""
        from models.nqs.symmetry_group import projection

        return projection(self, system).is_complex
