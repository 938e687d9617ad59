"""What differs between two versions is found, with its size; what cannot be compared is said."""

from typing import Any

import pytest

from infra.artifacts import Version
from infra.report_site.comparison import Comparison, Row, compare
from infra.report_site.library import Facts
from models.common import workloads
from models.common.report import Curve, Figure, Gate, Report

FILES = {"report.html": 1}


def facts(version: str = "v0.1.0", preset: str = "laptop", workload: str = "plants", **told: Any) -> Facts:
    known = Version(
        name=workload, version=version, stages=(), commit="", published="", run_key="", preset=preset, seed=0,
        summary="", sha256="",
    )  # fmt: skip
    return Facts(known, **({"files": FILES, "lineage": {"workload": workload}} | told))


def report(*gates: Gate, figures: tuple[Figure, ...] = ()) -> Report:
    return Report(workload="plants", title="t", summary="s", metrics={}, gates=gates, figures=figures)


def rows(comparison: Comparison, part: str = "metrics", *, equal: bool = False) -> dict[str, Row]:
    return {
        f"{group.name}.{row.name}".strip("."): row
        for group in getattr(comparison, part)
        for row in (group.equal if equal else group.differing)
    }


def test_numbers_differ_by_second_minus_first() -> None:
    first = {"loss": 0.5, "steps": 10, "by": {"length": {"9": 1.0, "10": 0.0}}, "same": [1, 2]}
    second = {"loss": 0.25, "steps": 12, "by": {"length": {"9": 1.0, "10": 0.5}}, "same": [1, 2]}
    compared = compare(facts(metrics=first), facts(metrics=second))
    found = {name: row.difference for name, row in rows(compared).items()}
    assert found == {"loss": "−0.25 (−50 %)", "steps": "+2 (+20 %)", "by.length.10": "+0.5"}
    assert set(rows(compared, equal=True)) == {"by.length.9", "same"}


def test_close_numbers_are_shown_with_the_digits_that_tell_them_apart() -> None:
    row = rows(compare(facts(metrics={"e": -3.469321}), facts(metrics={"e": -3.469322})))["e"]
    assert row.first != row.second
    assert row.difference.startswith("−1e−06")


def test_what_only_one_has_is_named() -> None:
    compared = compare(facts(metrics={"a": {"x": 1}}), facts(metrics={"a": {"y": None}, "b": True}))
    assert {name: (row.first, row.second) for name, row in rows(compared).items()} == {
        "a.x": ("1", "–"),
        "a.y": ("–", "none"),
        "b": ("–", "yes"),
    }


def test_values_that_are_no_numbers_of_this_world_are_shown_as_text() -> None:
    odd = {"inf": float("inf"), "nan": float("nan"), "large": 10**400, "deep": {"a": {"b": {"c": [[], {}]}}}, "": ""}
    compared = rows(compare(facts(metrics=odd), facts(metrics=dict.fromkeys(odd, 1))))
    assert {name for name, row in compared.items() if row.difference} == set()
    assert compared["inf"].first == "inf"


def test_a_gate_tells_which_version_is_better_whichever_way_it_points() -> None:
    first = report(Gate(name="up", value=1, at_least=0), Gate(name="down", value=1, at_most=2, unit=" s"))
    second = report(Gate(name="up", value=2, at_least=0), Gate(name="down", value=2, at_most=2, unit=" s"))
    gates = {row.name: row for row in compare(facts(report=first), facts(report=second)).gates}
    assert (gates["up"].better, gates["up"].difference) == ("second", "+1 (+100 %)")
    assert (gates["down"].better, gates["down"].difference) == ("first", "+1 s (+100 %)")


def test_gates_that_only_one_has_or_that_measure_in_other_units_are_not_subtracted() -> None:
    first = report(Gate(name="a", value=1, at_least=0, unit=" s"), Gate(name="b", value=1, at_least=0))
    second = report(Gate(name="a", value=1, at_least=0, unit=" h"), Gate(name="c", value=1, at_least=0))
    gates = compare(facts(report=first), facts(report=second)).gates
    assert [(row.name, row.difference, row.better) for row in gates] == [("a", "", ""), ("b", "", ""), ("c", "", "")]


def test_curves_of_both_stand_on_one_scale() -> None:
    def figure(y: tuple[float, float]) -> Figure:
        return Figure(title="loss", x_label="step", y_label="nats", curves=(Curve(label="c", x=(0, 1), y=y),))

    both = (report(figures=(figure((0, 1)),)), report(figures=(figure((5, 10)),)))
    (pair,) = compare(facts(report=both[0]), facts(report=both[1])).figures
    assert isinstance(pair.first, Figure)
    assert isinstance(pair.second, Figure)
    assert pair.first.y_range == pair.second.y_range == pytest.approx((-0.05, 10.25))


def test_different_workloads_share_nothing_but_code_machine_and_cost() -> None:
    first = facts(metrics={"loss": 1}, lineage={"workload": "plants", "seconds": {"total": 1.0}, "run_key": "a"})
    second = facts(workload="stars", metrics={"loss": 2}, lineage={"workload": "stars", "seconds": {"total": 2.0}})
    compared = compare(first, second)
    assert (compared.metrics, compared.config, compared.gates, compared.figures) == ((), (), (), ())
    assert set(rows(compared, "lineage")) == {"workload", "seconds.total"}
    assert any("plants and stars are different workloads" in told for told in compared.cannot)


def test_other_presets_data_and_ways_of_measuring_are_told() -> None:
    first = facts(config={"data": {"modulus": 7}, "evaluation": {"items": 10}, "train": {"steps": 1}})
    second = facts(preset="tiny", config={"data": {"modulus": 9}, "evaluation": {"items": 20}, "train": {"steps": 2}})
    told = " ".join(compare(first, second).cannot)
    assert "The presets differ (laptop, tiny)" in told
    assert "data.modulus" in told
    assert "evaluation.items" in told
    assert "train.steps" not in told, "that is what is compared"
    assert compare(first, first).cannot == ()


def test_a_version_that_cannot_be_read_leaves_what_the_registry_says() -> None:
    compared = compare(facts(files={}, problem="it was altered"), facts("v0.2.0", metrics={"loss": 1}))
    assert compared.metrics == compared.lineage == ()
    assert "plants@v0.1.0: it was altered" in compared.cannot


def test_the_workload_itself_says_what_no_contest_would_compare() -> None:
    config = workloads.preset("nqs", "tiny").model_dump(mode="json")
    smaller = workloads.preset("nqs", "laptop").model_dump(mode="json")
    told = compare(facts(workload="nqs", config=config), facts(workload="nqs", config=smaller)).cannot
    assert any("as the champion is refused" in each for each in told)
    same = compare(facts(workload="nqs", config=config), facts(workload="nqs", config=config))
    assert same.cannot == ()
