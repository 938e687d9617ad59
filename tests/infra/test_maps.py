"""Maps as SVG: every cell, mark and number stands in its place, in the colour that the scale gives its value."""

import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest

from infra.maps import across
from infra.ramps import LEVELS, colours, contrast, dark_rules, ink, scale_of
from infra.svg_maps import draw_maps_svg
from models.common.report import Map, MapRow, Marks
from tests.fixtures.reports import heads, stripes

SMALL = Map(title="small", values=((0.0, 0.5, 1.0), (1.0, None, 0.25)), unit="holes")
KINDS = ("sequential", "diverging")


def _of_class(svg: str, name: str) -> list[ET.Element]:
    root = ET.fromstring(svg)  # noqa: S314 our own drawing
    return [element for element in root.iter() if (element.get("class") or "").startswith(name)]


def _cells(svg: str) -> list[tuple[float, float, float, str]]:
    """Left, top and width of each outline of cells, and its colour, from the top left on."""
    found = []
    for group in _of_class(svg, "ramp-"):
        for path in (path for path in group if path.get("class") == "cells"):
            for left, top, right in re.findall(r"M([\d.]+) ([\d.]+)H([\d.]+)", path.get("d", "")):
                found.append((float(left), float(top), float(right) - float(left), group.get("fill", "")))
    return sorted(found, key=lambda cell: (cell[1], cell[0]))


@pytest.mark.parametrize("width", [760, 360])
def test_cells_stand_in_rows_and_columns_in_the_colours_of_their_values(width: int) -> None:
    cells = _cells(draw_maps_svg(SMALL, width=width))
    palette = colours("sequential")
    assert [colour for *_, colour in cells] == [palette[at] for at in (0, 20, 40, 40, 10)]
    lefts, tops = sorted({left for left, *_ in cells}), sorted({top for _, top, *_ in cells})
    assert (len(lefts), len(tops)) == (3, 2)
    assert lefts[1] - lefts[0] == pytest.approx(tops[1] - tops[0], abs=0.2), "cells are square"
    assert [(lefts.index(left), tops.index(top)) for left, top, *_ in cells] == [(0, 0), (1, 0), (2, 0), (0, 1), (2, 1)]
    assert max(left + wide for left, _, wide, _ in cells) <= width


