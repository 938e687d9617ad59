"""The cheapest edits that turn one word into another, a row of their table each round (appendix A)."""

# P problems   L tokens of a problem   N letters of the first word   M letters of the second   T rounds, one a letter

from collections.abc import Iterator
from functools import lru_cache
from string import ascii_lowercase
from typing import ClassVar, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from models.common.errors import ConfigError
from models.relay.task import FIRST_SYMBOL, PAD, Task, Tokens, Worked, stacked, widths_of
from models.relay.tasks.edited_words import Alphabets, draw_edits, edit

_ROWS = 512  # problems that are worked at a time, so that their tables stay in the processor's cache


class Costs(NamedTuple):
    """What edits cost, and steps along the border of the table."""

    insert: int
    delete: int
    replace: int
    border_right: int
    border_down: int


class EditDistance(Task):
    """Problems `s1 | s2 <sep>`; their length is that of s1, the shorter word. Round i is row i of the distance table.

    A row has a number for each letter of s2, and ends in ","; the answer is the last number of all. Each problem has an
    alphabet of its own. In a share of the problems the two words are independent, else one is the other after random
    edits; they are never the same, and differ in length by at most `shorter_by` or `longer_by`.
    """

    kind: Literal["edit_distance"] = "edit_distance"
    letters: int = Field(default=26, ge=2, le=26, description="a to z, or the first so many of them")
    least_letters: int = Field(default=3, ge=2, le=26, description="of a problem's alphabet")
    most_letters: int = Field(default=10, ge=2, le=26, description="of a problem's alphabet")
    border: Literal["paper", "consistent"] = Field(
        default="paper", description="paper: i + j on the border, whatever edits cost; consistent: what the edits cost"
    )
    insert_cost: int = Field(default=2, ge=1, le=9)
    delete_cost: int = Field(default=2, ge=1, le=9)
    replace_cost: int = Field(default=3, ge=1, le=9)
    random_share: float = Field(default=0.4, ge=0, le=1, description="problems of two independent words")
    shorter_by: int = Field(default=3, ge=0, le=20, description="letters that the changed word may have fewer")
    longer_by: int = Field(default=2, ge=0, le=20, description="letters that the changed word may have more")
    second_letters: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="of s2, whatever s1 has; takes random_share=1. None: about as many as s1",
    )
    most_value: int = Field(default=129, ge=1, le=20_000, description="numbers from 0 to this have tokens")

    last_round_is_answer: ClassVar[bool] = False
    round_end: ClassVar[str] = ","
    length_unit: ClassVar[str] = "letters"

    @model_validator(mode="after")
    def _alphabets_are_there(self) -> Self:
        if not self.least_letters <= self.most_letters <= self.letters:
            found = f"{self.least_letters}, {self.most_letters}, {self.letters}"
            raise ValueError(f"least_letters, most_letters and letters are {found}; each may not exceed the next")
        return self

    @model_validator(mode="after")
    def _edits_do_not_lead_to_one_width(self) -> Self:
        if self.second_letters and self.random_share < 1.0:
            raise ValueError(f"second_letters with random_share={self.random_share:g}; take random_share=1")
        return self

    @property
    def name(self) -> str:
        return "edit_distance"

    @property
    def symbols(self) -> tuple[str, ...]:
        return (*ascii_lowercase[: self.letters], "|", "<sep>", ",", *map(str, range(self.most_value + 1)))

    @property
    def costs(self) -> Costs:
        border = (1, 1) if self.border == "paper" else (self.insert_cost, self.delete_cost)
        return Costs(self.insert_cost, self.delete_cost, self.replace_cost, *border)

    def loops(self, length: int) -> int:
        return length

    def widest_problem(self, length: int) -> int:
        return length + self._longest_second(length) + 2

    def _longest_second(self, length: int) -> int:
        return self.second_letters or length + max(self.shorter_by, self.longer_by)

    def check_length(self, length: int) -> None:
        """Raises ConfigError where s1 is the longer word, or a table may hold a number that has no token."""
        if self.second_letters and self.second_letters < length:
            raise ConfigError(
                f"edit_distance: words of {length} letters beside others of second_letters {self.second_letters}\n"
                f"fits: second_letters={length} or more; the first word is the shorter"
            )
        largest = largest_distance(length, self._longest_second(length), self.costs)
        if largest > self.most_value:
            raise ConfigError(
                f"edit_distance: words of {length} letters can be {largest} apart, and numbers end at most_value "
                f"{self.most_value}\nfits: most_value={largest}, or shorter words"
            )

    def draw(self, rng: np.random.Generator, length: int, count: int) -> Tokens:
        """Raises ConfigError where a table may hold a number that has no token."""
        self.check_length(length)
        independent = int(rng.binomial(count, self.random_share))
        found = [np.zeros((0, 1), np.uint16)]
        for draw, missing in ((self._independent, independent), (self._edited, count - independent)):
            while missing > 0:
                found.append(draw(rng, length, missing)[:missing])
                missing -= len(found[-1])
        return stacked(found)[rng.permutation(count)]

    def _independent(self, rng: np.random.Generator, length: int, count: int) -> Tokens:
        """At most so many problems of two random words."""
        widths_P = length + abs(rng.integers(-self.shorter_by, self.longer_by + 1, size=count))
        if self.second_letters:
            widths_P = np.full(count, self.second_letters)
        alphabets = self._alphabets(rng, count)
        first_PN = alphabets.words(rng, np.full(count, length))
        return self._problems(first_PN, alphabets.words(rng, widths_P))

    def _edited(self, rng: np.random.Generator, length: int, count: int) -> Tokens:
        """At most so many problems of a random word and what edits make of it, the shorter one first."""
        width_P, kind_PE = draw_edits(rng, length, self.shorter_by, self.longer_by, count)
        alphabets = self._alphabets(rng, len(width_P))
        word_PN = alphabets.words(rng, width_P)
        edited_PN = edit(rng, word_PN, kind_PE, alphabets)
        first_PN, second_PM = _shorter_first(word_PN, edited_PN)
        fits_P = (widths_of(first_PN) == length) & (widths_of(second_PM) <= self._longest_second(length))
        return self._problems(first_PN[fits_P, :length], second_PM[fits_P])

    def _alphabets(self, rng: np.random.Generator, count: int) -> Alphabets:
        return Alphabets.draw(rng, count, self.letters, self.least_letters, self.most_letters)

    def _problems(self, first_PN: Tokens, second_PM: Tokens) -> Tokens:
        """`s1 | s2 <sep>` of all pairs whose words differ."""
        count, length = first_PN.shape
        tokens_PL = np.zeros((count, length + second_PM.shape[1] + 2), np.uint16)
        tokens_PL[:, :length] = first_PN
        tokens_PL[:, length] = self.token("|")
        tokens_PL[:, length + 1 : -1] = second_PM
        tokens_PL[np.arange(count), length + 1 + widths_of(second_PM)] = self.token("<sep>")
        differ_P = (first_PN != second_PM[:, :length]).any(axis=1) | (widths_of(second_PM) > length)
        return tokens_PL[differ_P]

    def boards(self, problems_PL: Tokens, length: int) -> Tokens:
        """The letters of s1 that are still to be read, and the rest of the problem."""
        boards_PTL = np.repeat(problems_PL[:, None], length, axis=1)
        boards_PTL[:, np.tri(length, problems_PL.shape[1], dtype=bool)] = PAD
        return boards_PTL

    def work(self, problems_PL: Tokens, length: int) -> Worked:
        """Raises ConfigError where a table may hold a number that has no token."""
        self.check_length(length)
        parts = [self._work(problems_PL[start : start + _ROWS], length) for start in range(0, len(problems_PL), _ROWS)]
        return Worked(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def _work(self, problems_PL: Tokens, length: int) -> Worked:
        rows_P, width_P = np.arange(len(problems_PL)), widths_of(problems_PL) - length - 2
        first_PN, second_PM = problems_PL[:, :length], problems_PL[:, length + 1 : -1]
        first_number = self.token("0")
        inside_PM = np.arange(second_PM.shape[1]) < width_P[:, None]
        rounds_PTR = np.zeros((len(problems_PL), length, second_PM.shape[1] + 1), np.uint16)
        for row, distance_MP in enumerate(distance_rows(first_PN, second_PM, self.costs)):
            rounds_PTR[:, row, :-1] = np.where(inside_PM, distance_MP.T + first_number, 0)
        rounds_PTR[rows_P, :, width_P] = self.token(",")
        return Worked(rounds_PTR, rounds_PTR[rows_P, -1, width_P - 1][:, None])


def distance_rows(first_PN: Tokens, second_PM: Tokens, costs: Costs) -> Iterator[NDArray[np.int16]]:
    """The table of distances row by row, each (M, P); a column is right wherever the words reach.

    D(i, j) = min(D(i-1, j) + delete, D(i, j-1) + insert, D(i-1, j-1) + (0 if letters are the same, else replace))
    """
    columns, count = second_PM.shape[1], len(second_PM)
    insert_M1 = costs.insert * np.arange(columns + 1, dtype=np.int16)[:, None]
    second_MP = np.ascontiguousarray(second_PM.T)
    above_MP = np.broadcast_to(
        costs.border_right * np.arange(columns + 1, dtype=np.int16)[:, None], (columns + 1, count)
    )
    for row, letter_P in enumerate(first_PN.T, start=1):
        best_MP = np.full((columns + 1, count), costs.border_down * row, np.int16)
        diagonal_MP = above_MP[:-1] + np.int16(costs.replace) * (second_MP != letter_P)
        np.minimum(diagonal_MP, above_MP[1:] + np.int16(costs.delete), out=best_MP[1:])
        best_MP -= insert_M1  # of D(i, j) - insert * j, insertions make a running minimum
        above_MP = np.minimum.accumulate(best_MP, axis=0) + insert_M1
        yield above_MP[1:]


def _shorter_first(one_PN: Tokens, other_PN: Tokens) -> tuple[Tokens, Tokens]:
    """The pairs with the shorter word first; equally long ones stay as they are."""
    both_2PN = stacked([one_PN, other_PN]).reshape(2, len(one_PN), -1)
    swap_P1 = (widths_of(other_PN) < widths_of(one_PN))[:, None]
    return np.where(swap_P1, both_2PN[1], both_2PN[0]), np.where(swap_P1, both_2PN[0], both_2PN[1])


@lru_cache(maxsize=2048)
def largest_distance(first: int, second: int, costs: Costs) -> int:
    """The largest number in a table of words of so many letters: that of words without a letter in common."""
    one_1N, other_1M = (np.full((1, width), FIRST_SYMBOL + place) for place, width in enumerate((first, second)))
    return max(int(row.max()) for row in distance_rows(one_1N, other_1M, costs))
