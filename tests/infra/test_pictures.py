"""Figures as pictures: points stand where their values say, and a report as Markdown is one table and one picture."""

import base64
import re
import struct

import pytest

from infra.pictures import MOST_POINTS, as_markdown, draw_png, drawable, thinned
from infra.svg import draw_svg
from models.common.report import Curve, Figure, Gate, Report, Table
from tests.fixtures.reports import example, training

FIGURE = Figure(
    title="t", x_label="x", y_label="y", y_range=(0.0, 1.0), curves=(Curve(label="a", x=(0, 5, 10), y=(0, 0.5, 1)),)
)


def _line(svg: str) -> list[tuple[float, float]]:
    """The points of the first curve, in pixels."""
    found = re.search(r"class='line' d='M([^']+)'", svg)
    assert found
    return [(float(x), float(y)) for x, y in (point.split() for point in found[1].split("L"))]


def test_points_stand_in_proportion() -> None:
    (x0, y0), (x1, y1), (x2, y2) = _line(draw_svg(FIGURE))
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2)
    assert x0 < x1 < x2
    assert y0 > y1 > y2, "larger values stand higher"


def test_a_logarithmic_axis_gives_equal_factors_equal_room() -> None:
    curve = Curve(label="a", x=(0, 1, 2, 3), y=(1, 10, 100, 0))
    points = _line(draw_svg(FIGURE.but(log_y=True, y_range=None, curves=(curve,))))
    assert len(points) == 3, "zero has no place on it"
    assert points[0][1] - points[1][1] == pytest.approx(points[1][1] - points[2][1], abs=0.2)


def test_a_long_curve_is_thinned_to_means_over_the_same_span() -> None:
    curve = Curve(label="ramp", x=tuple(range(3000)), y=tuple(range(3000)))
    few = thinned(curve)
    assert len(few.x) == MOST_POINTS
    assert (few.x[0], few.x[-1]) == (0, 2999)
    assert few.y[5] == pytest.approx(sum(range(50, 60)) / 10)
    assert sum(few.y) / len(few.y) == pytest.approx(1499.5)
    short = training("t", 10, 0.1)
    assert thinned(short) == short


def test_an_interval_that_reaches_zero_is_cut_at_the_curve_on_a_logarithmic_axis() -> None:
    curve = Curve(label="a", x=(0, 1), y=(0.5, 0.2), low=(0.1, -0.1), high=(1, 1))
    assert drawable(FIGURE.but(log_y=True, curves=(curve,))).curves[0].low == (0.1, 0.2)


def test_a_png_has_the_size_that_the_run_page_has_room_for() -> None:
    picture = draw_png(example().figures[0].but(title="costs $5 and _more"))
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", picture[16:24]) == (800, 450)


def test_a_report_as_markdown_has_its_table_gates_and_first_picture() -> None:
    text = as_markdown(example())
    assert "| looped teacher | 99.8 % | 98.6 % | 97.3 % |" in text
    assert "| student's answers within training | **FAILED** | 93.27 % | 95 % |" in text
    [picture] = re.findall(r"!\[[^\]]*\]\(data:image/png;base64,([^)]+)\)", text)
    assert base64.b64decode(picture)[:4] == b"\x89PNG"


def test_no_cell_breaks_the_table_or_becomes_markup() -> None:
    table = Table(title="t", columns=("a", "b"), rows=(("x | y", "<b>\nbold"),))
    gate = Gate(name="[link](x)", value=1, at_least=0)
    text = as_markdown(Report(workload="w", title="t", summary="s", metrics={}, headline=table, gates=(gate,)))
    assert r"| x \| y | &lt;b&gt; bold |" in text
    assert r"\[link\](x)" in text
