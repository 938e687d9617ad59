"""The tables of RELAY's report, but for those of its arms: the models, how often the teacher loops, its labels."""

from collections.abc import Mapping, Sequence
from typing import Any

from models.common.metrics import wilson_interval
from models.common.report import Table
from models.relay.labels_config import Filter
from models.relay.problems import Group
from models.relay.reports.findings import GIVEN, MODELS, SPANS, Found, LabelCounts, Span, share_text, task_text
from models.relay.reports.scores import KINDS, Kind, Score, mean_over

_RULES = {"last_round": "until a last round", "confidence": "surest answer"}
_TOLD_NOTHING = {
    "last_round": " Until a last round: told nothing, it stops at the first that shows itself to be the last.",
    "confidence": " Surest answer: told nothing, it takes the one it is surest of, of as many loops as the longest "
    "problems have.",
}
_HEADS: dict[Span, str] = {"train": "within", "label": "labelled", "untouched": "beyond"}

_FILTERS: dict[Filter, str] = {
    "last_round": "Last round: it says the answer too",
    "confidence": "Confidence: the writer was sure of every token",
    "votes": "Votes: most voters wrote this chain",
    "length": "Length: it has as many rounds as the problem's length asks for",
    "right_answer": "Right answer: it is the solver's",
}


def headline(found: Found) -> Table:
    """Each model within training, at the labelled lengths, and beyond them."""
    several = len(found.tasks) > 1
    first = next(iter(found.tasks))
    spans = list(SPANS) if any(found.groups(task, "untouched") for task in found.tasks) else ["train", "label"]
    columns = [name if several else found.span_text(first, span) for span, name in _HEADS.items() if span in spans]
    tests = max(len(found.problems.tests(group)) for group in found.problems.groups)
    return Table(
        title="Right within training, at the labelled lengths, and beyond them",
        columns=(
            "model",
            *(f"answers {column}" for column in columns),
            *(f"chains {column}" for column in columns),
        ),
        rows=tuple(
            (found.named(task, name), *_means(found, task, model, spans))
            for task in found.tasks
            for model, name in MODELS.items()
        ),
        caption="Chains: right from the first token to the end. Student after: fine-tuned on the teacher's chains. "
        "Control: as many steps more, on short problems only. "
        f"{' '.join(_lengths_told(found, task) for task in found.tasks)} {tests} test problems a length, fewer where "
        "few exist; students write greedily. Each length counts alike."
        + "".join(_chance_told(found, task) for task in found.tasks),
    )


def _means(found: Found, task: str, model: str, spans: Sequence[Any]) -> list[str]:
    """A model's mean answers, then its mean whole chains, in each span."""
    return [
        f"{found.mean(model, groups, kind):.1%}" if (groups := found.groups(task, span)) else ""
        for kind in ("answer_accuracy", "chain_exact_match")
        for span in spans
    ]


def _lengths_told(found: Found, task: str) -> str:
    if len(found.tasks) == 1:
        return f"Lengths are in {found.tasks[task].length_unit}."
    spans = "; ".join(f"{SPANS[span]} {found.span_text(task, span)}" for span in found.spans(task))
    return f"{task_text(task)}, in {found.tasks[task].length_unit}: {spans}."


def _chance_told(found: Found, task: str) -> str:
    chance = found.tasks[task].chance
    return f" {found.named(task, 'A guess at the answer is right')} {chance} times." if chance else ""


def loops_table(found: Found, task: str) -> Table:
    """The teacher by the rule that it stops by."""
    spans = found.spans(task)
    scores = _by_rule(found, task)
    left_out = any(len(by_group) < len(scores[GIVEN]) for by_group in scores.values())
    return Table(
        title=found.named(task, "How often the teacher loops"),
        columns=(
            "loops",
            *(f"answers {found.span_text(task, span)}" for span in spans),
            *(f"chains {found.span_text(task, span)}" for span in spans),
            f"mean at {found.span_text(task, 'label')}",
        ),
        rows=tuple(
            (
                _rule_text(rule),
                *(_mean_text(by_group, groups, kind) for kind in KINDS[:2] for groups in spans.values()),
                _loops_text(by_group, spans["label"]),
            )
            for rule, by_group in scores.items()
        ),
        caption="T: the rounds that a problem of its length has, which the teacher is told in training and elsewhere "
        "in this report; a loop more or fewer gives a chain a round more or fewer, so that only the answer can stay "
        f"right.{''.join(told for rule, told in _TOLD_NOTHING.items() if rule in scores)} Last column: the mean number "
        "of loops taken." + (" Lengths at which no loop would be left are left out of a row." if left_out else ""),
    )


def loops_metrics(found: Found, task: str) -> dict[str, Any]:
    """Accuracies and mean loops by rule and length."""
    return {
        rule: {
            **{
                kind: {str(group.length): round(score.share(kind), 6) for group, score in by_group.items()}
                for kind in KINDS
            },
            "mean_loops": {
                str(group.length): round(score.loops, 6) for group, score in by_group.items() if score.loops is not None
            },
        }
        for rule, by_group in _by_rule(found, task).items()
    }


