"""What a task is: problems, the rounds in which they are worked off, the answer. A user adds one in a file."""

# P problems   L tokens of a problem   T rounds   R tokens of a round   A tokens of an answer

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.common.config import Config

PAD, EOS = 0, 1
FIRST_SYMBOL = 2  # the token of a task's first symbol
# So many PAD stand in front of what is aligned to the left: a network that counts distances only needs a first place.
MARK = 1

Tokens = NDArray[np.uint16]


class Worked(NamedTuple):
    """Problems of one length, worked off. PAD stands on the right of what is shorter than the widest."""

    rounds_PTR: Tokens
    answers_PA: Tokens


class Task(Config):
    """Problems of some kind, of any length. Tokens are 2, 3, .. in the order of `symbols`; 0 is PAD and 1 is EOS.

    A round is no longer than its problem, and the same for every problem that reads the same. Where
    `last_round_is_answer`, the last round is the bare answer and stands in the chain once; else the answer follows it.
    `check_task` (`validation.py`) says whether a new task keeps this.
    """

    last_round_is_answer: ClassVar[bool]
    round_end: ClassVar[str]  # the symbol that ends each round but a bare answer
    length_unit: ClassVar[str]  # what a length counts, in the plural, such as "operators"

    @property
    @abstractmethod
    def name(self) -> str:
        """A short word, the same in files, figures and task tokens."""

    @property
    @abstractmethod
    def symbols(self) -> tuple[str, ...]:
        """The text of each token but PAD and EOS, no two alike."""

    @abstractmethod
    def loops(self, length: int) -> int:
        """T: how many rounds problems of this length have."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, length: int, count: int) -> Tokens:
        """Random problems (P, L), with repetition, PAD on the right of the shorter ones."""

    @abstractmethod
    def work(self, problems_PL: Tokens, length: int) -> Worked:
        """All rounds and the answers of problems of one length, PAD on their right."""

    @property
    def chance(self) -> str:
        """How often a guess is right, in words, where that can be said."""
        return ""

    def check_length(self, length: int) -> None:
        """Raises ConfigError where there cannot be problems of this length."""

    def boards(self, problems_PL: Tokens, length: int) -> Tokens | None:
        """What stands in the problem's own places after each round (P, T, L), as on a board that is worked on.

        What is read off may give way to PAD, or to what was found out about it. A teacher may be asked to show it
        beside the round (`TeacherConfig.board`); chains do not hold it. None where a task has no board.
        """
        return None

    def answer_width(self, length: int) -> int:
        """Tokens of an answer."""
        return 1

    def widest_problem(self, length: int) -> int:
        """The most tokens that a problem of this length has."""
        return self.draw(np.random.default_rng(0), length, 256).shape[1]

    def is_last(self, rounds_PR: Tokens) -> NDArray[np.bool_] | None:
        """Where a round, PAD on its right, says by itself that it is the last one; None where rounds cannot."""
        if not self.last_round_is_answer:
            return None
        return ~(rounds_PR == self.token(self.round_end)).any(axis=1)

    def token(self, symbol: str) -> int:
        """The token of this symbol."""
        return self.symbols.index(symbol) + FIRST_SYMBOL

    def text(self, tokens: Sequence[int] | Tokens) -> str:
        """Tokens for people; padding is left out, and what another task's symbol says is a question mark."""
        names = ("", "<eos>", *self.symbols)
        return " ".join(names[token] if token < len(names) else "?" for token in tokens if token != PAD)

    def read(self, text: str) -> Tokens:
        """The tokens of a text, symbols parted by blanks: the inverse of `text`."""
        return np.array([self.token(symbol) for symbol in text.split()], np.uint16)

    def answers(self, problems_PL: Tokens, length: int) -> Tokens:
        """The right answers (P, A)."""
        return self.work(problems_PL, length).answers_PA

    def solutions(self, problems_PL: Tokens, length: int) -> Tokens:
        """What a student should write after each problem: its rounds, the answer, EOS; PAD on the right."""
        return self.concatenate(*self.work(problems_PL, length))

    def concatenate(self, rounds_PTR: Tokens, answers_PA: Tokens) -> Tokens:
        """Rounds and answer one after the other, with EOS. A last round that is the answer gives way to it."""
        rounds_PTR = rounds_PTR[:, :-1] if self.last_round_is_answer else rounds_PTR
        end_P1 = np.full((len(answers_PA), 1), EOS, np.uint16)
        return closed_up(np.concatenate([rounds_PTR.reshape(len(answers_PA), -1), answers_PA, end_P1], axis=1))

    def steps(self, written: Sequence[int] | Tokens) -> list[list[int]]:
        """A row that was written, cut into its rounds and what follows the last of them."""
        end, found = self.token(self.round_end), list[list[int]]([[]])
        for token in written:
            if token in (PAD, EOS):
                break
            found[-1].append(int(token))
            if token == end:
                found.append([])
        return [step for step in found if step]


