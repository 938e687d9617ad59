"""A decision on promotion as Markdown: what was decided, why, and every number that it stands on."""

from infra import links
from infra.retraining import Record
from models.common.contest import Contest, Estimate
from models.common.promotion import Action, bounds

_TITLES: dict[Action, str] = {
    "refuse": "nothing was started",
    "skip": "skipped",
    "run": "a candidate is trained",
    "keep": "the champion stays",
    "promote": "promoted",
}
_RULE = (
    "A candidate is promoted where the 95 % lower bound of its gain, gain - 1.645 standard errors (one-sided), is "
    "above zero and reaches the margin. A candidate that is no better than the margin passes in one case of twenty at "
    "most."
)


def as_page(told: Record) -> str:
    """The page of a decision."""
    decision = told.decision
    action = _TITLES[decision.action] if told.carried_out else "the registry did not take the promotion"
    facts = [
        ("champion before", _version(decision.champion)),
        ("candidate", _version(decision.candidate)),
        ("decided on", decision.case),
        ("preset, seed", f"{told.preset}, {told.seed}"),
        ("run", f"`{told.run_key}`"),
        ("time", told.time),
    ]
    changed = "".join(f"- {_cell(line)}\n" for line in decision.changed)
    parts = [
        f"# {told.workload}: {action}",
        "\n\n".join(decision.reason.splitlines()),
        _table(("", ""), facts),
        *([f"## Changed since {decision.champion}\n\n{changed}"] if changed and decision.champion else []),
        *([as_numbers(decision.contest)] if decision.contest else []),
    ]
    return "\n\n".join(parts) + "\n"


def as_numbers(contest: Contest) -> str:
    """A contest as a table, and the rule that it is judged by."""
    lower, upper = bounds(contest.gain)
    unit = contest.unit
    rows = [
        ("candidate", _number(contest.candidate, unit)),
        ("champion", _number(contest.champion, unit)),
        ("gain of the candidate", _number(contest.gain, unit)),
        ("95 % lower bound of the gain", f"{lower:.4g}{unit}"),
        ("95 % upper bound of the gain", f"{upper:.4g}{unit}"),
        ("margin", f"{contest.margin:g}{unit}"),
        ("held-out items", str(contest.items)),
    ]
    better = "higher" if contest.higher_is_better else "lower"
    title = f"{contest.metric} ({better} is better)"
    return f"## Contest on the same held-out items\n\n{_table((title, '± standard error'), rows)}\n\n{_RULE}"


def _version(spec: str) -> str:
    """The version, with a link to its report where one is served."""
    name, _, version = spec.partition("@")
    address = links.version_page(name, version) if spec else None
    return f"[{spec}]({address})" if address else spec or "none"


def _number(estimate: Estimate, unit: str) -> str:
    return f"{estimate.value:.6g} ± {estimate.error:.2g}{unit}"


def _table(head: tuple[str, str], rows: list[tuple[str, str]]) -> str:
    lines = [head, ("---", "---"), *rows]
    return "\n".join(f"| {_cell(one)} | {_cell(other)} |" for one, other in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
