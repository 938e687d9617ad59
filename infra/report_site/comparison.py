"""Two versions side by side: what differs, by how much, and what cannot be compared."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from infra.axes import digits, number_text, y_span
from infra.page_parts import shown
from infra.report_site.library import Facts
from models.common import workloads
from models.common.errors import ConfigError
from models.common.report import Drawing, Figure, Gate, Table

_MOST_ITEMS = 12  # of a list that is shown
_MOST_PERCENT = 1000  # beyond it the first value says little
_LARGEST = 1e300  # what is beyond, or no number at all, is shown and not subtracted
_OWN_NAMES = {"run_key", "flow_run", "ray_jobs", "report_sha256"}  # of lineage: each run has others
_NONE = "–"  # where one of both has no such value


@dataclass(frozen=True)
class Row:
    """One value of both versions; `difference` is second minus first, where both are numbers."""

    name: str
    first: str
    second: str
    difference: str
    equal: bool


@dataclass(frozen=True)
class Group:
    """Values that belong together, such as all of one stage: those that differ, and those that are equal."""

    name: str
    differing: tuple[Row, ...]
    equal: tuple[Row, ...]


@dataclass(frozen=True)
class GateRow:
    name: str
    first: Gate | None
    second: Gate | None
    difference: str
    better: str  # "first", "second", or "" where neither is


@dataclass(frozen=True)
class Pair:
    """A figure of both versions with one title; None where one has no such figure."""

    title: str
    first: Drawing | None
    second: Drawing | None


@dataclass(frozen=True)
class Comparison:
    """What a page or a terminal shows of two versions; all differences are second minus first."""

    first: Facts
    second: Facts
    cannot: tuple[str, ...]  # what cannot be compared, or only with care
    gates: tuple[GateRow, ...]
    headlines: tuple[Table | None, Table | None]
    metrics: tuple[Group, ...]
    config: tuple[Group, ...]
    lineage: tuple[Group, ...]
    figures: tuple[Pair, ...]


def compare(first: Facts, second: Facts) -> Comparison:
    """What differs between two versions. Of different workloads only what all workloads have is compared."""
    alike = first.workload == second.workload
    whole = bool(first.files and second.files)
    results = alike and whole
    return Comparison(
        first=first,
        second=second,
        cannot=tuple(_cannot(first, second, alike=alike, whole=whole)),
        gates=_gates(first, second) if results else (),
        headlines=(_headline(first), _headline(second)) if results else (None, None),
        metrics=_groups(first.metrics, second.metrics) if results else (),
        config=_groups(first.config, second.config) if results else (),
        lineage=_groups(*(_without_names(each.lineage) for each in (first, second))) if whole else (),
        figures=_figures(first, second) if results else (),
    )


def _without_names(lineage: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in lineage.items() if key not in _OWN_NAMES}


def _headline(facts: Facts) -> Table | None:
    return facts.report.headline if facts.report else None


def _cannot(first: Facts, second: Facts, *, alike: bool, whole: bool) -> list[str]:
    told = [each.trouble for each in (first, second) if each.trouble]
    if not whole:
        return [*told, "Nothing but what the registry says of both can be shown."]
    if not alike:
        return [
            *told,
            f"{first.workload} and {second.workload} are different workloads: their gates, metrics, configs and "
            "figures do not measure the same things. Compared is what all workloads have: code, machine and cost.",
        ]
    presets = (first.version.preset, second.version.preset)
    if presets[0] != presets[1]:
        told.append(f"The presets differ ({presets[0] or 'none'}, {presets[1] or 'none'}): so do sizes and tasks.")
    for part, consequence in (
        ("data", "the numbers are of different data"),
        ("evaluation", "the numbers may be measured in different ways"),
    ):
        rows = _rows(_flat(first.config.get(part)), _flat(second.config.get(part)))
        if names := [f"{part}.{row.name}" for row in rows if not row.equal]:
            more = f" and {len(names) - 4} more" if len(names) > 4 else ""
            told.append(f"The configs differ in {', '.join(names[:4])}{more}: {consequence}.")
    if refusal := _refusal(first, second):
        told.append(f"A contest of {second.spec} against {first.spec} as the champion is refused: {refusal}.")
    return told


def _refusal(first: Facts, second: Facts) -> str:
    """Why the workload itself would not score both on the same items; empty where it would, or is not known here."""
    name, preset = first.workload, first.version.preset
    if name not in workloads.names() or preset not in workloads.preset_names(name):
        return ""
    try:
        workloads.preset(name, preset).contest().check_versions(second.config, first.config)
    except ConfigError as refused:
        return str(refused).partition("\n")[0]
    return ""


def _gates(first: Facts, second: Facts) -> tuple[GateRow, ...]:
    ours, theirs = ({gate.name: gate for gate in each.report.gates} if each.report else {} for each in (first, second))
    return tuple(_gate(name, ours.get(name), theirs.get(name)) for name in {**ours, **theirs})


def _gate(name: str, first: Gate | None, second: Gate | None) -> GateRow:
    if first is None or second is None or first.unit != second.unit:
        return GateRow(name, first, second, "", "")
    upward = first.at_least is not None
    if first.value == second.value or upward != (second.at_least is not None):
        better = ""
    else:
        better = "second" if (second.value > first.value) == upward else "first"
    return GateRow(name, first, second, _signed(first.value, second.value, first.unit), better)


def _groups(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[Group, ...]:
    """The values by their first key, in the order of the keys; values that have no second key are one group."""
    groups, alone = [], []
    for key in sorted(first.keys() | second.keys()):
        both = first.get(key), second.get(key)
        if any(isinstance(value, dict) for value in both):
            groups.append(_group(key, _rows(*(_flat(value) for value in both))))
        else:
            alone += _rows(*({key: values[key]} if key in values else {} for values in (first, second)))
    return (*([_group("", alone)] if alone else []), *groups)


def _group(name: str, rows: list[Row]) -> Group:
    return Group(
        name,
        tuple(row for row in rows if not row.equal),
        tuple(row for row in rows if row.equal),
    )


def _flat(values: Any) -> dict[str, Any]:
    """Every single value by its dotted path; a list of single values is one value."""
    if isinstance(values, dict):
        items = values.items()
    elif isinstance(values, list) and any(isinstance(value, dict | list) for value in values):
        items = enumerate(values)
    else:
        return {}
    flat: dict[str, Any] = {}
    for key, value in items:
        inner = _flat(value)
        flat |= {f"{key}.{path}": leaf for path, leaf in inner.items()} if inner else {str(key): value}
    return flat


def _rows(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Row]:
    return [_row(name, first, second) for name in sorted(first.keys() | second.keys(), key=_by_number)]


def _by_number(path: str) -> list[tuple[float, str]]:
    """A key that sorts "accuracy.9" before "accuracy.10"."""
    return [(float(part), "") if part.isdigit() else (float("inf"), part) for part in path.split(".")]


def _row(name: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> Row:
    one, other = first.get(name), second.get(name)
    equal = name in first and name in second and one == other
    if _is_number(one) and _is_number(other):
        exact = digits((one, other), 6) if not equal else 6
        texts = [f"{value:.{exact}g}" if isinstance(value, float) else str(value) for value in (one, other)]
        return Row(name, texts[0], texts[1], "" if equal else _signed(one, other), equal)
    texts = [_text(values[name]) if name in values else _NONE for values in (first, second)]
    return Row(name, texts[0], texts[1], "", equal)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST


def _text(value: Any) -> str:
    if isinstance(value, list):
        items = [_text(item) for item in value[:_MOST_ITEMS]]
        more = f", … ({len(value)} values)" if len(value) > _MOST_ITEMS else ""
        return ", ".join(items) + more or "none"
    return "none" if value == {} else shown(value)


def _signed(first: float, second: float, unit: str = "") -> str:
    """Such as "+0.12 points (+3.1 %)"."""
    difference = second - first
    sign = "+" if difference > 0 else ""
    percent = 100 * difference / abs(first) if first else 0.0
    part = f" ({sign}{number_text(percent, 3)} %)" if 0 < abs(percent) < _MOST_PERCENT else ""
    return f"{sign}{number_text(difference, 4)}{unit}{part}"


def _figures(first: Facts, second: Facts) -> tuple[Pair, ...]:
    ours, theirs = (
        {figure.title: figure for figure in each.report.figures} if each.report else {} for each in (first, second)
    )
    return tuple(Pair(title, *_on_one_scale(ours.get(title), theirs.get(title))) for title in {**ours, **theirs})


def _on_one_scale(first: Drawing | None, second: Drawing | None) -> tuple[Drawing | None, Drawing | None]:
    """Both with one range of y, where they are curves over axes of the same kind: else the eye compares the scales."""
    if not (isinstance(first, Figure) and isinstance(second, Figure)):
        return first, second
    if (first.y_label, first.log_y) != (second.y_label, second.log_y):
        return first, second
    (low, high, log), (other_low, other_high, other_log) = y_span(first), y_span(second)
    if log != other_log:
        return first, second
    both = (min(low, other_low), max(high, other_high))
    return first.model_copy(update={"y_range": both}), second.model_copy(update={"y_range": both})
