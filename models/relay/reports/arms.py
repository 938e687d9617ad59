"""The arms of RELAY's report: what else was trained beside RELAY's student, how it fared, and how sure that is."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from models.common.report import Curve, Figure, Table
from models.relay.comparison import Difference, Metric, Seed, difference, discordance, mean_share, share
from models.relay.problems import Group
from models.relay.reports.findings import SPANS, Found, rounded

RELAY = "relay"
# What people read, in the order of the tables.
ARMS = {
    RELAY: "RELAY",
    "teacher": "looped teacher",
    "student_before": "student before",
    "control": "control",
    "equal_tokens": "control, equal tokens",
    "truth": "solver's labels",
    "filtered": "filtered labels",
    "iterated": "iterated RELAY",
    "self_answer": "own labels, answers",
    "self_vote": "own labels, votes",
    "alibi": "student with ALiBi",
    "nope": "student, no positions",
    "vanilla_loop": "loop without rounds",
}
_MEANINGS = {
    RELAY: "the student before, fine-tuned on the teacher's labels for longer problems and on short problems",
    "teacher": "the looped model that writes the labels, trained on short problems",
    "student_before": "trained on short problems; what all students below are trained on from, but for those of "
    "other positions",
    "control": "trained on for as many steps as RELAY, on short problems only",
    "equal_tokens": "trained on for as many tokens as RELAY, on short problems only",
    "truth": "fine-tuned on right labels for the same problems: what a perfect teacher would give",
    "filtered": "fine-tuned on those of the teacher's labels that it says twice and is sure of",
    "iterated": "the teacher labels some of the lengths, trains on its own labels, and labels the next",
    "self_answer": "the student labels the next lengths itself, of which those with right answers are kept",
    "self_vote": "the student labels the next lengths itself, kept by length and majority vote",
    "alibi": "another student, with linear biases for positions, trained as long, without labels",
    "nope": "another student, which is told no positions, trained as long, without labels",
    "vanilla_loop": "the looped model trained on answers alone, with no rounds to follow",
}
_CHAINS: Metric = "chain_exact_match"
_ANSWERS: Metric = "answer_accuracy"


def arms_of(found: Found) -> list[str]:
    """The arms that any seed has, in the order of the tables."""
    return [arm for arm in ARMS if any(arm in seed.arms for seed in found.seeds)]


def arms_tables(found: Found) -> list[Table]:
    """For each task the arms and how far they lie behind RELAY, and seed by seed; and what they are."""
    tables = []
    for task in found.tasks if found.seeds else ():
        tables.append(_arms_table(found, task))
        if len(found.seeds) > 1:
            tables.append(_seeds_table(found, task))
    return [*tables, _meanings_table(found)] if tables else []


def arms_figures(found: Found) -> list[Figure]:
    """Whole chains of each arm by length, where there is more to see than RELAY and its control at one seed."""
    if len(arms_of(found)) <= 2 and len(found.seeds) <= 1:
        return []
    return [_arms_figure(found, task) for task in found.tasks]


def _arms_figure(found: Found, task: str) -> Figure:
    groups = found.all_groups(task)
    trained = [float(group.length) for group in found.groups(task, "train")]
    curves = []
    for arm in arms_of(found):
        results = [seed.arms[arm] for seed in found.seeds if arm in seed.arms and seed.arms[arm].writes_chains(groups)]
        if results:
            curves.append(
                Curve(
                    label=ARMS[arm],
                    x=tuple(float(group.length) for group in groups),
                    y=tuple(fmean(share(result, group, _CHAINS) for result in results) for group in groups),
                )
            )
    return Figure(
        title=found.named(task, "Whole chains right, by arm and length"),
        x_label=f"length of the problem, in {found.tasks[task].length_unit}",
        y_label="share of chains without a fault",
        curves=tuple(curves),
        y_range=(0.0, 1.0),
        shaded=(min(trained), max(trained)),
        caption=f"{'At' if len(found.seeds) == 1 else 'Means over'} {_seeds_text(found.seeds)}. A table below "
        "says what each arm is.",
    )


def _arms_table(found: Found, task: str) -> Table:
    """Means over seeds, and the paired difference to RELAY at the labelled lengths."""
    spans = found.spans(task)
    labelled = found.groups(task, "label")
    return Table(
        title=found.named(task, f"Alternatives to RELAY, {_seeds_text(found.seeds)}"),
        columns=(
            "arm",
            f"answers {found.span_text(task, 'label')}",
            *(f"chains {found.span_text(task, span)}" for span in spans),
            f"RELAY less this at {found.span_text(task, 'label')}",
            "p",
        ),
        rows=tuple(
            (
                ARMS[arm],
                _mean_text(found.seeds, arm, labelled, _ANSWERS),
                *(_mean_text(found.seeds, arm, groups, _CHAINS) for groups in spans.values()),
                *_difference_cells(found.seeds, arm, labelled),
            )
            for arm in arms_of(found)
        ),
        caption=f"Lengths: {_spans_text(found, task)}, each counting alike. RELAY less this: whole chains in points, "
        f"or answers where an arm writes no chains, with a 95 % interval {_interval_told(found.seeds)} p is of this "
        f"one comparison; with many arms some are small by chance.{_stopped_told(found.seeds)}",
    )


def _seeds_table(found: Found, task: str) -> Table:
    """Seed by seed, in each span."""
    spans = found.spans(task)
    return Table(
        title=found.named(task, "Whole chains right, seed by seed"),
        columns=("arm", *(f"seed {seed.number}" for seed in found.seeds)),
        rows=tuple(
            (ARMS[arm], *(_seed_text(seed, arm, list(spans.values())) for seed in found.seeds))
            for arm in arms_of(found)
            if any(_share(seed, arm, found.groups(task, "label"), _CHAINS) is not None for seed in found.seeds)
        ),
        caption=f"Lengths: {_spans_text(found, task)}, in this order. Seed 0 is the run's own; all arms of a seed "
        "are tested on the same problems.",
    )


def _meanings_table(found: Found) -> Table:
    """What each arm is, in words."""
    return Table(
        title="What the arms are",
        columns=("arm", "how it came about"),
        rows=tuple((ARMS[arm], _MEANINGS[arm]) for arm in arms_of(found)),
    )


def _spans_text(found: Found, task: str) -> str:
    return ", ".join(f"{SPANS[span]} ({found.span_text(task, span)})" for span in found.spans(task))


def _seeds_text(seeds: Sequence[Seed]) -> str:
    return "one seed" if len(seeds) == 1 else f"{len(seeds)} seeds"


def _interval_told(seeds: Sequence[Seed]) -> str:
    if len(seeds) > 1:
        return "over seeds (Student's, of paired differences); p: the sign test over seeds."
    return "over test problems (paired), which says nothing about other seeds; p: McNemar's exact test."


def _stopped_told(seeds: Sequence[Seed]) -> str:
    stopped = [
        f" Seed {seed.number}, {ARMS.get(name, name)}, ended early: {arm.stopped}."
        for seed in seeds
        for name, arm in seed.arms.items()
        if arm.stopped
    ]
    return "".join(stopped)


def _share(seed: Seed, arm: str, groups: Sequence[Group], metric: Metric) -> float | None:
    """An arm's mean share at one seed; None where it was not trained there, or writes no chains."""
    result = seed.arms.get(arm)
    if result is None or (metric == _CHAINS and not result.writes_chains(groups)):
        return None
    return mean_share(result, groups, metric)


