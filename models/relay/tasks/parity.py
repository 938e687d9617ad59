"""Whether a row of bits has an odd number of ones, by the parity of ever longer beginnings."""

# P problems   L tokens of a problem   N bits of a problem   T rounds   R tokens of a round

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from models.relay.task import FIRST_SYMBOL, Task, Tokens, Worked

_ZERO = FIRST_SYMBOL  # the token of the bit 0; that of 1 follows


class Parity(Task):
    """Problems `1 0 1 1 0 =` of n bits; a round has the parity of all bits up to each of the next `fold`, and ","."""

    kind: Literal["parity"] = "parity"
    fold: int = Field(default=4, ge=1, le=1000, description="parities of a round; the last round may have fewer")

    last_round_is_answer: ClassVar[bool] = False
    round_end: ClassVar[str] = ","
    length_unit: ClassVar[str] = "bits"

    @property
    def name(self) -> str:
        return "parity"

    @property
    def chance(self) -> str:
        return "1 in 2"

    @property
    def symbols(self) -> tuple[str, ...]:
        return ("0", "1", "=", ",")

    def loops(self, length: int) -> int:
        return -(-length // self.fold)

    def widest_problem(self, length: int) -> int:
        return length + 1

    def draw(self, rng: np.random.Generator, length: int, count: int) -> Tokens:
        problems_PL = rng.integers(_ZERO, _ZERO + 2, size=(count, length + 1), dtype=np.uint16)
        problems_PL[:, -1] = self.token("=")
        return problems_PL

    def work(self, problems_PL: Tokens, length: int) -> Worked:
        parity_PN = np.bitwise_xor.accumulate(problems_PL[:, :length] - _ZERO, axis=1) + np.uint16(_ZERO)
        fold = min(self.fold, length)
        rounds_PTR = np.zeros((len(problems_PL), self.loops(length), fold + 1), np.uint16)
        for loop, start in enumerate(range(0, length, fold)):
            shown_PN = parity_PN[:, start : start + fold]
            rounds_PTR[:, loop, : shown_PN.shape[1]] = shown_PN
            rounds_PTR[:, loop, shown_PN.shape[1]] = self.token(",")
        return Worked(rounds_PTR, parity_PN[:, -1:])
