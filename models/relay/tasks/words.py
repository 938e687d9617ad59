"""The simplest way to a task of one's own: problems, rounds and answers as text, one problem at a time."""

# P problems   L tokens of a problem   T rounds   R tokens of a round   A tokens of an answer

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from models.common.errors import ConfigError
from models.relay.task import FIRST_SYMBOL, Task, Tokens, Worked


class TaskInWords(Task):
    """A task of which a class says `name`, `symbols`, `problem`, `rounds` and `loops`; texts are symbols and blanks.

    As a rule the last round is the bare answer and all others end in "=". Where the answer follows the last round
    instead, `last_round_is_answer = False`, and `answer` says it. What a class can be set to are its pydantic fields.
    """

    name: ClassVar[str]  # pyright: ignore[reportIncompatibleMethodOverride] a constant serves as a property
    if not TYPE_CHECKING:  # as a constant or a property, whichever a class writes
        symbols: ClassVar[tuple[str, ...]]
    last_round_is_answer: ClassVar[bool] = True
    round_end: ClassVar[str] = "="
    length_unit: ClassVar[str] = "steps"

    @abstractmethod
    def problem(self, rng: np.random.Generator, length: int) -> str:
        """A random problem of this length, such as "3 + 5 - 6 ="."""

    @abstractmethod
    def rounds(self, problem: str) -> list[str]:
        """What each round leaves of it, such as ["1 - 6 =", "2"]: none longer than the problem, and no chance in it."""

    def answer(self, problem: str, rounds: list[str]) -> str:
        """What a chain ends with, where that is not its last round; the rounds have to tell it."""
        return rounds[-1]

    def draw(self, rng: np.random.Generator, length: int, count: int) -> Tokens:
        """Raises ConfigError for a text with other symbols than the task's."""
        return self._rows([self.problem(rng, length) for _ in range(count)], "problem")

    def work(self, problems_PL: Tokens, length: int) -> Worked:
        """Raises ConfigError for a text with other symbols than the task's."""
        problems = [self.text(tokens) for tokens in problems_PL]
        chains = [self.rounds(problem) for problem in problems]
        loops = max(map(len, chains))
        texts = [text for chain in chains for text in (*chain, *[""] * (loops - len(chain)))]
        rounds_PTR = self._rows(texts, "rounds").reshape(len(problems), loops, -1)
        answers = [self.answer(problem, chain) for problem, chain in zip(problems, chains, strict=True)]
        return Worked(rounds_PTR, self._rows(answers, "answer"))

    def _rows(self, texts: Sequence[str], source: str) -> Tokens:
        token_of = {symbol: token for token, symbol in enumerate(self.symbols, start=FIRST_SYMBOL)}
        rows = [text.split() for text in texts]
        tokens = np.zeros((len(rows), max(1, *map(len, rows))), np.uint16)
        for row, (text, words) in enumerate(zip(texts, rows, strict=True)):
            foreign = next((word for word in words if word not in token_of), None)
            if foreign is not None:
                raise ConfigError(
                    f"task {self.name}: {source} gave '{text}', and '{foreign}' is no symbol of it\n"
                    f"fits: {' '.join(self.symbols)}, with blanks between them"
                )
            tokens[row, : len(words)] = [token_of[word] for word in words]
        return tokens
