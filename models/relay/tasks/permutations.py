"""The product of a row of permutations, two of them composed each round."""

# P problems   L tokens of a problem   D degree   S permutations, D!   T rounds   R tokens of a round

from functools import lru_cache
from itertools import permutations
from math import factorial
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from models.relay.task import FIRST_SYMBOL, Task, Tokens, Worked

_EQUALS, _FIRST_PERMUTATION = FIRST_SYMBOL, FIRST_SYMBOL + 1


class WordProblem(Task):
    """Problems of n + 1 permutations and "="; their product is the answer.

    <231> takes 1 to 2, 2 to 3 and 3 to 1. In a product the left one acts first: `a b` takes i to b(a(i)). A round
    composes the two leftmost, and ends in "="; the last one is the bare answer.
    """

    kind: Literal["permutations"] = "permutations"
    degree: int = Field(default=5, ge=2, le=5, description="permutations of so many things; each is one token")

    last_round_is_answer: ClassVar[bool] = True
    round_end: ClassVar[str] = "="
    length_unit: ClassVar[str] = "products"

    @property
    def name(self) -> str:
        return "word_problem"

    @property
    def chance(self) -> str:
        return f"1 in {factorial(self.degree)}"

    @property
    def symbols(self) -> tuple[str, ...]:
        digits = "12345"[: self.degree]
        return ("=", *(f"<{''.join(images)}>" for images in permutations(digits)))

    def loops(self, length: int) -> int:
        return length

    def widest_problem(self, length: int) -> int:
        return length + 2

    def draw(self, rng: np.random.Generator, length: int, count: int) -> Tokens:
        end = _FIRST_PERMUTATION + factorial(self.degree)
        problems_PL = rng.integers(_FIRST_PERMUTATION, end, size=(count, length + 2), dtype=np.uint16)
        problems_PL[:, -1] = _EQUALS
        return problems_PL

    def work(self, problems_PL: Tokens, length: int) -> Worked:
        number_PN, product_SS = problems_PL[:, :-1] - _FIRST_PERMUTATION, products(self.degree)
        product_P = number_PN[:, 0]
        rounds_PTR = np.zeros((len(problems_PL), length, max(length + 1, 2)), np.uint16)
        for loop in range(length):
            product_P = product_SS[product_P, number_PN[:, loop + 1]]
            rounds_PTR[:, loop, 0] = product_P + _FIRST_PERMUTATION
            rounds_PTR[:, loop, 1 : length + 1 - loop] = problems_PL[:, loop + 2 :]
        rounds_PTR[:, -1, 1:] = 0
        return Worked(rounds_PTR[:, :, : length + 1 if length > 1 else 1], rounds_PTR[:, -1, :1].copy())


@lru_cache
def products(degree: int) -> NDArray[np.uint16]:
    """The number of "first a, then b" for each pair of permutations (S, S), numbered in lexicographic order."""
    image_SD = np.array(list(permutations(range(degree))))
    product_SSD = image_SD[np.arange(len(image_SD))[None, :, None], image_SD[:, None, :]]
    places = degree ** np.arange(degree)[::-1]  # images as digits of one number, which keeps their order
    return np.searchsorted((image_SD * places).sum(axis=1), (product_SSD * places).sum(axis=2)).astype(np.uint16)
