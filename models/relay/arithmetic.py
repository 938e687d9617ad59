"""The task: sums such as `3 + 5 - 6 =`, worked off from the left, one operation a round, modulo a small number."""

# P problems   L tokens of a problem: n + 1 numbers, n operators, "="   T rounds, as many as operators

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PAD, EOS, EQUALS = 0, 1, 2
_FIRST_OPERATOR = 3

Tokens = NDArray[np.uint8]


@dataclass(frozen=True)
class Arithmetic:
    """Numbers 0 to modulus - 1 and operators; a problem of n operators is also one integer below `space(n)`."""

    modulus: int
    operators: tuple[str, ...]

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The text of each token, by its number."""
        return ("<pad>", "<eos>", "=", *self.operators, *(str(number) for number in range(self.modulus)))

    @property
    def first_number(self) -> int:
        """The token of the number 0."""
        return _FIRST_OPERATOR + len(self.operators)

    def text(self, tokens: Sequence[int] | Tokens) -> str:
        """Tokens for people; padding is left out."""
        return " ".join(self.vocabulary[token] for token in tokens if token != PAD)

    def space(self, length: int) -> int:
        """How many problems of so many operators there are."""
        return self.modulus ** (length + 1) * len(self.operators) ** length

    def problems(self, codes_P: NDArray[np.int64], length: int) -> Tokens:
        """The problems that these integers stand for: the inverse of `codes`."""
        tokens_PL = np.empty((len(codes_P), problem_width(length)), np.uint8)
        rest = codes_P.copy()
        for place in range(length):
            rest, operator = np.divmod(rest, len(self.operators))
            tokens_PL[:, 2 * place + 1] = operator + _FIRST_OPERATOR
        for place in range(length + 1):
            rest, number = np.divmod(rest, self.modulus)
            tokens_PL[:, 2 * place] = number + self.first_number
        tokens_PL[:, -1] = EQUALS
        return tokens_PL

    def codes(self, tokens_PL: Tokens) -> NDArray[np.int64]:
        """One integer for each problem, different for different problems of one length."""
        length = operators_in(tokens_PL)
        codes_P = np.zeros(len(tokens_PL), np.int64)
        for place in reversed(range(length + 1)):
            codes_P = codes_P * self.modulus + tokens_PL[:, 2 * place] - self.first_number
        for place in reversed(range(length)):
            codes_P = codes_P * len(self.operators) + tokens_PL[:, 2 * place + 1] - _FIRST_OPERATOR
        return codes_P

    def reduce_leftmost(self, tokens_PL: Tokens) -> Tokens:
        """The problems after one round: the leftmost operation is replaced by its value.

        The last round leaves the bare answer, without "=" (arXiv 2502.08482, section 3.3).
        """
        left = tokens_PL[:, 0].astype(np.int64) - self.first_number
        right = tokens_PL[:, 2].astype(np.int64) - self.first_number
        minus = np.array([name == "-" for name in self.operators])[tokens_PL[:, 1] - _FIRST_OPERATOR]
        value = np.where(minus, left - right, left + right) % self.modulus
        reduced = tokens_PL[:, 2:].copy()
        reduced[:, 0] = value + self.first_number
        return reduced[:, :1] if operators_in(tokens_PL) == 1 else reduced

    def rounds(self, tokens_PL: Tokens) -> list[Tokens]:
        """What is left after each round, the answer last."""
        rounds = [self.reduce_leftmost(tokens_PL)]
        while rounds[-1].shape[1] > 1:
            rounds.append(self.reduce_leftmost(rounds[-1]))
        return rounds

    def answers(self, tokens_PL: Tokens) -> NDArray[np.uint8]:
        """The tokens of the right answers."""
        return self.rounds(tokens_PL)[-1][:, 0]

    def solutions(self, tokens_PL: Tokens) -> Tokens:
        """What a student should write after the problem: all rounds, the answer, the end."""
        end_P1 = np.full((len(tokens_PL), 1), EOS, np.uint8)
        return np.concatenate([*self.rounds(tokens_PL), end_P1], axis=1)


def problem_width(length: int) -> int:
    """Tokens of a problem with so many operators."""
    return 2 * length + 2


def solution_width(length: int) -> int:
    """Tokens of its solution: rounds of 2n, 2n - 2, .., 4 tokens, the answer, the end."""
    return length * (length + 1)


def operators_in(tokens_PL: Tokens) -> int:
    """How many operators problems of this width have."""
    return (tokens_PL.shape[1] - 2) // 2


def written_answers(written_PW: Tokens) -> NDArray[np.uint8]:
    """The token before the first EOS of each row, which is PAD where a row does not end or is empty."""
    ends_PW = written_PW == EOS
    end_P = ends_PW.argmax(axis=1)
    answer_P = written_PW[np.arange(len(written_PW)), np.maximum(end_P - 1, 0)]
    return np.where(ends_PW.any(axis=1) & (end_P > 0), answer_P, PAD).astype(np.uint8)


def exact_matches(written_PW: Tokens, solutions_PW: Tokens) -> NDArray[np.bool_]:
    """Where a row says the solution and nothing else; PAD on the right does not count."""
    width = max(written_PW.shape[1], solutions_PW.shape[1])
    return (widened(written_PW, width) == widened(solutions_PW, width)).all(axis=1)


def widened(tokens_PW: Tokens, width: int) -> Tokens:
    """The rows with PAD on the right up to this width."""
    return np.pad(tokens_PW, ((0, 0), (0, width - tokens_PW.shape[1])), constant_values=PAD)


def steps(written: Sequence[int] | Tokens) -> list[list[int]]:
    """A row cut into its steps: each ends in "=", the last one is the answer."""
    found: list[list[int]] = [[]]
    for token in written:
        if token in (PAD, EOS):
            break
        found[-1].append(int(token))
        if token == EQUALS:
            found.append([])
    return [step for step in found if step]