def test_a_diverging_scale_has_zero_in_its_middle() -> None:
    one = SMALL.but(scale="diverging", values=((-0.1, 0.0, 0.4),))
    scale = scale_of(one)
    assert (scale.low, scale.high) == (-0.4, 0.4)
    assert [scale.level(value) for value in (-0.4, 0.0, 0.4)] == [0, LEVELS // 2, LEVELS - 1]
    assert scale.level(-0.1) == pytest.approx((LEVELS - 1) * 0.375, abs=0.5)


def test_values_beyond_the_range_take_the_colour_of_its_end_and_the_scale_says_so() -> None:
    one = SMALL.but(values=((0.0, 2.0),), value_range=(0.0, 1.0))
    svg = draw_maps_svg(one)
    assert [colour for *_, colour in _cells(svg)] == [colours("sequential")[0], colours("sequential")[-1]]
    assert "holes (≥ 1 alike)" in [text.text for text in _of_class(svg, "scale")[0].iter("text")]


def test_maps_of_a_row_share_their_scale_or_have_one_each() -> None:
    row = MapRow(title="two", maps=(SMALL, SMALL.but(values=((0.0, 2.0),))))
    common = draw_maps_svg(row)
    assert len(_of_class(common, "scale")) == 1
    assert sorted(colour for *_, colour in _cells(common)).count(colours("sequential")[20]) == 2, (
        "1 is half of 2 in both"
    )
    apart = draw_maps_svg(row.but(common_scale=False))
    assert len(_of_class(apart, "scale")) == 2
    assert sorted(colour for *_, colour in _cells(apart)).count(colours("sequential")[-1]) == 3


def test_heads_of_a_layer_stand_in_one_row_where_there_is_room() -> None:
    def tops(width: int) -> list[float]:
        return sorted({round(top) for _, top, *_ in _cells(draw_maps_svg(heads(), width=width))})

    assert len(tops(760)) == 2 * 6, "two layers of six rows"
    assert len(tops(360)) == 4 * 6, "two heads beside each other"
    assert [across(heads(), fits) for fits in (8, 4, 3, 2, 1)] == [4, 4, 2, 2, 1]
    assert [across(heads().but(columns=None), fits) for fits in (8, 5, 3)] == [8, 4, 3]


def test_arrows_point_up_for_positive_values_in_proportion_to_them() -> None:
    values = ((0.3, -0.3), (0.15, 0.0))
    one = SMALL.but(values=((0, 0), (0, 1)), marks=Marks(label="spin", values=values))
    arrows = [path.get("d", "") for path in _of_class(draw_maps_svg(one), "mark")]
    tips = [(float(y), float(head)) for y, head in re.findall(r"M[\d.]+ ([\d.]+)l[\d.]+ (-?[\d.]+)h", "".join(arrows))]
    assert len(tips) == 3, "zero has none"
    (up, up_head), (down, down_head), (half, half_head) = tips
    assert up_head > 0 > down_head, "the head runs down from the tip of an arrow that points up"
    assert half_head > 0
    assert up < down
    middle = (up + down) / 2
    cell = sorted({top for _, top, *_ in _cells(draw_maps_svg(one))})
    assert middle + (cell[1] - cell[0]) - half == pytest.approx((middle - up) / 2, abs=0.2)


def test_circles_have_areas_in_proportion_and_rings_for_negative_values() -> None:
    one = SMALL.but(values=((0, 0),), marks=Marks(label="spin", values=((0.4, -0.1),), shape="circles"))
    disc, ring = (path.get("d", "") for path in _of_class(draw_maps_svg(one), "mark"))
    radii = [[float(radius) for radius in re.findall(r"a([\d.]+) ", path)[::2]] for path in (disc, ring)]
    assert len(radii[0]) == 1
    assert len(radii[1]) == 2, "with a hole"
    assert radii[0][0] == pytest.approx(2 * radii[1][0], abs=0.02)


def test_numbers_stand_in_cells_that_hold_them_and_only_there() -> None:
    def numbers(svg: str) -> list[str]:
        return [text.text or "" for group in _of_class(svg, "on") for text in group.iter("text")]

    assert sorted(numbers(draw_maps_svg(SMALL))) == sorted(["0.00", "0.50", "1.00", "1.00", "0.25"])
    assert "−" not in "".join(numbers(draw_maps_svg(SMALL.but(values=((-1e-9, 1.0),))))), "no minus zero"
    crowded = SMALL.but(values=tuple(tuple(row * column / 1e3 for column in range(32)) for row in range(32)))
    assert numbers(draw_maps_svg(crowded)) == []
    close = SMALL.but(values=((0.8741, 0.8746),))
    assert len(set(numbers(draw_maps_svg(close)))) == 2, "as many decimals as it takes"


def test_cells_that_touch_leave_no_gap_and_a_map_of_thousands_stays_small() -> None:
    grid = tuple(tuple(0.0 if row < 32 else float(column % 7) for column in range(64)) for row in range(64))
    svg = draw_maps_svg(MapRow(title="large", maps=(SMALL.but(values=grid), SMALL.but(values=grid, title="b"))))
    assert len(svg) < 250_000
    by_row: dict[float, list[tuple[float, float]]] = {}
    for left, top, wide, _ in _cells(svg):
        by_row.setdefault(top, []).append((left, left + wide))
    assert len(by_row) == 64
    for runs in by_row.values():
        gaps = [after[0] - before[1] for before, after in pairwise(runs)]
        assert sum(gap > 0.01 for gap in gaps) == 1, "between the two maps"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_on_a_colour_can_be_read(kind: str, dark: bool) -> None:
    found = colours(kind, dark=dark)
    assert len(set(found)) == LEVELS
    assert min(contrast(ink(colour), colour) for colour in found) >= 4.5
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("dark", [False, True])
def test_colours_run_one_way_in_lightness_from_the_page_s_own(dark: bool) -> None:
    page = "#1b2024" if dark else "#ffffff"
    away = [contrast(colour, page) for colour in colours("sequential", dark=dark)]
    assert away == sorted(away)
    both = [contrast(colour, page) for colour in colours("diverging", dark=dark)]
    middle = LEVELS // 2
    assert both[middle:] == sorted(both[middle:])
    assert both[middle::-1] == sorted(both[middle::-1])
    assert max(away[0], both[middle]) < 1.2, "the lowest value, and zero, are nearly the page's colour"


def test_a_dark_page_has_a_rule_for_every_level_that_is_drawn() -> None:
    rules = dict(re.findall(r"\.(ramp-\w\d+)\{fill:(#\w+)\}", dark_rules()))
    drawn = {group.get("class") for kind in KINDS for group in _of_class(draw_maps_svg(SMALL.but(scale=kind)), "ramp-")}
    assert len(drawn) == 2 * LEVELS
    assert drawn <= set(rules)
    assert rules["ramp-s0"] == colours("sequential", dark=True)[0]


def test_a_map_says_what_it_shows() -> None:
    svg = draw_maps_svg(stripes(), "name")
    root = ET.fromstring(svg)  # noqa: S314 our own drawing
    found = {element.get("id"): element.text or "" for element in root if element.get("id")}
    assert found["name-title"] == "A stripe"
    assert "4 rows, 8 columns, holes per site from 0.06957 at y 0, x 0 to 0.1804 at y 0, x 3" in found["name-desc"]
    assert "spin: 16 positive, 16 negative" in found["name-desc"]