def _by_rule(found: Found, task: str) -> dict[str, dict[Group, Score]]:
    """The teacher's scores by rule: T with loops fewer and more, in order, then the rules that need no T."""
    rules = {GIVEN: found.scores["teacher"], **found.loops}
    rules = {rule: rules[rule] for rule in sorted(rules, key=_place)}
    scores = {
        rule: {group: by_group[group] for group in found.all_groups(task) if group in by_group}
        for rule, by_group in rules.items()
    }
    return {rule: by_group for rule, by_group in scores.items() if by_group}


def _place(rule: str) -> tuple[bool, int]:
    """Where a rule stands among others."""
    return rule in _RULES, 0 if rule in _RULES else int(rule.removeprefix(GIVEN) or 0)


def _rule_text(rule: str) -> str:
    """Such as "T − 1", in one line."""
    text = _RULES.get(rule, rule.replace("+", " + ").replace("-", " − "))
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _mean_text(scores: Mapping[Group, Score], groups: Sequence[Group], kind: Kind) -> str:
    there = [group for group in groups if group in scores]
    return f"{mean_over(scores, there, kind):.1%}" if there else ""


def _loops_text(scores: Mapping[Group, Score], groups: Sequence[Group]) -> str:
    loops = [taken for group in groups if group in scores and (taken := scores[group].loops) is not None]
    return f"{sum(loops) / len(loops):.1f}" if loops else ""


def labels_tables(found: Found, task: str) -> list[Table]:
    """How right the labels are, before and after the filters, and what each filter alone would keep."""
    counts = {group: found.labels[group] for group in sorted(found.labels) if group.task == task}
    tables = [_labels_table(found, task, counts)]
    judged = {name for each in counts.values() for name in each.alone}
    names: list[Filter] = [name for name in _FILTERS if name in judged]
    if names:
        tables.append(_filters_table(found, task, list(counts.values()), names))
    return tables


def _labels_table(found: Found, task: str, counts: Mapping[Group, LabelCounts]) -> Table:
    filtered = any(each.kept < each.labels for each in counts.values())
    return Table(
        title=found.named(task, "The labels, by length"),
        columns=(
            found.tasks[task].length_unit,
            *("labels", "right answers", "right chains"),
            *(("kept", "right answers", "right chains") if filtered else ()),
        ),
        rows=tuple(
            (
                str(group.length),
                *_label_cells(each.labels, each.right_answers, each.right_chains),
                *(_label_cells(each.kept, each.kept_right_answers, each.kept_right_chains) if filtered else ()),
            )
            for group, each in counts.items()
        ),
        caption="Compared with the solver's, which neither teacher nor student has seen at these lengths. "
        + (
            "Kept: those that passed the filters, and behind it how right these are; the student saw no others. "
            if filtered
            else "No label is left out. "
        )
        + "Brackets: 95 % Wilson intervals.",
    )


def _label_cells(labels: int, answers: int, chains: int) -> tuple[str, str, str]:
    """The number of labels, and the shares of right ones with their intervals."""
    if not labels:
        return "0", "", ""
    shares = [share_text(right / labels, wilson_interval(right, labels)) for right in (answers, chains)]
    return f"{labels:,}", shares[0], shares[1]


def _filters_table(found: Found, task: str, counts: Sequence[LabelCounts], names: Sequence[Filter]) -> Table:
    """What each filter would keep of all lengths' labels."""
    total = sum(each.labels for each in counts)
    rows = [
        ("(no filter)", total, sum(each.right_answers for each in counts), sum(each.right_chains for each in counts))
    ]
    for name in names:
        kept, answers, chains = (
            sum(each.alone.get(name, {}).get(key, 0) for each in counts)
            for key in ("kept", "right_answers", "right_chains")
        )
        rows.append((name.replace("_", " "), kept, answers, chains))
    return Table(
        title=found.named(task, "What a filter of the labels would do"),
        columns=("kept by", "share", "labels", "right answers", "right chains"),
        rows=tuple(
            (name, f"{kept / total:.1%}", *_label_cells(kept, answers, chains)) for name, kept, answers, chains in rows
        ),
        caption=f"{'. '.join(_FILTERS[name] for name in names)}. Each filter as if it were the only one, over "
        f"{found.span_text(task, 'label')} {found.tasks[task].length_unit} together. Brackets: 95 % Wilson intervals.",
    )


def labels_metrics(found: Found, task: str) -> dict[str, Any]:
    """Label accuracy by length, before and after the filters, and by each of them alone."""
    counts = {group: found.labels[group] for group in sorted(found.labels) if group.task == task}
    return {str(group.length): _label_metrics(each) for group, each in counts.items()}


def _label_metrics(counts: LabelCounts) -> dict[str, Any]:
    before = _shares("labels", counts.labels, counts.right_answers, counts.right_chains)
    after = _shares("kept", counts.kept, counts.kept_right_answers, counts.kept_right_chains)
    return {
        **before,
        **{key if key == "kept" else f"kept_{key}": value for key, value in after.items()},
        "alone": {
            name: _shares("kept", each["kept"], each["right_answers"], each["right_chains"])
            for name, each in counts.alone.items()
        },
    }


def _shares(name: str, labels: int, answers: int, chains: int) -> dict[str, Any]:
    """How many labels, and the shares with a right answer and altogether right; None of no labels."""
    answer_share, chain_share = (round(right / labels, 6) if labels else None for right in (answers, chains))
    return {name: labels, "answers": answer_share, "chains": chain_share}
