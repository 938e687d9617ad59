"""Figures as SVG: bars, levels and ticks stand where their values say, and numbers tell neighbours apart."""

import re
import xml.etree.ElementTree as ET

import pytest

from infra.pictures import COLOURS
from infra.svg import draw_svg
from models.common.report import Curve, Figure, Level
from tests.fixtures.reports import example, extrapolation

ENERGIES = (-3.4671, -3.4669)


def _parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)  # noqa: S314 our own drawing


def _of_class(svg: str, name: str) -> list[ET.Element]:
    return [element for element in _parsed(svg).iter() if element.get("class") == name]


def _y_pixel(svg: str) -> dict[str, float]:
    """Where the numbers of the y axis stand, by their text."""
    [axes] = _of_class(svg, "axes")
    numbers = [text for text in axes.iter("text") if text.get("text-anchor") == "end"]
    return {text.text or "": float(text.get("y", "nan")) - 4.5 for text in numbers}


def _at(svg: str, value: float) -> float:
    """The pixel of a value of y, from the first and the last number of the axis."""
    ticks = [(float(text.replace("−", "-")), pixel) for text, pixel in _y_pixel(svg).items()]
    (low, bottom), (high, top) = ticks[0], ticks[-1]
    return bottom + (value - low) / (high - low) * (top - bottom)


def test_error_bars_span_their_interval_and_no_line_joins_points() -> None:
    figure = extrapolation()
    svg = draw_svg(figure)
    [bars] = _of_class(svg, "bars")
    ends = re.findall(r"h8M[\d.]+ ([\d.]+)V([\d.]+)M", bars.get("d", ""))
    points = figure.curves[0]
    assert len(ends) == len(points.x)
    for (top, bottom), low, high in zip(ends, points.low, points.high, strict=True):
        assert float(top) == pytest.approx(_at(svg, high), abs=0.3)
        assert float(bottom) == pytest.approx(_at(svg, low), abs=0.3)
    assert len(_of_class(svg, "line")) == 1, "the fit's"
    [markers] = _of_class(svg, "points")
    assert len(markers) == len(points.x)


def test_a_fit_has_the_colour_of_its_points_and_the_next_curve_another() -> None:
    figure = extrapolation()
    after = Curve(label="other", x=(0.1, 0.2), y=(-3.469, -3.468))
    fit, other = _of_class(draw_svg(figure.but(curves=(*figure.curves, after))), "line")
    assert COLOURS[0] in fit.get("style", "")
    assert fit.get("stroke-dasharray")
    assert COLOURS[1] in other.get("style", "")


def test_a_level_stands_at_its_value_with_its_band_and_its_label_beside_it() -> None:
    figure = extrapolation()
    svg = draw_svg(figure)
    lines, labels, [band] = (_of_class(svg, name) for name in ("level", "level-label", "level-band"))
    for line, label, level in zip(lines, labels, figure.levels, strict=True):
        y = _at(svg, level.value)
        assert float(re.findall(r" ([\d.]+)H", line.get("d", ""))[0]) == pytest.approx(y, abs=0.3)
        assert abs(float(label.get("y", "nan")) - y) < 20
        assert label.text == level.label
    assert float(band.get("y", "nan")) == pytest.approx(_at(svg, -3.4681), abs=0.3)
    assert float(band.get("height", "nan")) == pytest.approx(_at(svg, -3.4685) - _at(svg, -3.4681), abs=0.3)


def test_labels_of_levels_do_not_stand_on_each_other() -> None:
    levels = tuple(Level(label=f"published by group {place}", value=-0.766 + 0.0005 * place) for place in range(3))
    figure = Figure(
        title="t", x_label="x", y_label="y", levels=levels, curves=(Curve(label="a", x=(0, 9), y=(-0.5, -0.77)),)
    )
    labels = _of_class(draw_svg(figure), "level-label")
    places = {(label.get("text-anchor"), round(float(label.get("y", "nan")) / 16)) for label in labels}
    assert len(places) == 3


def _label_beside(curve: Curve) -> tuple[str | None, float]:
    """Where the label of a level at 0.5 is anchored, and how far below its line, in pixels."""
    figure = Figure(
        title="t", x_label="x", y_label="y", x_range=(0.0, 1.0), y_range=(0.0, 1.0),
        levels=(Level(label="exact", value=0.5),), curves=(curve,),
    )  # fmt: skip
    svg = draw_svg(figure)
    [label] = _of_class(svg, "level-label")
    return label.get("text-anchor"), float(label.get("y", "nan")) - _at(svg, 0.5)


