"""Made-up findings, whose numbers can be counted by hand."""

from collections.abc import Mapping

import numpy as np

from models.common.report import Curve
from models.relay.comparison import ArmResult, Outcomes, Seed
from models.relay.problems import Group, Problems
from models.relay.reports.findings import MODELS, Found, LabelCounts
from models.relay.reports.scores import Score, key_to, score
from models.relay.task import FIRST_SYMBOL, Tokens

BEYOND = ("student_before", "control")  # models that fail beyond training


def written(problems: Problems, group: Group, faults: int, *, at_answer: bool = False) -> Tokens:
    """The right chains, the first `faults` of them with another first token, or another answer."""
    tests_PL, task = problems.tests(group), problems.tasks[group.task]
    key = key_to(task, tests_PL, group.length)
    chains_PW = key.solutions_PW.copy()
    ends_P = (chains_PW != 0).sum(axis=1) - 1
    for problem in range(faults):
        place = ends_P[problem] - 1 if at_answer else 0
        other = chains_PW[problem, place] + 1
        chains_PW[problem, place] = FIRST_SYMBOL if other > FIRST_SYMBOL + len(task.symbols) - 1 else other
    return chains_PW


def found(problems: Problems, faults: Mapping[tuple[str, str], int], seeds: tuple[Seed, ...] = ()) -> Found:
    """Findings in which each model has so many faults in each group of a span, by (model, span); else none."""
    texts: dict[tuple[str, Group], Tokens] = {}
    scores: dict[str, dict[Group, Score]] = {model: {} for model in MODELS}
    for model in MODELS:
        for span in ("train", "label", "untouched"):
            for group in getattr(problems, span):
                texts[model, group] = written(problems, group, faults.get((model, span), 0), at_answer=model in BEYOND)
                loops = np.full(len(problems.tests(group)), problems.loops(group)) if model == "teacher" else None
                scores[model][group] = score(
                    problems.tasks[group.task], problems.tests(group), group.length, texts[model, group], loops
                )
    nothing = {"kept": 10, "right_answers": 10, "right_chains": 9}
    labels = {group: LabelCounts(20, 19, 15, 10, 10, 9, {"confidence": nothing}) for group in problems.label}
    losses = {"teacher": Curve(label="teacher", x=(1.0, 2.0, 3.0), y=(2.0, 1.0, 0.5))}
    rules = {"T+1": {group: scores["control"][group] for group in problems.groups if group.length > 1}}
    return Found(problems, texts, scores, rules, labels, losses, seeds)


def seed(problems: Problems, number: int, right: Mapping[str, int], *, answers_only: tuple[str, ...] = ()) -> Seed:
    """Arms that get the first so many problems of each labelled group right, and all within training, none beyond."""

    def outcomes(arm: str, group: Group) -> Outcomes:
        tests = len(problems.tests(group))
        count = tests if group in problems.train else right[arm] if group in problems.label else 0
        digits = "1" * count + "0" * (tests - count)
        return Outcomes(digits, "" if arm in answers_only else digits, count, tests)

    return Seed(
        number,
        {arm: ArmResult({group: outcomes(arm, group) for group in problems.groups}, {"steps": 30.0}) for arm in right},
    )
