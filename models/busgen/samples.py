"""Test cases that the diagnosis by descriptors is shown on: what it knew, and what moved its score."""

# N test images

from __future__ import annotations

import math

from models.busgen.findings import Found
from models.busgen.images.cases import Case
from models.busgen.tailor.combination import Explanation
from models.common.report import Sample, SampleLine, TokenLine

_SHOWN = 4


def make_samples(found: Found) -> list[Sample]:
    """A card for each case: of either label one that is right and one that is wrong, as far as there are such."""
    places = shown_cases(found)
    parts = [part for place in places for _, part in _parts(found.explained.explanations[place])]
    most = max((abs(part) for part in parts), default=0.0)
    return [_sample(found, place, most or None) for place in places]


def shown_cases(found: Found) -> list[int]:
    """The places of the cases among the test images: the first of each kind, then the first others."""
    explanations, positive_N = found.explained.explanations, found.positive_N
    kinds = [(bool(positive_N[place]), one.logit > 0) for place, one in enumerate(explanations)]
    first = sorted({kind: place for place, kind in reversed(list(enumerate(kinds)))}.values())
    others = [place for place in range(len(kinds)) if place not in first]
    return sorted([*first, *others][:_SHOWN])


def _sample(found: Found, place: int, most: float | None) -> Sample:
    """most: what has the fullest colour in all cards."""
    case = found.images.cases[found.test_rows_N[place]]
    explanation = found.explained.explanations[place]
    task = found.config.generation.adaptation
    called = task.positive if explanation.logit > 0 else task.negative
    truth = task.positive if found.positive_N[place] else task.negative
    probability = 1.0 / (1.0 + math.exp(-explanation.logit))
    return Sample(
        title=f"Test case {case.name}",
        most=most,
        token_values="what moved the logit; above 0 towards " + task.positive,
        lines=(
            SampleLine(label="truth", text=f"{truth}{f', {case.device}' if case.device else ''}", note=_known(case)),
            _moved(explanation),
            SampleLine(
                label="diagnosis",
                text=f"{called}: logit {explanation.logit:+.2f}, probability of {task.positive} {probability:.0%}",
                mark="right" if called == truth else "wrong",
            ),
        ),
    )


def _known(case: Case) -> str:
    """The descriptors of the case, which the diagnosis did not see."""
    told = [f"{name} {value}".replace("_", " ") for name, value in case.descriptors.items()]
    return ", ".join(told) if told else "no descriptors are known"


def _moved(explanation: Explanation) -> TokenLine:
    parts = _parts(explanation)
    return TokenLine(
        label="score",
        tokens=tuple(f"{name.replace('_', ' ')} {value:+.2f} " for name, value in parts),
        values=tuple(value for _, value in parts),
        note="the sum of these is the logit",
    )


def _parts(explanation: Explanation) -> list[tuple[str, float]]:
    """The baseline and what each attribute adds to it, the strongest first; their sum is the logit."""
    moved = sorted(explanation.contributions.items(), key=lambda part: -abs(part[1]))
    return [("baseline", explanation.baseline), *moved]