@pytest.mark.timeout(60)
def test_a_label_is_placed_beside_a_curve_that_comes_from_far_outside() -> None:
    anchor, _ = _label_beside(Curve(label="down, near the right end", x=(0.0, 0.98), y=(1e9, 0.0)))
    assert anchor == "middle"
    _, below = _label_beside(Curve(label="along the level", x=(-1e9, 1.0), y=(0.5, 0.5)))
    assert below > 10


def test_a_level_far_from_the_curves_is_in_the_picture() -> None:
    figure = Figure(
        title="t", x_label="x", y_label="y", levels=(Level(label="far", value=-9.0),),
        curves=(Curve(label="a", x=(0, 1), y=(0.0, 1.0)),),
    )  # fmt: skip
    numbers = [float(text.replace("−", "-")) for text in _y_pixel(draw_svg(figure))]
    assert min(numbers) <= -8


@pytest.mark.parametrize("values", [ENERGIES, (-55.06312, -55.06308), (12345.678, 12345.681), (2e-7, 5e-7)])
@pytest.mark.parametrize("width", [760, 360])
def test_numbers_of_an_axis_tell_neighbours_apart_and_fit_in_front_of_it(
    values: tuple[float, float], width: int
) -> None:
    svg = draw_svg(
        Figure(title="t", x_label="x", y_label="y", curves=(Curve(label="a", x=(0, 1), y=values),)), width=width
    )
    numbers = list(_y_pixel(svg))
    assert len(numbers) == len(set(numbers)) >= 3
    left = float(next(iter(_of_class(svg, "axes")))[1].get("d", "")[1:].split()[0])
    assert max(len(number) for number in numbers) * 7 + 8 + 18 <= left, "the axis' name stands left of them"
    read = [float(number.replace("−", "-").replace("·10⁻⁷", "e-7")) for number in numbers if number != "10⁻⁷"]
    assert min(values) <= max(read)
    assert max(values) - min(values) >= 0.2 * (read[1] - read[0])


def test_a_logarithmic_axis_is_labelled_in_powers_of_ten_with_three_or_more_numbers() -> None:
    curve = Curve(label="a", x=(1, 10, 1000), y=(3e-6, 0.004, 0.9))
    [axes] = _of_class(draw_svg(Figure(title="t", x_label="x", y_label="y", curves=(curve,), log_y=True)), "axes")
    numbers = [text.text for text in axes.iter("text") if text.get("text-anchor") == "end"]
    assert numbers == ["10⁻⁵", "10⁻⁴", "10⁻³", "10⁻²", "10⁻¹", "10⁰"]


def test_the_range_of_x_is_that_of_the_axis() -> None:
    figure = extrapolation()
    svg = draw_svg(figure)
    [axes] = _of_class(svg, "axes")
    numbers = {text.text: float(text.get("x", "nan")) for text in axes.iter("text") if text.text and "0." in text.text}
    [fit] = _of_class(svg, "line")
    begin, end = (float(point.split()[0]) for point in fit.get("d", "")[1:].split("L"))
    assert begin == pytest.approx(numbers["0.00"], abs=0.2)
    assert end == pytest.approx(numbers["0.45"], abs=0.2)


def test_an_error_bar_that_reaches_zero_runs_out_of_a_logarithmic_axis() -> None:
    curve = Curve(label="a", x=(1, 2), y=(0.1, 1), low=(-0.1, 0.5), high=(0.3, 1.5), style="points")
    svg = draw_svg(Figure(title="t", x_label="x", y_label="y", curves=(curve,), log_y=True))
    [bars] = _of_class(svg, "bars")
    lowest = max(float(end) for end in re.findall(r"V([\d.]+)", bars.get("d", "")))
    assert lowest > max(_y_pixel(svg).values()) + 30


def test_a_drawing_says_what_it_shows() -> None:
    for figure in (extrapolation(), *example().figures):
        assert isinstance(figure, Figure)
        root = _parsed(draw_svg(figure, "name"))
        assert root.get("aria-labelledby") == "name-title name-desc"
        found = {element.get("id"): element.text or "" for element in root if element.get("id")}
        assert found["name-title"] == figure.title
        assert all(curve.label in found["name-desc"] for curve in figure.curves)
    description = next(element.text or "" for element in _parsed(draw_svg(extrapolation())) if element.tag == "desc")
    assert "−3.46909 at 0.05" in description
    assert "exact −3.46932: −3.46932." in description
