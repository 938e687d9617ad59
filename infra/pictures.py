"""Figures as pictures: PNG for Prefect's run page, SVG for the report page, and a report as Markdown."""

import base64
import html
import io
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from infra.settings import keep_matplotlib_inside
from models.common.report import Curve, Figure, Report, Table

# Legible on white, and told apart by people who see fewer colours; dashes and markers repeat what the colour says.
COLOURS = ("#0b62c4", "#c4420a", "#087a52", "#8a3ab9", "#8f6500", "#4f5d6b")
DASHES = ("", "7 4", "2 3", "9 3 2 3", "12 4", "4 2 1 2")
MARKERS = ("o", "s", "^", "D", "v", "P")
MOST_POINTS = 300  # of a curve that is drawn; more than a picture has room for
MOST_MARKED = 40  # points that get a marker each


@dataclass(frozen=True)
class Style:
    """How the curve at this place in the figure is drawn."""

    colour: str
    dash: str
    marker: str


def style(place: int) -> Style:
    dash = DASHES[(place + place // len(COLOURS)) % len(DASHES)]
    return Style(COLOURS[place % len(COLOURS)], dash, MARKERS[place % len(MARKERS)])


def thinned(curve: Curve) -> Curve:
    """The curve with at most MOST_POINTS points, each the mean of its neighbours; it spans the same x."""
    count = len(curve.x)
    if count <= MOST_POINTS:
        return curve
    edges = [round(index * count / MOST_POINTS) for index in range(MOST_POINTS + 1)]
    spans = [slice(begin, end) for begin, end in pairwise(edges)]

    def means(values: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(sum(values[span]) / len(values[span]) for span in spans) if values else ()

    x = (curve.x[0], *means(curve.x)[1:-1], curve.x[-1])
    return curve.but(x=x, y=means(curve.y), low=means(curve.low), high=means(curve.high))


def drawable(figure: Figure) -> Figure:
    """The figure with curves that can be drawn: thinned, and without the points that a logarithmic axis has not."""
    curves = [thinned(curve) for curve in figure.curves]
    if figure.log_y:
        curves = [_positive(curve) for curve in curves]
    return figure.but(curves=tuple(curves))


def _positive(curve: Curve) -> Curve:
    kept = [index for index, value in enumerate(curve.y) if value > 0]
    picked = {name: tuple(getattr(curve, name)[index] for index in kept) for name in ("x", "y")}
    if not curve.low:
        return curve.but(**picked)
    low = tuple(curve.low[i] if curve.low[i] > 0 else curve.y[i] for i in kept)
    return curve.but(**picked, low=low, high=tuple(curve.high[i] for i in kept))


def draw_png(figure: Figure) -> bytes:
    """The figure on white, 800 by 450 pixels."""
    keep_matplotlib_inside()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(8, 4.5), dpi=100, facecolor="white")
    canvas.set_layout_engine("constrained", w_pad=0.12, h_pad=0.1)
    axes = canvas.add_subplot()
    figure = drawable(figure)
    for place, curve in enumerate(figure.curves):
        _plot(axes, curve, style(place))
    if figure.shaded:
        axes.axvspan(*figure.shaded, color="#8a94a0", alpha=0.16, linewidth=0, zorder=0, label="trained on")
    if figure.log_y:
        axes.set_yscale("log")
    if figure.y_range:
        low, high = figure.y_range
        axes.set_ylim(low, high if figure.log_y else high + 0.02 * (high - low))
    axes.set_title(_plain(figure.title), loc="left", fontsize=12)
    axes.set_xlabel(_plain(figure.x_label))
    axes.set_ylabel(_plain(figure.y_label))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if figure.curves or figure.shaded:
        canvas.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    picture = io.BytesIO()
    FigureCanvasAgg(canvas).print_png(picture)
    return picture.getvalue()


def _plot(axes: Any, curve: Curve, look: Style) -> None:
    dashes = (0, tuple(float(part) / 1.5 for part in look.dash.split())) if look.dash else "solid"
    marker = look.marker if len(curve.x) <= MOST_MARKED else ""
    axes.plot(
        *(curve.x, curve.y), color=look.colour, linestyle=dashes, linewidth=1.8, marker=marker, markersize=4.5,
        label=_plain(curve.label),
    )  # fmt: skip
    if curve.low:
        axes.fill_between(curve.x, curve.low, curve.high, color=look.colour, alpha=0.15, linewidth=0)


def _plain(text: str) -> str:
    """Text that matplotlib takes literally: no formulas between dollar signs, no label hidden by its first letter."""
    return text.replace("$", r"\$").removeprefix("_") or " "


def as_markdown(report: Report) -> str:
    """The report for Prefect's run page: what was found, the headline table, the gates and the first picture."""
    parts = [f"# {_cell(report.title)}", _cell(report.summary)]
    if report.headline:
        parts.append(_markdown_table(report.headline))
    if report.gates:
        rows = tuple(
            (gate.name, "passed" if gate.passed else "**FAILED**", f"{gate.value:.4g}{gate.unit}",
             f"{gate.at_least:.4g}{gate.unit}")
            for gate in report.gates
        )  # fmt: skip
        parts.append(_markdown_table(Table(title="Gates", columns=("gate", "", "found", "at least"), rows=rows)))
    if report.figures:
        figure = report.figures[0]
        picture = base64.b64encode(draw_png(figure)).decode()
        parts += [f"![{_cell(figure.title)}](data:image/png;base64,{picture})", _cell(figure.caption)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown_table(table: Table) -> str:
    lines = [table.columns, tuple("---" for _ in table.columns), *table.rows]
    rows = "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)
    return "\n\n".join(part for part in (f"**{_cell(table.title)}**", rows, _cell(table.caption)) if part)


def _cell(text: str) -> str:
    """Text that Markdown shows as it is, and in one line."""
    escaped = html.escape(" ".join(text.split()), quote=False)
    return escaped.translate({ord(mark): f"\\{mark}" for mark in "|[]`"})
