"""RELAY's report: what was found in a sentence, in numbers, and in figures, tables and chains."""

from collections.abc import Mapping
from typing import Any, TypeVar

from models.common.report import Gate, Report
from models.relay.config import EvaluationConfig
from models.relay.problems import Group
from models.relay.reports.arms import arms_figures, arms_metrics, arms_tables
from models.relay.reports.figures import all_figures
from models.relay.reports.findings import MODELS, Found, rounded, task_text
from models.relay.reports.samples import browser, contrasts
from models.relay.reports.scores import KINDS, Score
from models.relay.reports.tables import headline, labels_metrics, labels_tables, loops_metrics, loops_table

Of = TypeVar("Of")


def make_report(config: EvaluationConfig, found: Found) -> Report:
    """The whole report. Every mean over lengths counts each length alike."""
    return Report(
        workload="relay",
        title="RELAY: a student that learned longer problems from a looped teacher",
        summary=" ".join(_told(found, task) for task in found.tasks),
        metrics=metrics(found),
        gates=tuple(gate for task in found.tasks for gate in gates(config, found, task)),
        headline=headline(found),
        figures=(*all_figures(found), *arms_figures(found)),
        tables=(
            *arms_tables(found),
            *(loops_table(found, task) for task in found.tasks),
            *(table for task in found.tasks for table in labels_tables(found, task)),
        ),
        samples=contrasts(found),
        browser=browser(found),
    )


def _told(found: Found, task: str) -> str:
    """What was found for one task, in two sentences; in one where there are several tasks."""
    labelled = found.groups(task, "label")
    unit, longer = found.tasks[task].length_unit, found.span_text(task, "label")
    trained = found.groups(task, "train")
    student = found.mean("student", labelled, "chain_exact_match")
    control = found.mean("control", labelled, "chain_exact_match")
    teacher = found.mean("teacher", labelled, "answer_accuracy")
    if len(found.tasks) > 1:
        return (
            f"{task_text(task)}, {longer} {unit}: the student writes {student:.1%} of chains without a fault, the "
            f"control {control:.1%}; the teacher answers {teacher:.1%} rightly."
        )
    return (
        f"Trained on {found.span_text(task, 'train')} {unit} and on the teacher's chains for {longer}, the student "
        f"writes {student:.1%} of the chains for {longer} without a fault; the control, trained as long on "
        f"{found.span_text(task, 'train')} alone, {control:.1%}. The teacher, which never saw more than "
        f"{trained[-1].length}, answers {teacher:.1%} of them rightly."
    )


def gates(config: EvaluationConfig, found: Found, task: str) -> tuple[Gate, ...]:
    """What a task has to reach before anything is published; each mean is over the task's lengths."""
    labelled = found.groups(task, "label")
    student = found.mean("student", labelled, "chain_exact_match")
    control = found.mean("control", labelled, "chain_exact_match")
    return (
        Gate(
            name=found.named(task, "student - control, whole chains beyond training"),
            value=student - control,
            at_least=config.least_gain,
        ),
        Gate(
            name=found.named(task, "teacher answers beyond training"),
            value=found.mean("teacher", labelled, "answer_accuracy"),
            at_least=config.least_teacher,
        ),
        Gate(
            name=found.named(task, "student before, answers in training lengths"),
            value=found.mean("student_before", found.groups(task, "train"), "answer_accuracy"),
            at_least=config.least_student_before,
        ),
    )


def metrics(found: Found) -> dict[str, Any]:
    """Every number, by task, model, measure and length."""
    return {
        "tasks": {
            task: {
                **{model: _by_length(_of_task(found.scores[model], task)) for model in MODELS},
                "train_lengths": [group.length for group in found.groups(task, "train")],
                "beyond_lengths": [group.length for group in found.groups(task, "label")],
                "untouched_lengths": [group.length for group in found.groups(task, "untouched")],
                "test_problems": {
                    str(group.length): len(found.problems.tests(group)) for group in found.all_groups(task)
                },
            }
            for task in found.tasks
        },
        "arms": arms_metrics(found),
        "loops": {task: loops_metrics(found, task) for task in found.tasks},
        "labels": {task: labels_metrics(found, task) for task in found.tasks},
    }


def _of_task(by_group: Mapping[Group, Of], task: str) -> dict[Group, Of]:
    """What belongs to one task, shortest problems first."""
    return {group: by_group[group] for group in sorted(by_group) if group.task == task}


def _by_length(scores: Mapping[Group, Score]) -> dict[str, dict[str, Any]]:
    """Measures by length, their intervals beside them, and in which round chains have their first fault."""
    shares = {kind: {str(group.length): score.share(kind) for group, score in scores.items()} for kind in KINDS}
    return {
        **{kind: rounded(by_length) for kind, by_length in shares.items()},
        **{
            f"{kind}_interval": {
                str(group.length): [round(end, 6) for end in score.interval(kind)] for group, score in scores.items()
            }
            for kind in KINDS
        },
        "first_wrong_round": {str(group.length): list(score.first_wrong) for group, score in scores.items()},
    }