def _mean_text(seeds: Sequence[Seed], arm: str, groups: Sequence[Group], metric: Metric) -> str:
    shares = [value for seed in seeds if (value := _share(seed, arm, groups, metric)) is not None]
    return f"{fmean(shares):.1%}" if shares else ""


def _seed_text(seed: Seed, arm: str, spans: Sequence[Sequence[Group]]) -> str:
    """Such as "99.2%, 95.1%, 0.0%"; nothing where the arm was not trained at this seed."""
    shares = [_share(seed, arm, groups, _CHAINS) for groups in spans]
    return ", ".join(f"{value:.1%}" for value in shares if value is not None)


def _behind(seeds: Sequence[Seed], arm: str, groups: Sequence[Group]) -> tuple[Metric, Difference, float] | None:
    """How much more RELAY gets right than an arm: by which measure, the difference, and p."""
    for metric in (_CHAINS, _ANSWERS):
        if found := difference(seeds, RELAY, arm, groups, metric):
            return metric, found, _p_value(seeds, found, arm, groups, metric)
    return None


def _p_value(seeds: Sequence[Seed], found: Difference, arm: str, groups: Sequence[Group], metric: Metric) -> float:
    """Of the sign test over seeds; of McNemar's over the problems where only one seed has both arms."""
    if found.over == "seeds":
        return found.p_value_of_signs
    seed = next(seed for seed in seeds if seed.number in found.by_seed)
    differing = discordance(seed, RELAY, arm, groups, metric)
    assert differing, "a seed with a difference has both arms"
    return differing.p_value


def _difference_cells(seeds: Sequence[Seed], arm: str, groups: Sequence[Group]) -> tuple[str, str]:
    """Such as "+95.1 [+93.0, +97.2]" in points, and p; nothing for RELAY itself."""
    behind = _behind(seeds, arm, groups) if arm != RELAY else None
    if not behind:
        return "", ""
    _, found, p = behind
    text = f"{100 * found.mean:+z.1f} [{100 * found.low:+z.1f}, {100 * found.high:+z.1f}]"
    return text, "< 0.001" if p < 0.001 else f"{p:.3f}"


def arms_metrics(found: Found) -> dict[str, Any]:
    """By task and arm: shares by seed and span, how RELAY's differ, and what the arm says about itself."""
    if not found.seeds:
        return {}
    return {task: {arm: _arm_metrics(found, task, arm) for arm in arms_of(found)} for task in found.tasks}


def _arm_metrics(found: Found, task: str, arm: str) -> dict[str, Any]:
    labelled = found.groups(task, "label")
    behind = _behind(found.seeds, arm, labelled) if arm != RELAY else None
    of_arm = {
        "by_seed": {
            str(seed.number): {
                **{metric: _shares_by_span(found, task, seed, arm, metric) for metric in (_ANSWERS, _CHAINS)},
                **rounded(seed.arms[arm].counted),
            }
            for seed in found.seeds
            if arm in seed.arms
        }
    }
    if not behind:
        return of_arm
    metric, found_difference, p = behind
    return {
        **of_arm,
        "relay_minus_this": {
            "metric": metric,
            "mean": round(found_difference.mean, 6),
            "interval": [round(found_difference.low, 6), round(found_difference.high, 6)],
            "interval_over": found_difference.over,
            "p": p,
            "by_seed": {str(number): round(value, 6) for number, value in found_difference.by_seed.items()},
        },
    }


def _shares_by_span(found: Found, task: str, seed: Seed, arm: str, metric: Metric) -> dict[str, Any]:
    shares = {span: _share(seed, arm, groups, metric) for span, groups in found.spans(task).items()}
    return rounded({span: value for span, value in shares.items() if value is not None})
