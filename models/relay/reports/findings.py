"""What an evaluation found, before it becomes figures and tables; and the words that all of them use."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from models.common.report import Curve
from models.relay.comparison import Seed
from models.relay.labels_config import Filter, ReadingConfig
from models.relay.problems import Group, Problems
from models.relay.reports.scores import Kind, Score, Scores, mean_over
from models.relay.task import Task, Tokens

# By the name of the input: what people read. The order is that of tables and figures.
MODELS = {
    "teacher": "looped teacher",
    "student_before": "student before",
    "control": "control",
    "student": "student after",
}
TRAINED = {  # curves of the stages, by the name of the input
    "teacher": "teacher",
    "student_before": "student",
    "student": "fine-tuning",
    "control": "control",
}
GIVEN = "T"  # the rule by which the teacher stops when its length is known

Span = Literal["train", "label", "untouched"]
SPANS: dict[Span, str] = {"train": "trained on", "label": "labelled", "untouched": "untouched"}


@dataclass(frozen=True)
class LabelCounts:
    """Labels of one group: how many were written, how many of these kept, and how many of each are right.

    alone: the same of each filter by its name ("kept", "right_answers", "right_chains"), as if it were the only one.
    """

    labels: int
    right_answers: int
    right_chains: int
    kept: int
    kept_right_answers: int
    kept_right_chains: int
    alone: Mapping[Filter, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """Everything that the report tells.

    written, scores: by the name of a model. loops: the teacher's scores by the rule that it stops by, `GIVEN` left out;
    a rule has no score where it would take no loop. seeds: the arms of each seed, or none. losses: of each stage.
    """

    problems: Problems
    written: Mapping[tuple[str, Group], Tokens]
    scores: Scores
    loops: Mapping[str, Mapping[Group, Score]] = field(default_factory=dict)
    labels: Mapping[Group, LabelCounts] = field(default_factory=dict)
    losses: Mapping[str, Curve] = field(default_factory=dict)
    seeds: Sequence[Seed] = ()

    @property
    def tasks(self) -> Mapping[str, Task]:
        return self.problems.tasks

    def groups(self, task: str, span: Span) -> tuple[Group, ...]:
        """This task's groups of a span, shortest first."""
        return tuple(sorted(group for group in getattr(self.problems, span) if group.task == task))

    def all_groups(self, task: str) -> tuple[Group, ...]:
        return tuple(sorted(group for group in self.problems.groups if group.task == task))

    def spans(self, task: str) -> dict[Span, tuple[Group, ...]]:
        """The groups of each span that has any."""
        return {span: groups for span in SPANS if (groups := self.groups(task, span))}

    def mean(self, model: str, groups: Sequence[Group], kind: Kind) -> float:
        return mean_over(self.scores[model], groups, kind)

    def named(self, task: str, text: str) -> str:
        """The text, with the task before it where there are several."""
        return f"{task_text(task)}: {text[0].lower()}{text[1:]}" if len(self.tasks) > 1 else text

    def span_text(self, task: str, span: Span) -> str:
        """The lengths of a span, such as "6–8"."""
        return lengths_text([group.length for group in self.groups(task, span)])


def task_text(task: str) -> str:
    """A task's name for people, such as "Edit distance"."""
    return task.replace("_", " ").capitalize()


def rule_name(reading: ReadingConfig) -> str:
    """The rule that a teacher stops by: "T", "T-1", "T+2", "last_round", "confidence"."""
    if reading.halting != "given":
        return reading.halting
    return f"{GIVEN}{reading.more_loops:+d}" if reading.more_loops else GIVEN


def lengths_text(lengths: Sequence[int]) -> str:
    """Such as 6–8, or 3, 5 where lengths are left out between."""
    in_order = sorted(lengths)
    if len(in_order) == 1:
        return str(in_order[0])
    if in_order == list(range(in_order[0], in_order[-1] + 1)):
        return f"{in_order[0]}–{in_order[-1]}"
    if len(in_order) <= 4:
        return ", ".join(str(length) for length in in_order)
    return f"{in_order[0]}–{in_order[-1]} ({len(in_order)} lengths)"


def share_text(share: float, interval: tuple[float, float]) -> str:
    """A share with its interval, such as "87.5% [80.1, 92.4]"."""
    return f"{share:.1%} [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers for the metrics, in as many digits as mean something; None and words as they are."""
    return {key: round(value, 6) if isinstance(value, float) else value for key, value in values.items()}
