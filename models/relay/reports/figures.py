"""The figures of RELAY's report."""

from collections.abc import Iterator

from models.common.report import Curve, Drawing, Figure, MapRow
from models.relay.problems import Group
from models.relay.reports.findings import MODELS, Found
from models.relay.reports.hit_matrix import hit_maps, hit_matrix
from models.relay.reports.scores import Kind, Score

_KINDS: dict[Kind, tuple[str, str, str]] = {
    "chain_exact_match": (
        "Whole chains right, by length",
        "share of chains without a fault",
        "A chain counts if all that was written is right: every round, the answer, and the end.",
    ),
    "answer_accuracy": (
        "Answers right, by length",
        "share of answers that are right",
        "An answer counts whatever the rounds before it say.",
    ),
    "token_accuracy": (
        "Tokens right, by length",
        "share of tokens at their place",
        "Of the right chains' tokens, those that stand at their place in what was written. A token that is left out "
        "moves all behind it to a wrong place.",
    ),
}


def all_figures(found: Found) -> Iterator[Drawing]:
    """Whole chains of each task first, of which the first is the run's picture."""
    for kind in _KINDS:
        for task in found.tasks:
            yield accuracy_figure(found, task, kind)
    for task in found.tasks:
        yield rounds_figure(found, task)
        yield hit_figure(found, task)
    if found.losses:
        yield losses_figure(found)


def accuracy_figure(found: Found, task: str, kind: Kind) -> Figure:
    """One measure of all models over the length of problems, with intervals."""
    title, y_label, meaning = _KINDS[kind]
    groups = found.all_groups(task)
    trained = [float(group.length) for group in found.groups(task, "train")]
    return Figure(
        title=found.named(task, title),
        x_label=f"length of the problem, in {found.tasks[task].length_unit}",
        y_label=y_label,
        curves=tuple(_by_length(found, model, groups, kind) for model in MODELS),
        y_range=(0.0, 1.0),
        shaded=(min(trained), max(trained)),
        caption=f"{meaning} {_lengths_told(found, task)} Bands: 95 % Wilson intervals{_by_problems(kind)}.",
    )


def _by_length(found: Found, model: str, groups: tuple[Group, ...], kind: Kind) -> Curve:
    scores = [found.scores[model][group] for group in groups]
    intervals = [score.interval(kind) for score in scores]
    return Curve(
        label=MODELS[model],
        x=tuple(float(group.length) for group in groups),
        y=tuple(score.share(kind) for score in scores),
        low=tuple(low for low, _ in intervals),
        high=tuple(high for _, high in intervals),
    )


def _lengths_told(found: Found, task: str) -> str:
    unit = found.tasks[task].length_unit
    told = (
        f"Shaded: what all models trained on. Of {found.span_text(task, 'label')} {unit} only the teacher wrote "
        "chains, and only the student after saw those."
    )
    if untouched := found.groups(task, "untouched"):
        told += f" Of {found.span_text(task, 'untouched')} no model saw {'one' if len(untouched) == 1 else 'any'}."
    return told


def _by_problems(kind: Kind) -> str:
    return (
        ", as if each problem were one trial: tokens of a chain go wrong together" if kind == "token_accuracy" else ""
    )


def rounds_figure(found: Found, task: str) -> Figure:
    """How many chains are still without a fault after each round, at the longest labelled problems."""
    group = found.groups(task, "label")[-1]
    return Figure(
        title=found.named(task, f"Where chains break, at {group.length} {found.tasks[task].length_unit}"),
        x_label="round",
        y_label="share of chains without a fault so far",
        curves=tuple(_so_far(found.scores[model][group], name) for model, name in MODELS.items()),
        y_range=(0.0, 1.0),
        caption=f"Of {found.scores['teacher'][group].problems} test problems, those whose chain is right up to and "
        f"with this round{_ends_with_answer(found, task)}. A curve that falls at once breaks in the first rounds; "
        "one that falls evenly errs as often in each.",
    )


def _ends_with_answer(found: Found, task: str) -> str:
    return "" if found.tasks[task].last_round_is_answer else "; the last point is the answer"


def _so_far(score: Score, label: str) -> Curve:
    """The share of chains without a fault up to each round."""
    lost, kept = 0, []
    for count in score.first_wrong:
        lost += count
        kept.append(1 - lost / score.problems)
    return Curve(label=label, x=tuple(float(place + 1) for place in range(len(kept))), y=tuple(kept))


def hit_figure(found: Found, task: str) -> MapRow:
    """Which tokens of which rounds each model gets right, at the longest labelled problems."""
    group, own = found.groups(task, "label")[-1], found.tasks[task]
    tests_PL = found.problems.tests(group)
    ends = "The last row is the answer" if own.last_round_is_answer else "The last row is the answer, behind all rounds"
    return hit_maps(
        found.named(task, f"Which tokens are right, at {group.length} {own.length_unit}"),
        own,
        {name: hit_matrix(own, tests_PL, group.length, found.written[model, group]) for model, name in MODELS.items()},
        caption="Each cell is a place in the chain: a row for each round, a column for each token in it. Its colour is "
        f"the share of {len(tests_PL)} test problems with the right token there (as in figures 5 and 6 of the paper). "
        f"{ends}, then the end of the chain; where no chain has a token, the cell is grey.",
    )


def losses_figure(found: Found) -> Figure:
    return Figure(
        title="Training",
        x_label="step",
        y_label="loss, nats",
        log_y=True,
        curves=tuple(found.losses.values()),
        caption="Teacher: rounds and answer together. Students: a token of the chain or the answer. Fine-tuning is on "
        "the teacher's chains and short problems, control on short problems alone. Batches differ in length.",
    )
