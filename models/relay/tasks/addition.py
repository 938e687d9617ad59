"""The sum of two binary numbers, one bit a round from the right."""

# P problems   L tokens of a problem   N bits of a number   T rounds, one a bit   R tokens of a round

from typing import ClassVar, Literal

import numpy as np

from models.relay.task import FIRST_SYMBOL, Task, Tokens, Worked

_ZERO = FIRST_SYMBOL  # the token of the bit 0; that of 1 follows
_NO_CARRY = FIRST_SYMBOL + 4  # likewise


class BinaryAddition(Task):
    """Problems `1 0 1 + 0 1 1 =` of n bits each, the highest first; the answer has n + 1 bits.

    A round takes the last bit off both numbers and shows what is left of them, the carry, and the bits of the sum so
    far, as in `1 0 + 0 1 carry1 0 =`; the last one is the bare answer, which begins with the carry.
    """

    kind: Literal["addition"] = "addition"

    last_round_is_answer: ClassVar[bool] = True
    round_end: ClassVar[str] = "="
    length_unit: ClassVar[str] = "bits"

    @property
    def name(self) -> str:
        return "binary_addition"

    @property
    def symbols(self) -> tuple[str, ...]:
        return ("0", "1", "+", "=", "carry0", "carry1")

    def loops(self, length: int) -> int:
        return length

    def answer_width(self, length: int) -> int:
        return length + 1

    def widest_problem(self, length: int) -> int:
        return 2 * length + 2

    def draw(self, rng: np.random.Generator, length: int, count: int) -> Tokens:
        problems_PL = rng.integers(_ZERO, _ZERO + 2, size=(count, 2 * length + 2), dtype=np.uint16)
        problems_PL[:, length] = self.token("+")
        problems_PL[:, -1] = self.token("=")
        return problems_PL

    def work(self, problems_PL: Tokens, length: int) -> Worked:
        first_PN, second_PN = problems_PL[:, :length] - _ZERO, problems_PL[:, length + 1 : -1] - _ZERO
        carry_P, sum_PN = np.zeros(len(problems_PL), np.uint16), np.zeros((len(problems_PL), length + 1), np.uint16)
        rounds_PTR = np.zeros((len(problems_PL), length, 2 * length + 2), np.uint16)
        for loop, left in enumerate(reversed(range(length))):
            total_P = first_PN[:, left] + second_PN[:, left] + carry_P
            carry_P, sum_PN[:, left + 1] = total_P // 2, total_P % 2
            shown = (
                problems_PL[:, :left],
                np.full((len(problems_PL), 1), self.token("+")),
                problems_PL[:, length + 1 : length + 1 + left],
                carry_P[:, None] + _NO_CARRY,
                sum_PN[:, left + 1 :] + _ZERO,
                np.full((len(problems_PL), 1), self.token("=")),
            )
            rounds_PTR[:, loop, : left + length + 3] = np.concatenate(shown, axis=1)
        sum_PN[:, 0] = carry_P
        answers_PA = sum_PN + np.uint16(_ZERO)
        rounds_PTR[:, -1] = 0
        rounds_PTR[:, -1, : length + 1] = answers_PA
        return Worked(rounds_PTR[:, :, : 2 * length + 2 if length > 1 else 2], answers_PA)
