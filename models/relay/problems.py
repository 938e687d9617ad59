"""The prepared folder: which problems are for training, and those held out for tests, which no batch contains."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.common.errors import DataError
from models.relay.arithmetic import Arithmetic, Tokens

_SETTINGS = "problems.json"
_TEST_SHARE = 4  # where a length has few problems, at most one in so many is held out


@dataclass(frozen=True)
class Problems:
    """All problems of a run. Training problems are drawn when needed, and never from those held out."""

    arithmetic: Arithmetic
    train_lengths: tuple[int, ...]
    label_lengths: tuple[int, ...]
    untouched_lengths: tuple[int, ...]
    held_out: dict[int, NDArray[np.int64]]  # by length, the codes of the test problems, sorted

    @classmethod
    def choose(
        cls,
        arithmetic: Arithmetic,
        train_lengths: tuple[int, ...],
        label_lengths: tuple[int, ...],
        untouched_lengths: tuple[int, ...],
        *,
        tests_per_length: int,
        seed: int,
    ) -> Self:
        """Holds out test problems of each length, chosen by the seed."""
        held_out = {}
        for length in (*train_lengths, *label_lengths, *untouched_lengths):
            rng = np.random.default_rng([seed, length])
            count = min(tests_per_length, max(1, arithmetic.space(length) // _TEST_SHARE))
            held_out[length] = _distinct(rng, arithmetic.space(length), count)
        return cls(arithmetic, train_lengths, label_lengths, untouched_lengths, held_out)

    def write(self, folder: Path) -> None:
        settings = {
            "modulus": self.arithmetic.modulus,
            "operators": self.arithmetic.operators,
            "train_lengths": self.train_lengths,
            "label_lengths": self.label_lengths,
            "untouched_lengths": self.untouched_lengths,
        }
        (folder / _SETTINGS).write_text(json.dumps(settings, indent=1, sort_keys=True) + "\n")
        for length in self.held_out:
            np.save(folder / _test_file(length), self.tests(length), allow_pickle=False)

    @classmethod
    def read(cls, folder: Path) -> Self:
        if not (folder / _SETTINGS).exists():
            raise DataError(f"{folder} holds no {_SETTINGS}\ngive a folder that ArithmeticData prepared")
        settings = json.loads((folder / _SETTINGS).read_text())
        arithmetic = Arithmetic(settings["modulus"], tuple(settings["operators"]))
        lengths = {name: tuple(settings[name]) for name in ("train_lengths", "label_lengths", "untouched_lengths")}
        held_out = {
            length: np.sort(arithmetic.codes(np.load(folder / _test_file(length), allow_pickle=False)))
            for group in lengths.values()
            for length in group
        }
        return cls(arithmetic, **lengths, held_out=held_out)

    @property
    def all_lengths(self) -> tuple[int, ...]:
        return (*self.train_lengths, *self.label_lengths, *self.untouched_lengths)

    def tests(self, length: int) -> Tokens:
        """The test problems of this length."""
        return self.arithmetic.problems(self.held_out[length], length)

    def draw(self, rng: np.random.Generator, length: int, count: int) -> Tokens:
        """Problems drawn at random, with repetition, none of them a test problem."""
        codes = np.empty(0, np.int64)
        while len(codes) < count:
            drawn = rng.integers(self.arithmetic.space(length), size=count)
            codes = np.concatenate([codes, drawn[~np.isin(drawn, self.held_out[length])]])
        return self.arithmetic.problems(codes[:count], length)


def _test_file(length: int) -> str:
    return f"test_{length:02d}.npy"


def _distinct(rng: np.random.Generator, below: int, count: int) -> NDArray[np.int64]:
    """So many different integers below `below`, sorted."""
    found = np.empty(0, np.int64)
    while len(found) < count:
        found = np.union1d(found, rng.integers(below, size=count - len(found)))
    return found
