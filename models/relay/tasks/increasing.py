"""The longest increasing subsequence: how long the best one is that ends at each number (appendix A)."""

# P problems   L tokens of a problem   N numbers of a problem   T rounds   R tokens of a round

from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from models.common.errors import ConfigError
from models.relay.task import FIRST_SYMBOL, Task, Tokens, Worked

_SEPARATOR, _FIRST_NUMBER = FIRST_SYMBOL, FIRST_SYMBOL + 1
_ROWS = 2048  # problems that are worked at a time, so that their counts stay in the processor's cache


class LongestIncreasing(Task):
    """Problems of n numbers and `<sep>`; counts for `fold` of them a round, the last count repeated to fill the last.

    A count is the length of the longest strictly increasing subsequence that ends at a number; the answer is the
    largest. Numbers of a problem are larger than any count of it, or have tokens of their own. Up to `runs` increasing
    runs, each of 1 to n numbers, stand at random places among random numbers.
    """

    kind: Literal["increasing"] = "increasing"
    values: int = Field(default=250, ge=4, le=20_000, description="numbers from 0 to values - 1 have tokens")
    fold: int = Field(default=10, ge=1, le=1000, description="counts of a round; rounds end in <sep>")
    runs: int = Field(default=3, ge=0, le=20, description="most increasing runs; 0: numbers are independent")
    own_tokens: bool = Field(
        default=False, description="numbers are #0, #1, .. and may be few; runs=0, since long runs need many"
    )

    last_round_is_answer: ClassVar[bool] = False
    round_end: ClassVar[str] = "<sep>"
    length_unit: ClassVar[str] = "numbers"

    @model_validator(mode="after")
    def _few_numbers_hold_no_runs(self) -> Self:
        if self.own_tokens and self.runs:
            raise ValueError(f"own_tokens with runs={self.runs}; take runs=0")
        return self

    @property
    def name(self) -> str:
        return "increasing_subsequence"

    @property
    def symbols(self) -> tuple[str, ...]:
        if self.own_tokens:
            counts = (str(count) for count in range(1, self.values + 1))  # none is larger than there are numbers
            return ("<sep>", *counts, *(f"#{value}" for value in range(self.values)))
        return ("<sep>", *map(str, range(self.values)))

    @property
    def _count_zero(self) -> int:
        """The token that a count of 0 would have."""
        return _FIRST_NUMBER - self.own_tokens

    @property
    def _first_value(self) -> int:
        """The token of the number 0."""
        return _FIRST_NUMBER + self.own_tokens * self.values

    def loops(self, length: int) -> int:
        return -(-length // self.fold)

    def widest_problem(self, length: int) -> int:
        return length + 1

    def check_length(self, length: int) -> None:
        """Raises ConfigError where too few numbers are larger than all counts for an increasing run of all."""
        if not self.own_tokens and 2 * length >= self.values:
            raise ConfigError(
                f"increasing_subsequence: problems of {length} numbers need {2 * length + 1} values, and there are "
                f"{self.values}\nfits: values={2 * length + 1}, or up to {(self.values - 1) // 2} numbers"
            )

    def draw(self, rng: np.random.Generator, length: int, count: int) -> Tokens:
        """Raises ConfigError where there are too few values for this length."""
        self.check_length(length)
        least = 0 if self.own_tokens else length + 1
        number_PN = rng.integers(least, self.values, size=(count, length))
        runs_P = rng.integers(1, self.runs + 1, size=count) if self.runs else np.zeros(count, np.int64)
        for run in range(self.runs):
            planted_PN, value_PN = self._run(rng, length, count)
            number_PN = np.where(planted_PN & (runs_P > run)[:, None], value_PN, number_PN)
        return np.pad(number_PN + self._first_value, ((0, 0), (0, 1)), constant_values=_SEPARATOR).astype(np.uint16)

    def _run(self, rng: np.random.Generator, length: int, count: int) -> tuple[NDArray[np.bool_], NDArray[np.integer]]:
        """Where an increasing run of 1 to n numbers stands (P, N), and its numbers there."""
        width_P1 = rng.integers(1, length + 1, size=(count, 1))
        order_PN = rng.random((count, length), np.float32).argsort(axis=1)
        planted_PN = order_PN < width_P1  # n in random order: those below k are a random choice of k places
        rank_PN = planted_PN.cumsum(axis=1) - 1
        # k numbers that rise by 1 at least: k that do not fall, in a range that is k - 1 shorter, plus 0, 1, .. k - 1
        room_P1 = self.values - length - width_P1
        risen_PN = np.where(np.arange(length) < width_P1, rng.integers(0, room_P1, size=(count, length)), self.values)
        risen_PN.sort(axis=1)
        return planted_PN, np.take_along_axis(risen_PN, np.maximum(rank_PN, 0), axis=1) + rank_PN + length + 1

    def boards(self, problems_PL: Tokens, length: int) -> Tokens:
        """The numbers that are still to be read, behind the counts of those before them."""
        loops, fold = self.loops(length), min(self.fold, length)
        read_TL = np.arange(problems_PL.shape[1]) < np.minimum(length, fold * np.arange(1, loops + 1))[:, None]
        count_PL = np.pad(counts(problems_PL[:, :length]), ((0, 0), (0, 1))) + np.uint16(self._count_zero)
        return np.where(read_TL, count_PL[:, None], problems_PL[:, None]).astype(np.uint16)

    def work(self, problems_PL: Tokens, length: int) -> Worked:
        count_PN = np.concatenate(
            [counts(problems_PL[start : start + _ROWS, :length]) for start in range(0, len(problems_PL), _ROWS)]
        )
        loops, fold = self.loops(length), min(self.fold, length)
        filled_PN = np.pad(count_PN, ((0, 0), (0, loops * fold - length)), mode="edge") + np.uint16(self._count_zero)
        rounds_PTR = np.full((len(problems_PL), loops, fold + 1), _SEPARATOR, np.uint16)
        rounds_PTR[:, :, :-1] = filled_PN.reshape(len(problems_PL), loops, fold)
        return Worked(rounds_PTR, count_PN.max(axis=1, keepdims=True) + np.uint16(self._count_zero))


def counts(number_PN: Tokens) -> Tokens:
    """For each number how long the longest strictly increasing subsequence is that ends there (P, N)."""
    number_NP = np.ascontiguousarray(number_PN.T)
    count_NP = np.ones(number_NP.shape, np.uint16)
    for place in range(1, len(number_NP)):
        before_NP = (number_NP[:place] < number_NP[place]) * count_NP[:place]
        count_NP[place] += before_NP.max(axis=0)
    return np.ascontiguousarray(count_NP.T)
