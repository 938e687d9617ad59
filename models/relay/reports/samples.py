"""Chains of the report, step by step beside what is right: one problem under three models, and many to choose from."""

# P problems   W tokens written   S steps

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from models.common.report import Sample, SampleBrowser, SampleLine, SampleOfKind
from models.relay.problems import Group
from models.relay.reports.findings import MODELS, SPANS, Found, Span
from models.relay.task import Task, exact_matches

_SHOWN_MODELS = ("teacher", "control", "student")
_OF_A_KIND = 3  # chains of one length, one model, and all right or all wrong
_MOST = 240  # in all; where there are many lengths, fewer of a kind
_MOST_LENGTHS: dict[Span, int] = {"train": 1, "label": 4, "untouched": 3}


def contrasts(found: Found) -> tuple[Sample, ...]:
    """Of each task one of the longest labelled problems, as the control, the student and the teacher work it off.

    One that the student solves and the control does not, where there is such a problem.
    """
    samples = []
    for task in found.tasks:
        group = found.groups(task, "label")[-1]
        right = {model: _right(found, model, group) for model in _SHOWN_MODELS}
        telling_P = right["student"] & ~right["control"]
        place = int((telling_P if telling_P.any() else ~right["control"]).argmax())
        for model in ("control", "student", "teacher"):
            title = found.named(task, f"{_length_text(found, group)}, {MODELS[model]}")
            samples.append(sample(found, model, group, place, title))
    return tuple(samples)


def browser(found: Found) -> SampleBrowser:
    """Right and wrong chains of each model by length, to choose from."""
    kinds: list[tuple[Group, Span, str, bool]] = [
        (group, span, model, right)
        for group, span in _shown_groups(found)
        for model in _SHOWN_MODELS
        for right in (True, False)
    ]
    most = max(1, min(_OF_A_KIND, _MOST // len(kinds)))
    samples = []
    for group, span, model, right in kinds:
        places = np.flatnonzero(_right(found, model, group) == right)[:most]
        values = (
            found.named(group.task, f"{_length_text(found, group)} ({SPANS[span]})"),
            MODELS[model],
            "right" if right else "wrong",
        )
        for place in places.tolist():
            title = f"{_length_text(found, group)}, problem {place + 1}, {MODELS[model]}"
            samples.append(SampleOfKind(values=values, sample=sample(found, model, group, place, title)))
    return SampleBrowser(
        title="Chains to look through",
        facets=("problem", "written by", "whole chain"),
        samples=tuple(samples),
        caption=f"The first {most} test problems of each kind, where there are so many. Each step is held "
        "against the step of the same number in the solver's chain; after a wrong one, later ones are seldom right.",
    )


def _shown_groups(found: Found) -> Iterator[tuple[Group, Span]]:
    """The longest problems trained on and, evenly spread where there are many, those labelled and untouched."""
    for task in found.tasks:
        for span, groups in found.spans(task).items():
            shown = min(_MOST_LENGTHS[span], len(groups))
            first = len(groups) - 1 if span == "train" else 0
            places = np.linspace(first, len(groups) - 1, shown).round().astype(int)
            for place in places.tolist():
                yield groups[place], span


def _right(found: Found, model: str, group: Group) -> NDArray[np.bool_]:
    """Which of the test problems this model solved whole (P)."""
    solutions_PW = found.problems.solutions(group, found.problems.tests(group))
    return exact_matches(found.written[model, group], solutions_PW)


def _length_text(found: Found, group: Group) -> str:
    return f"{group.length} {found.tasks[group.task].length_unit}"


def sample(found: Found, model: str, group: Group, place: int, title: str) -> Sample:
    """What a model wrote after one test problem, and in the title how it went."""
    task, problem_1L = found.tasks[group.task], found.problems.tests(group)[place : place + 1]
    right_steps = task.steps(found.problems.solutions(group, problem_1L)[0])
    lines = compare_steps(task, task.steps(found.written[model, group][place]), right_steps)
    wrong = [number for number, line in enumerate(lines, start=1) if line.mark == "wrong"]
    if wrong:
        verdict = f"first fault in step {wrong[0]}, {len(wrong)} of {len(lines)} steps wrong"
    else:
        verdict = "right" if _right(found, model, group)[place] else "wrong, as it does not end"
    problem = SampleLine(label="problem", text=task.text(problem_1L[0]))
    return Sample(title=f"{title}: {verdict}", lines=(problem, *lines))


def compare_steps(
    task: Task, own_steps: Sequence[Sequence[int]], right_steps: Sequence[Sequence[int]]
) -> list[SampleLine]:
    """Each step that was written, or should have been, marked against the right chain's step of the same number."""
    lines = []
    for place in range(max(len(own_steps), len(right_steps))):
        own = list(own_steps[place]) if place < len(own_steps) else []
        should = list(right_steps[place]) if place < len(right_steps) else []
        expected = f"should be: {task.text(should)}" if should else "should have ended"
        lines.append(
            SampleLine(
                label="answer" if place == len(right_steps) - 1 else f"step {place + 1}",
                text=task.text(own) if own else "(nothing)",
                mark="right" if own == should else "wrong",
                note="" if own == should else expected,
            )
        )
    return lines
