"""A report refuses what cannot be drawn, naming it, and reads back what it wrote."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from models.common.errors import GateFailed
from models.common.report import Curve, Figure, Gate, Level, Map, MapRow, Marks, Report
from tests.fixtures.reports import example, extrapolation, heads, stripes

GRID = ((1.0, 2.0), (3.0, 4.0))


def _figure(curve: Curve, **fields: Any) -> Figure:
    return Figure(title="t", x_label="x", y_label="y", curves=(curve,), **fields)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"y": (1,)}, "curve 'loss' has 2 x and 1 y"),
        ({"y": (1, 2), "low": (1,), "high": (1, 2)}, "curve 'loss' has 1 low and 2 high for 2 points"),
        ({"y": (1, 2), "low": (1, 2)}, "2 low and 0 high"),
        ({"y": (1, 2), "low": (1, 3), "high": (2, 2)}, "low 3 above high 2 at x = 1"),
    ],
)
def test_a_curve_of_unequal_lengths_is_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Curve(label="loss", x=(0, 1), **fields)


@pytest.mark.parametrize("log", ["log_x", "log_y"])
def test_a_logarithmic_axis_refuses_what_is_not_above_zero_and_names_the_curve(log: str) -> None:
    curve = Curve(label="loss", x=(1, 0, 2), y=(1, 0, 2))
    assert _figure(curve).curves == (curve,)
    with pytest.raises(ValidationError, match=f"curve 'loss': {log[-1]} = 0 at place 1.*{log}=False"):
        _figure(curve, **{log: True})


def test_levels_and_ranges_have_to_fit_a_logarithmic_axis_too() -> None:
    curve = Curve(label="a", x=(1, 2), y=(1, 2))
    with pytest.raises(ValidationError, match="levels: y = -3"):
        _figure(curve, log_y=True, levels=(Level(label="exact", value=-3),))
    with pytest.raises(ValidationError, match="x_range: x = 0"):
        _figure(curve, log_x=True, x_range=(0, 1))
    with pytest.raises(ValidationError, match="x_range is 2 to 1"):
        _figure(curve, x_range=(2, 1))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"values": ((1, 2), (3,))}, "values of map 'holes' have rows of 2, 1; give 2 rows of 2"),
        ({"values": ()}, "map 'holes' has no cells"),
        ({"row_labels": ("a",)}, "map 'holes' has 1 row_labels; give 2"),
        ({"column_labels": ("a", "b", "c")}, "3 column_labels; give 2"),
        ({"marks": Marks(label="spin", values=((1, 2),))}, "marks of map 'holes' have rows of 2; give 2 rows of 2"),
        ({"value_range": (1, 1)}, "value_range of map 'holes' is 1 to 1"),
        ({"value_range": (-1, 2), "scale": "diverging"}, "give -a to a"),
    ],
)
def test_a_map_whose_parts_do_not_fit_is_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Map(**{"title": "holes", "values": GRID, **fields})


def test_maps_that_share_a_scale_have_one_unit() -> None:
    maps = (Map(title="a", values=GRID, unit="t"), Map(title="b", values=GRID, unit="U"))
    with pytest.raises(ValidationError, match="maps 'a' and 'b' differ in unit"):
        MapRow(title="row", maps=maps)
    assert MapRow(title="row", maps=maps, common_scale=False).maps == maps
    with pytest.raises(ValidationError, match="at least 1"):
        MapRow(title="row", maps=())


def test_a_report_reads_back_every_kind_of_drawing(tmp_path: Path) -> None:
    missing = Map(title="no self-correlation", values=((None, 0.5),), scale="diverging")
    report = example().but(figures=(stripes(), extrapolation(), heads(), missing))
    report.write(tmp_path)
    assert Report.read(tmp_path) == report
    assert [type(drawing) for drawing in Report.read(tmp_path).figures] == [Map, Figure, MapRow, Map]


def test_a_fault_inside_a_drawing_is_told_with_its_place() -> None:
    values = example().model_dump(mode="json")
    values["figures"][0]["curves"][1]["y"].pop()
    with pytest.raises(ValidationError, match="has 13 x and 12 y") as told:
        Report.model_validate(values)
    assert told.value.errors()[0]["loc"] == ("figures", 0, "figure", "curves", 1)


def test_a_gate_keeps_a_lowest_or_a_highest_value():
    lowest, highest = Gate(name="gain", value=3.0, at_least=2.5), Gate(name="error", value=3.0, at_most=2.5, unit=" %")
    assert (lowest.passed, lowest.margin, lowest.bound) == (True, 0.5, "at least 2.5")
    assert (highest.passed, highest.margin, highest.bound) == (False, -0.5, "at most 2.5 %")
    report = Report(workload="w", title="t", summary="s", metrics={}, gates=(lowest, highest))
    with pytest.raises(GateFailed, match=r"1 of 2 gates failed\nerror: 3 %, 0\.5 above 2\.5"):
        report.require_gates()


@pytest.mark.parametrize("bounds", [{}, {"at_least": 1.0, "at_most": 2.0}])
def test_a_gate_has_one_bound(bounds: dict[str, Any]):
    with pytest.raises(ValidationError, match="has to have one bound"):
        Gate(name="gain", value=1.5, **bounds)
