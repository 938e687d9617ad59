"""Expressions such as `( 6 + 2 ) / 3 =` modulo a small number, worked off one operation a round (appendix A)."""

# P problems   L tokens of a problem   N operators of a problem   T rounds, as many   R tokens of a round

from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from models.common.errors import DataError
from models.relay.task import FIRST_SYMBOL, Task, Tokens, Worked, widened, widths_of
from models.relay.tasks.modular import UNDEFINED, Integers, is_prime, operations

_EQUALS, _FIRST_OPERATOR = FIRST_SYMBOL, FIRST_SYMBOL + 1


class Arithmetic(Task):
    """Integers modulo a number; the length of a problem is its operators, and so many rounds it has.

    A round works off the leftmost operation that precedence and brackets allow; brackets around a single number go with
    it. Rounds end in "=", the last one is the bare answer. `/` multiplies by the inverse, and nothing is divided by 0.

    Without brackets, operators are drawn uniformly, and so are numbers (behind "/", all but 0). With brackets, an
    expression grows from a number, as in Feng et al. 2023: one of its numbers, drawn uniformly, gives way to an
    operation of the same value, drawn uniformly among all pairs of numbers that have it, in brackets where needed.
    """

    kind: Literal["arithmetic"] = "arithmetic"
    modulus: int = Field(default=7, ge=2, le=200, description="the numbers are 0 to modulus - 1, each one token")
    operators: Annotated[tuple[Literal["+", "-", "*", "/"], ...], Field(min_length=1, max_length=4)] = ("+", "-")
    brackets: bool = Field(default=False, description="expressions are random trees; without, operations in a row")

    last_round_is_answer: ClassVar[bool] = True
    round_end: ClassVar[str] = "="
    length_unit: ClassVar[str] = "operators"

    @model_validator(mode="after")
    def _can_be_computed(self) -> Self:
        if len(set(self.operators)) < len(self.operators):
            raise ValueError(f"operators {' '.join(self.operators)}: name each once")
        if "/" in self.operators and not is_prime(self.modulus):
            near = ", ".join(str(number) for number in range(self.modulus - 7, self.modulus + 8) if is_prime(number))
            raise ValueError(f"modulus {self.modulus} is not prime, as '/' needs it to be; primes near it: {near}")
        return self

    @property
    def name(self) -> str:
        return "arithmetic"

    @property
    def chance(self) -> str:
        values_are_uniform = self.brackets or not {"*", "/"} & set(self.operators)
        return f"1 in {self.modulus}" if values_are_uniform else ""

    @property
    def symbols(self) -> tuple[str, ...]:
        return ("=", *self.operators, *("()" if self.brackets else ""), *map(str, range(self.modulus)))

    @property
    def first_number(self) -> int:
        """The token of the number 0; brackets come just before it."""
        return _FIRST_OPERATOR + len(self.operators) + 2 * self.brackets

    def loops(self, length: int) -> int:
        return length

    def widest_problem(self, length: int) -> int:
        return 2 * length + 2 + 2 * self._most_brackets(length)

    def _most_brackets(self, length: int) -> int:
        """Pairs that so many operations can need; the outermost operation never stands in one."""
        if not self.brackets or set(self.operators) in ({"+"}, {"*"}):
            return 0
        if {"-", "/"} & set(self.operators):  # as in 1 - ( 2 - ( 3 - 4 ) )
            return length - 1
        return 2 * length // 3  # a sum in brackets stands beside a product, which has two sides

    def draw(self, rng: np.random.Generator, length: int, count: int) -> Tokens:
        return self._grown(rng, length, count) if self.brackets else self._in_a_row(rng, length, count)

    def _in_a_row(self, rng: np.random.Generator, length: int, count: int) -> Tokens:
        """Problems without brackets: any operators between any numbers, but for 0 behind "/"."""
        operator_PN = rng.integers(len(self.operators), size=(count, length))
        number_PN = rng.integers(self.modulus, size=(count, length + 1))
        if "/" in self.operators:
            divides_PN = operator_PN == self.operators.index("/")
            number_PN[:, 1:] = np.where(divides_PN, rng.integers(1, self.modulus, operator_PN.shape), number_PN[:, 1:])
        tokens_PL = np.full((count, 2 * length + 2), _EQUALS, np.uint16)
        tokens_PL[:, 1:-1:2] = operator_PN + _FIRST_OPERATOR
        tokens_PL[:, :-1:2] = number_PN + self.first_number
        return tokens_PL

    def _grown(self, rng: np.random.Generator, length: int, count: int) -> Tokens:
        """Problems with brackets, each grown from its value."""
        tokens_PL = np.full((count, 2), _EQUALS, np.uint16)
        tokens_PL[:, 0] = rng.integers(self.modulus, size=count) + self.first_number
        for operators in range(length):
            tokens_PL = self._grown_by_one(rng, tokens_PL, operators)
        return tokens_PL[:, : int(widths_of(tokens_PL).max(initial=1))]

    def _grown_by_one(self, rng: np.random.Generator, tokens_PL: Tokens, operators: int) -> Tokens:
        """The problems after one number of each has given way to an operation of its value."""
        rows_P, count = np.arange(len(tokens_PL)), len(tokens_PL)
        places_PN = np.nonzero(tokens_PL >= self.first_number)[1].reshape(count, operators + 1)
        place_P = places_PN[rows_P, rng.integers(operators + 1, size=count)]
        value_P = tokens_PL[rows_P, place_P].astype(np.int64) - self.first_number
        operator_P = rng.integers(len(self.operators), size=count)
        first_P, second_P = operations(self.modulus, self.operators).pair(operator_P, value_P, rng.random(count))

        before_P = np.where(place_P > 0, tokens_PL[rows_P, place_P - 1], _EQUALS)
        bracket_P = self._needs_brackets(before_P, operator_P, tokens_PL[rows_P, place_P + 1])
        grown_PL = _moved(tokens_PL, place_P, bracket_P, +2, self.widest_problem(operators + 1))
        inside = bracket_P.nonzero()[0]
        grown_PL[inside, place_P[inside]] = self.first_number - 2  # "("
        grown_PL[inside, place_P[inside] + 4] = self.first_number - 1  # ")"
        start_P = place_P + bracket_P
        grown_PL[rows_P, start_P] = first_P + self.first_number
        grown_PL[rows_P, start_P + 1] = operator_P + _FIRST_OPERATOR
        grown_PL[rows_P, start_P + 2] = second_P + self.first_number
        return grown_PL

    def _needs_brackets(self, before_P: Tokens, operator_P: Integers, behind_P: Tokens) -> NDArray[np.bool_]:
        """Where an operation between these two tokens would not be worked off as one, or change what they give."""
        is_sum_P = self._one_of("+-", operator_P + _FIRST_OPERATOR)
        is_factor_P = self._one_of("*/", before_P) | self._one_of("*/", behind_P)
        return self._one_of("/", before_P) | (is_sum_P & (is_factor_P | self._one_of("-", before_P)))

    def _one_of(self, operators: str, tokens: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Where tokens are one of these operators."""
        found = np.zeros(tokens.shape, np.bool_)
        for operator in set(operators) & set(self.operators):
            found |= tokens == self.token(operator)
        return found

    def work(self, problems_PL: Tokens, length: int) -> Worked:
        """All rounds and the answers; raises DataError for problems of another length, or that divide by 0."""
        if (self._one_of("+-*/", problems_PL).sum(axis=1) != length).any():
            raise DataError(f"arithmetic: a problem has not {length} operators\nfits: problems of one length at a time")
        rounds = [self._reduced(problems_PL)]
        for _ in range(length - 1):
            rounds.append(self._reduced(rounds[-1]))
        answers_P1 = rounds[-1][:, :1]  # without "=" (section 3.3)
        width = int(widths_of(rounds[0]).max(initial=1)) if length > 1 else 1
        rounds_TPR = [widened(each[:, :width], width) for each in (*rounds[:-1], answers_P1)]
        return Worked(np.stack(rounds_TPR, axis=1), answers_P1)

    def _reduced(self, tokens_PL: Tokens) -> Tokens:
        """The problems with their leftmost possible operation worked off, in 2 columns fewer.

        An operation between two numbers is possible unless it is a sum before a product. What stands before it needs no
        look: an operation that had to come first would be further to the left, and possible.
        """
        rows_P, table = np.arange(len(tokens_PL)), operations(self.modulus, self.operators)
        is_number_PL, is_product_PL = tokens_PL >= self.first_number, self._one_of("*/", tokens_PL)
        comes_first_PL = is_product_PL[:, 1:-2] | ~is_product_PL[:, 3:]
        possible_PL = is_number_PL[:, :-3] & is_number_PL[:, 2:-1] & comes_first_PL
        start_P = possible_PL.argmax(axis=1)
        first_P, operator_P, second_P = (tokens_PL[rows_P, start_P + place].astype(np.int64) for place in range(3))
        value_P = table.results_KMM[
            operator_P - _FIRST_OPERATOR, first_P - self.first_number, second_P - self.first_number
        ]
        if (value_P == UNDEFINED).any():
            raise DataError("arithmetic: a problem divides by 0\nfits: problems as draw gives them")

        bracket_P = self._in_brackets(tokens_PL, start_P)
        place_P = start_P - bracket_P
        reduced_PL = _moved(tokens_PL, place_P, bracket_P, -2, tokens_PL.shape[1] - 2)
        reduced_PL[rows_P, place_P] = value_P + self.first_number
        return reduced_PL

    def _in_brackets(self, tokens_PL: Tokens, start_P: Integers) -> NDArray[np.bool_]:
        """Where the three tokens from here on stand in brackets by themselves."""
        if not self.brackets:
            return np.zeros(len(tokens_PL), np.bool_)
        rows_P, opening, closing = np.arange(len(tokens_PL)), self.first_number - 2, self.first_number - 1
        opened_P = (start_P > 0) & (tokens_PL[rows_P, start_P - 1] == opening)
        return opened_P & (tokens_PL[rows_P, start_P + 3] == closing)


def _moved(tokens_PL: Tokens, place_P: Integers, bracket_P: NDArray[np.bool_], by: int, width: int) -> Tokens:
    """Rows of this width in which all behind a place stands `by` columns further on, twice as far with a bracket.

    Columns that get free keep tokens that are to be written over.
    """
    count, beyond = len(tokens_PL), 2 * abs(by)
    framed_PL = np.zeros((count, beyond + max(width, tokens_PL.shape[1]) + beyond), np.uint16)
    framed_PL[:, beyond : beyond + tokens_PL.shape[1]] = tokens_PL
    stays_PL, once_PL, twice_PL = (framed_PL[:, beyond - shift :][:, :width] for shift in (0, by, 2 * by))
    moved_PL = np.where(bracket_P[:, None], twice_PL, once_PL) if bracket_P.any() else once_PL
    return np.where(np.arange(width, dtype=np.int16) <= place_P.astype(np.int16)[:, None], stays_PL, moved_PL)
