"""Operations modulo a small number, as tables: what they give, and which pairs give a value."""

# K operators   M modulus   P problems

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

UNDEFINED = -1  # a division by 0


class Operations(NamedTuple):
    """For each operator the results of all pairs, and the pairs in the order of their results."""

    results_KMM: Integers
    pairs_KS: Integers  # first * M + second; those without a result come last
    starts_KM: Integers  # where in a row of pairs those of each result begin
    counts_KM: Integers

    def pair(
        self, operator_P: Integers, value_P: Integers, uniform_P: NDArray[np.float64]
    ) -> tuple[Integers, Integers]:
        """A pair with these values, each of them alike likely where `uniform_P` is uniform on [0, 1)."""
        ordinal_P = (uniform_P * self.counts_KM[operator_P, value_P]).astype(np.int64)
        pair_P = self.pairs_KS[operator_P, self.starts_KM[operator_P, value_P] + ordinal_P]
        first_P, second_P = np.divmod(pair_P, self.results_KMM.shape[1])
        return first_P, second_P


@lru_cache(maxsize=16)
def operations(modulus: int, operators: tuple[str, ...]) -> Operations:
    """The tables of these operators, which are among + - * and /; for the last the modulus has to be prime."""
    first_MM, second_MM = np.indices((modulus, modulus))
    of_operator = {
        "+": lambda: (first_MM + second_MM) % modulus,
        "-": lambda: (first_MM - second_MM) % modulus,
        "*": lambda: first_MM * second_MM % modulus,
        "/": lambda: np.where(second_MM == 0, UNDEFINED, first_MM * _inverses(modulus)[second_MM] % modulus),
    }
    results_KMM = np.stack([of_operator[operator]() for operator in operators]).astype(np.int64)
    results_KS = results_KMM.reshape(len(operators), -1)
    counts_KM = (results_KS[:, None] == np.arange(modulus)[:, None]).sum(axis=2)
    order_KS = np.where(results_KS == UNDEFINED, modulus, results_KS).argsort(axis=1, kind="stable")
    return Operations(results_KMM, order_KS, counts_KM.cumsum(axis=1) - counts_KM, counts_KM)


def _inverses(prime: int) -> Integers:
    """1 / b for each b, and 0 for 0."""
    return np.array([pow(number, prime - 2, prime) if number else 0 for number in range(prime)], np.int64)


def is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))
