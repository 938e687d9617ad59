"""The prepared folder: which problems are for training, and those held out for tests, which no batch contains."""

# P problems   L tokens of a problem

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from models.common.errors import DataError
from models.relay.data_config import ProblemsData
from models.relay.streams import TESTS
from models.relay.task import Task, Tokens, stacked, widths_of
from models.relay.tasks.user import UserTask
from models.relay.vocabulary import Vocabulary

_SETTINGS = "problems.json"
_TEST_SHARE = 4  # where a length has few problems, at most one in so many is held out
_CANDIDATES = 8  # problems drawn for each one that is held out
_MOST_DRAWS = 1000  # so many times over, before a length is said to have no problem left to train on


class Group(NamedTuple):
    """Problems of one task and one length."""

    task: str
    length: int

    def __str__(self) -> str:
        return f"{self.task}_{self.length:03d}"


@dataclass(frozen=True)
class Problems:
    """All problems of a run. Those for training are drawn when needed, and never from those held out."""

    data: ProblemsData
    held_out: dict[Group, Tokens]  # in the task's own tokens, PAD on the right

    @classmethod
    def choose(cls, data: ProblemsData) -> Self:
        """Holds out test problems of each length, chosen by the data's seed."""
        groups = [Group(each.task.name, length) for each in data.tasks for length in each.lengths]
        return cls(data, {group: chosen_tests(data, group, TESTS) for group in groups})

    def write(self, folder: Path) -> None:
        """Writes settings and tests, and the files of tasks that a user wrote, so that any machine can read them."""
        settings = self.data.model_dump(mode="json")
        for each, told in zip(self.data.tasks, settings["tasks"], strict=True):
            if isinstance(each.task, UserTask):
                told["task"]["source"] = f"task_{each.task.name}.py"
                (folder / told["task"]["source"]).write_bytes(each.task.source.read_bytes())
        (folder / _SETTINGS).write_text(json.dumps(settings, indent=1) + "\n")
        for group, tests in self.held_out.items():
            np.save(folder / f"test_{group}.npy", tests, allow_pickle=False)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Raises DataError where the folder is no prepared one."""
        if not (folder / _SETTINGS).exists():
            raise DataError(f"{folder} holds no {_SETTINGS}\ngive a folder that ProblemsData prepared")
        settings = json.loads((folder / _SETTINGS).read_text())
        for told in settings["tasks"]:
            if "source" in told["task"]:
                told["task"]["source"] = folder / told["task"]["source"]
        data = ProblemsData.model_validate(settings)
        groups = [Group(each.task.name, length) for each in data.tasks for length in each.lengths]
        return cls(data, {group: np.load(folder / f"test_{group}.npy", allow_pickle=False) for group in groups})

    @cached_property
    def tasks(self) -> dict[str, Task]:
        return {each.task.name: each.task for each in self.data.tasks}

    @cached_property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(list(self.tasks.values()))

    @cached_property
    def train(self) -> tuple[Group, ...]:
        return self._groups("train_lengths")

    @cached_property
    def label(self) -> tuple[Group, ...]:
        return self._groups("label_lengths")

    @cached_property
    def untouched(self) -> tuple[Group, ...]:
        return self._groups("untouched_lengths")

    @property
    def groups(self) -> tuple[Group, ...]:
        """All of them: for training, for labels, untouched."""
        return (*self.train, *self.label, *self.untouched)

    @cached_property
    def longest_trained(self) -> frozenset[Group]:
        """Of each task, the longest problems that are trained on."""
        return frozenset(Group(each.task.name, max(each.train_lengths)) for each in self.data.tasks)

    def loops(self, group: Group) -> int:
        """T of these problems."""
        return self.tasks[group.task].loops(group.length)

    def tests(self, group: Group) -> Tokens:
        """The test problems (P, L)."""
        return self.held_out[group]

    def solutions(self, group: Group, problems_PL: Tokens) -> Tokens:
        """What the solver writes after these problems."""
        return self.tasks[group.task].solutions(problems_PL, group.length)

    def draw(self, rng: np.random.Generator, group: Group, count: int) -> Tokens:
        """Problems drawn at random, with repetition, none of them a test problem.

        Raises DataError where a task draws nothing but these.
        """
        task, found = self.tasks[group.task], list[Tokens]()
        for _ in range(_MOST_DRAWS):
            drawn = task.draw(rng, group.length, count)
            found.append(drawn[~np.isin(fingerprints(drawn), self._fingerprints_held_out(group))])
            if sum(map(len, found)) >= count:
                return stacked(found)[:count]
        raise DataError(
            f"{group.task}: all problems of length {group.length} that were drawn are held out for tests\n"
            "fits: a task with more problems of this length, or fewer tests_per_length"
        )

    def draw_group(self, rng: np.random.Generator) -> Group:
        """A group to train on: each task alike, and its lengths in proportion to themselves (appendix D.2)."""
        return draw_group(rng, {group: group.length for group in self.train})

    def _groups(self, lengths: str) -> tuple[Group, ...]:
        return tuple(Group(each.task.name, length) for each in self.data.tasks for length in getattr(each, lengths))

    def _fingerprints_held_out(self, group: Group) -> NDArray[np.uint64]:
        if group not in self._fingerprints:
            self._fingerprints[group] = fingerprints(self.held_out[group])
        return self._fingerprints[group]

    @cached_property
    def _fingerprints(self) -> dict[Group, NDArray[np.uint64]]:
        return {}


def chosen_tests(data: ProblemsData, group: Group, stream: int) -> Tokens:
    """Test problems of a group (P, L): what the data's seed chooses in this stream of random numbers."""
    place, task = next((place, each.task) for place, each in enumerate(data.tasks) if each.task.name == group.task)
    rng = np.random.default_rng([data.seed, stream, group.length, place])
    drawn = distinct(task.draw(rng, group.length, _CANDIDATES * data.tests_per_length))
    count = min(data.tests_per_length, max(1, len(drawn) // _TEST_SHARE))
    return drawn[rng.permutation(len(drawn))[:count]]


def draw_group(rng: np.random.Generator, weights: Mapping[Group, float]) -> Group:
    """One of the groups: each task alike, and within the task in proportion to the weights."""
    tasks = list(dict.fromkeys(group.task for group in weights))
    task = tasks[int(rng.integers(len(tasks)))]
    mine = [group for group in weights if group.task == task]
    shares = np.array([weights[group] for group in mine], float)
    return mine[int(rng.choice(len(mine), p=shares / shares.sum()))]


def fingerprints(tokens_PL: Tokens) -> NDArray[np.uint64]:
    """64 bits for each row, the same however much PAD stands on its right.

    Two rows that differ share theirs once in 2^64; such a problem is only left out of training.
    """
    multipliers_L = _multipliers(tokens_PL.shape[1])
    return (tokens_PL.astype(np.uint64) * multipliers_L).sum(axis=1, dtype=np.uint64)


@functools.lru_cache(maxsize=64)
def _multipliers(width: int) -> NDArray[np.uint64]:
    """An odd random number for each place, the same at every width."""
    return 2 * np.random.default_rng(2502_08482).integers(2**63, size=width, dtype=np.uint64) + 1


def distinct(tokens_PL: Tokens) -> Tokens:
    """The rows, each once, in the order in which they first come."""
    _, first = np.unique(fingerprints(tokens_PL), return_index=True)
    kept = tokens_PL[np.sort(first)]
    return kept[:, : int(widths_of(kept).max())]
