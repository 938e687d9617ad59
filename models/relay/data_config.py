"""Which tasks, and how long their problems are: for training, for the teacher to label, and only for tests."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from models.common.config import Config
from models.common.contract import DataConfig
from models.relay.tasks.addition import BinaryAddition
from models.relay.tasks.arithmetic import Arithmetic
from models.relay.tasks.edit_distance import EditDistance
from models.relay.tasks.increasing import LongestIncreasing
from models.relay.tasks.parity import Parity
from models.relay.tasks.permutations import WordProblem
from models.relay.tasks.user import UserTask

Length = Annotated[int, Field(ge=1, le=1000)]
Lengths = Annotated[tuple[Length, ...], Field(min_length=1, max_length=1000)]

AnyTask = Annotated[
    Arithmetic | EditDistance | LongestIncreasing | BinaryAddition | Parity | WordProblem | UserTask,
    Field(discriminator="kind"),
]


class TaskLengths(Config):
    """A task, and which of its lengths are for what."""

    task: AnyTask = Arithmetic()
    train_lengths: Lengths = Field(default=(1, 2, 3, 4, 5), description="trained on, drawn in proportion to length")
    label_lengths: Lengths = Field(default=(6, 7, 8), description="beyond training: the teacher writes the chains")
    untouched_lengths: tuple[Length, ...] = Field(default=(9, 10), max_length=1000, description="only tested")

    @property
    def lengths(self) -> tuple[int, ...]:
        return (*self.train_lengths, *self.label_lengths, *self.untouched_lengths)

    @model_validator(mode="after")
    def _lengths_differ_and_grow(self) -> Self:
        if len(set(self.lengths)) < len(self.lengths):
            raise ValueError("a length belongs to one of train, label and untouched, once")
        if min(self.label_lengths) <= max(self.train_lengths):
            raise ValueError(f"label_lengths have to lie beyond the longest training length, {max(self.train_lengths)}")
        for length in self.lengths:
            self.task.check_length(length)
        return self


class ProblemsData(DataConfig):
    """Problems held out for tests; those for training are drawn when they are needed, and never from these."""

    tasks: Annotated[tuple[TaskLengths, ...], Field(min_length=1, max_length=16)] = (TaskLengths(),)
    tests_per_length: int = Field(default=256, ge=1, le=100_000, description="held out; fewer where few problems exist")

    @model_validator(mode="after")
    def _tasks_have_names_of_their_own(self) -> Self:
        names = [each.task.name for each in self.tasks]
        if len(set(names)) < len(names):
            raise ValueError(f"tasks {', '.join(names)}: each is named once, so that reports can tell them apart")
        return self

    def prepare(self, folder: Path) -> None:
        from models.relay.problems import Problems
        from models.relay.validation import require_sound

        for each in self.tasks:
            if isinstance(each.task, UserTask):
                require_sound(each.task, each.lengths)
        Problems.choose(self).write(folder)

    def sources(self) -> tuple[Path, ...]:
        return tuple(each.task.source for each in self.tasks if isinstance(each.task, UserTask))