def closed_up(tokens_PW: Tokens) -> Tokens:
    """Each row without the PAD between its tokens: they stand on the left, in their order."""
    kept_PW = tokens_PW != PAD
    row_N, column_N = np.nonzero(kept_PW)
    place_N = kept_PW.cumsum(axis=1)[row_N, column_N] - 1
    closed_PW = np.zeros_like(tokens_PW)
    closed_PW[row_N, place_N] = tokens_PW[row_N, column_N]
    return closed_PW[:, : max(1, int(kept_PW.sum(axis=1).max(initial=1)))]


def flush_right(tokens_PW: Tokens, width: int) -> Tokens:
    """Rows with PAD on their right, moved to the right end of this width; of wider ones the last tokens stay."""
    widths_P, column_W = widths_of(tokens_PW), np.arange(tokens_PW.shape[1])
    moved_PW = np.zeros((len(tokens_PW), width), np.uint16)
    row_N, column_N = np.nonzero((column_W < widths_P[:, None]) & (column_W >= widths_P[:, None] - width))
    moved_PW[row_N, column_N + width - widths_P[row_N]] = tokens_PW[row_N, column_N]
    return moved_PW


def widths_of(tokens_PW: Tokens) -> NDArray[np.int64]:
    """How many tokens each row has up to its last one."""
    filled_PW = tokens_PW != PAD
    return np.where(filled_PW.any(axis=1), tokens_PW.shape[1] - filled_PW[:, ::-1].argmax(axis=1), 0)


def widened(tokens_PW: Tokens, width: int) -> Tokens:
    """The rows with PAD on the right up to this width."""
    return np.pad(tokens_PW, ((0, 0), (0, width - tokens_PW.shape[1])), constant_values=PAD)


def stacked(rows: Sequence[Tokens]) -> Tokens:
    """Blocks of rows one below the other, as wide as the widest."""
    width = max(block.shape[1] for block in rows)
    return np.concatenate([widened(block, width) for block in rows])


def written_answers(written_PW: Tokens, answer_width: int) -> Tokens:
    """The tokens before the first EOS of each row (P, A); PAD where a row does not end, or ends before them."""
    ends_PW = written_PW == EOS
    end_P = np.where(ends_PW.any(axis=1), ends_PW.argmax(axis=1), 0)
    place_PA = end_P[:, None] - answer_width + np.arange(answer_width)
    answer_PA = np.take_along_axis(written_PW, np.maximum(place_PA, 0), axis=1)
    return np.where(place_PA >= 0, answer_PA, PAD).astype(np.uint16)


def exact_matches(written_PW: Tokens, solutions_PW: Tokens) -> NDArray[np.bool_]:
    """Where a row says the solution and nothing else; PAD on the right does not count."""
    width = max(written_PW.shape[1], solutions_PW.shape[1])
    return (widened(written_PW, width) == widened(solutions_PW, width)).all(axis=1)
