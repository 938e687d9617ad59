"""Made-up tasks whose true reward is known: their pairs and demonstrations, and reading the truth back."""

# N pairs

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.common.errors import ConfigError
from models.rto.data_config import (
    BigramTask,
    LengthTrapTask,
    PreferenceData,
    PreferenceFiles,
    TransductionTask,
    TreeTask,
)
from models.rto.preferences import Pairs, Preferences
from models.rto.ragged import Ragged

# What a random stream is for, so that no two parts share one.
_TABLES, _TRAIN, _HELD_OUT, _DEMONSTRATIONS = range(4)
_MOST_REDRAWS = 100

MadeUpTask = BigramTask | TransductionTask | TreeTask | LengthTrapTask


class Truth(Protocol):
    """The true reward of a made-up task."""

    @property
    def describe(self) -> str:
        """What the true reward counts, for reports."""
        ...

    def score(
        self, prompts: Ragged | Sequence[ArrayLike], responses: Ragged | Sequence[ArrayLike]
    ) -> NDArray[np.float64]:
        """The true reward of each response."""
        ...


class Problem(Truth, Protocol):
    """A made-up task with its hidden numbers drawn."""

    @property
    def end(self) -> int | None: ...

    @property
    def words(self) -> tuple[str, ...]:
        """How each token of the vocabulary is shown."""
        ...

    @property
    def tables(self) -> dict[str, NDArray[Any]]:
        """The hidden numbers, from which `read_problem` makes the same problem again."""
        ...

    @property
    def length_bias(self) -> float:
        """What a label's logit gains for each token more."""
        ...

    def prompts(self, rng: np.random.Generator, count: int, *, held_out: bool) -> Ragged: ...

    def responses(self, rng: np.random.Generator, prompts: Ragged) -> Ragged:
        """A response to each prompt, as demonstrations have it."""
        ...


def prepare(config: PreferenceData, folder: Path) -> None:
    """Writes the dataset of this config into an empty folder."""
    if isinstance(config.task, PreferenceFiles):
        from models.rto.files import preferences_of_files

        preferences_of_files(config).write(folder)
    else:
        preferences_of_task(config, config.task).write(folder)


def preferences_of_task(config: PreferenceData, task: MadeUpTask) -> Preferences:
    """Pairs, held-out pairs and demonstrations of a made-up task, drawn by the config's seed."""
    problem = draw_problem(task, config.seed)
    rng = np.random.default_rng([config.seed, _DEMONSTRATIONS])
    demonstration_prompts = problem.prompts(rng, config.demonstrations, held_out=False)
    return Preferences(
        train=_draw_pairs(problem, config.pairs, np.random.default_rng([config.seed, _TRAIN]), held_out=False),
        held_out=_draw_pairs(
            problem, config.held_out_pairs, np.random.default_rng([config.seed, _HELD_OUT]), held_out=True
        ),
        demonstration_prompts=demonstration_prompts,
        demonstrations=problem.responses(rng, demonstration_prompts),
        vocabulary=len(problem.words),
        end=problem.end,
        about={"task": task.model_dump(mode="json"), "seed": config.seed},
        words=problem.words,
        tables=problem.tables,
    )


def draw_problem(task: MadeUpTask, seed: int) -> Problem:
    """The task with its hidden numbers drawn by the seed."""
    return _problem_class(task).drawn(task, np.random.default_rng([seed, _TABLES]))


def read_problem(task: Mapping[str, Any], tables: Mapping[str, NDArray[Any]]) -> Problem:
    """The problem that a prepared folder was drawn from."""
    config = PreferenceData.model_validate({"task": task}).task
    return _problem_class(config).from_tables(config, tables)


def _problem_class(task: Any) -> Any:
    # Here, as the tasks' files are read only where they are asked for.
    match task.kind:
        case "bigram":
            from models.rto.bigram import Bigram as Asked
        case "transduction":
            from models.rto.transduction import Transduction as Asked
        case "tree":
            from models.rto.tree import Tree as Asked
        case "length_trap":
            from models.rto.length_trap import LengthTrap as Asked
        case _:
            raise AssertionError(task.kind)
    return Asked


def _draw_pairs(problem: Problem, count: int, rng: np.random.Generator, *, held_out: bool) -> Pairs:
    """Two different responses to each prompt, labelled by Bradley-Terry on their true rewards (section 1.1).

    P(first preferred) = sigmoid(truth(first) - truth(second) + length_bias * (tokens(first) - tokens(second)))
    """
    prompts = problem.prompts(rng, count, held_out=held_out)
    first, second = _different_responses(problem, prompts, rng)
    truth_first_N, truth_second_N = (problem.score(prompts, each) for each in (first, second))
    longer_by_N = first.lengths - second.lengths
    logit_N = truth_first_N - truth_second_N + problem.length_bias * longer_by_N
    first_wins_N = rng.random(count) < 0.5 * (1.0 + np.tanh(0.5 * logit_N))  # sigmoid, without overflow
    both, rows_N = Ragged.joined([first, second]), np.arange(count)
    chosen = both.take(np.where(first_wins_N, rows_N, rows_N + count))
    rejected = both.take(np.where(first_wins_N, rows_N + count, rows_N))
    return Pairs(prompts, chosen, rejected)


def _different_responses(problem: Problem, prompts: Ragged, rng: np.random.Generator) -> tuple[Ragged, Ragged]:
    """Two responses to each prompt by the law; where they are equal, which says nothing, the second is drawn anew."""
    first, second = problem.responses(rng, prompts), problem.responses(rng, prompts)
    equal = _equal_rows(first, second)
    for _ in range(_MOST_REDRAWS):
        if not len(equal):
            return first, second
        rows = np.arange(len(prompts))
        rows[equal] = len(prompts) + np.arange(len(equal))
        second = Ragged.joined([second, problem.responses(rng, prompts.take(equal))]).take(rows)
        equal = equal[_equal_rows(first.take(equal), second.take(equal))]
    raise ConfigError(
        f"after {_MOST_REDRAWS} draws {len(equal)} of {len(prompts)} prompts have no two different responses\n"
        "make responses longer, or give the law more chance: corruption above 0, law_scale smaller"
    )


def _equal_rows(first: Ragged, second: Ragged) -> NDArray[np.intp]:
    return np.flatnonzero([np.array_equal(a, b) for a, b in zip(first, second, strict=True)])
