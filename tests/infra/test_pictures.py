"""Figures as pictures: points stand where their values say, and a report as Markdown is one table and one picture."""

import base64
import re
import struct

import pytest

from infra.pictures import MOST_PICTURES, MOST_POINTS, as_markdown, draw_panels, draw_png, drawable, thinned
from infra.svg import draw_svg
from models.common.report import Curve, Drawing, Figure, Gate, Report, Table
from tests.fixtures.reports import example, extrapolation, heads, stripes, training

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
    curve = Curve(label="a", x=(1, 10, 100), y=(1, 10, 100))
    points = _line(draw_svg(FIGURE.but(log_x=True, log_y=True, y_range=None, curves=(curve,))))
    assert points[0][1] - points[1][1] == pytest.approx(points[1][1] - points[2][1], abs=0.2)
    assert points[1][0] - points[0][0] == pytest.approx(points[2][0] - points[1][0], abs=0.2)
    only_y = _line(draw_svg(FIGURE.but(log_y=True, y_range=None, curves=(curve,))))
    assert only_y[2][0] - only_y[1][0] == pytest.approx(10 * (only_y[1][0] - only_y[0][0]), abs=1)


def test_a_long_curve_is_thinned_to_means_over_the_same_span() -> None:
    curve = Curve(label="ramp", x=tuple(range(3000)), y=tuple(range(3000)))
    few = thinned(curve)
    assert len(few.x) == MOST_POINTS
    assert (few.x[0], few.x[-1]) == (0, 2999)
    width = 3000 // MOST_POINTS
    assert few.y[5] == pytest.approx(sum(range(5 * width, 6 * width)) / width)
    assert sum(few.y) / len(few.y) == pytest.approx(1499.5)
    short = training("t", 10, 0.1)
    assert thinned(short) == short


def test_a_logarithmic_axis_thins_by_factors_so_that_its_beginning_stays() -> None:
    curve = Curve(label="power", x=tuple(range(1, 20001)), y=tuple(1 / x for x in range(1, 20001)))
    few = thinned(curve, log_x=True)
    assert few.x[:5] == (1, 2, 3, 4, 5)
    assert few.y[:5] == pytest.approx((1, 1 / 2, 1 / 3, 1 / 4, 1 / 5))
    assert max(y * x for x, y in zip(few.x, few.y, strict=True)) == pytest.approx(1, abs=0.1), "still the power law"
    assert 40 < len(few.x) <= MOST_POINTS


def test_points_that_stand_apart_are_picked_and_not_averaged() -> None:
    y = tuple((-1.0) ** place for place in range(1000))
    few = thinned(Curve(label="scatter", x=tuple(range(1000)), y=y, style="points"))
    assert len(few.x) == MOST_POINTS
    assert set(few.y) == {-1.0, 1.0}
    assert all(y[int(x)] == value for x, value in zip(few.x, few.y, strict=True))


def test_a_curve_is_cut_to_the_range_of_x_before_it_is_thinned() -> None:
    curve = Curve(label="long", x=tuple(range(5000)), y=tuple(range(5000)))
    cut = drawable(FIGURE.but(x_range=(1000.0, 1010.0), curves=(curve,))).curves[0]
    assert cut.x == tuple(range(999, 1012)), "with a neighbour on each side, for the line to run on to"
    apart = drawable(FIGURE.but(x_range=(1000.0, 1010.0), curves=(curve.but(style="points"),))).curves[0]
    assert apart.x == tuple(range(1000, 1011))


def test_an_interval_that_reaches_zero_is_cut_at_the_curve_on_a_logarithmic_axis() -> None:
    curve = Curve(label="a", x=(0, 1), y=(0.5, 0.2), low=(0.1, -0.1), high=(1, 1))
    assert drawable(FIGURE.but(log_y=True, curves=(curve,))).curves[0].low == (0.1, 0.2)


def test_a_png_has_the_size_that_the_run_page_has_room_for() -> None:
    picture = draw_png(example().figures[0].but(title="costs $5 and _more"))
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", picture[16:24]) == (800, 450)


def test_a_report_as_markdown_has_its_table_gates_and_first_pictures() -> None:
    text = as_markdown(example())
    assert "| looped teacher | 99.8 % | 98.6 % | 97.3 % |" in text
    assert "| student's answers within training | **FAILED** | 93.27 % | at least 95 % |" in text
    pictures = re.findall(r"!\[([^\]]*)\]\(data:image/png;base64,([^)]+)\)", text)
    assert [title for title, _ in pictures] == [figure.title for figure in example().figures[:MOST_PICTURES]]
    assert {base64.b64decode(picture)[:4] for _, picture in pictures} == {b"\x89PNG"}


@pytest.mark.parametrize(("count", "size"), [(1, (800, 450)), (2, (800, 320)), (3, (800, 640))])
def test_panels_stand_two_in_a_row(count: int, size: tuple[int, int]) -> None:
    assert struct.unpack(">II", draw_panels([FIGURE] * count)[16:24]) == size


@pytest.mark.parametrize("drawing", [stripes(), heads(), heads().but(common_scale=False), extrapolation()])
def test_every_kind_of_drawing_may_be_the_first_picture(drawing: Drawing) -> None:
    report = Report(workload="w", title="t", summary="s", metrics={}, figures=(drawing,))
    [(title, picture)] = re.findall(r"!\[([^\]]*)\]\(data:image/png;base64,([^)]+)\)", as_markdown(report))
    assert title == drawing.title
    assert struct.unpack(">II", base64.b64decode(picture)[16:24]) == (800, 450)


def test_no_cell_breaks_the_table_or_becomes_markup() -> None:
    table = Table(title="t", columns=("a", "b"), rows=(("x | y", "<b>\nbold"),))
    gate = Gate(name="[link](x)", value=1, at_least=0)
    text = as_markdown(Report(workload="w", title="t", summary="s", metrics={}, headline=table, gates=(gate,)))
    assert r"| x \| y | &lt;b&gt; bold |" in text
    assert r"\[link\](x)" in text
