"""Figures as pictures: PNG for Prefect's run page, SVG for the report page, and a report as Markdown."""

import base64
import html
import io
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from infra.image_grids import plot_image_grid
from infra.maps import plain, plot_maps
from infra.settings import keep_matplotlib_inside
from models.common.image_grid import ImageGrid
from models.common.report import Curve, Drawing, Figure, Report, Table

# Legible on white, and told apart by people who see fewer colours; dashes and markers repeat what the colour says.
COLOURS = ("#0b62c4", "#c4420a", "#087a52", "#8a3ab9", "#8f6500", "#4f5d6b")
DASHES = ("", "7 4", "2 3", "9 3 2 3", "12 4", "4 2 1 2")
MARKERS = ("o", "s", "^", "D", "v", "P")
LEVEL_DASHES = ("6 3", "2 2", "10 3", "6 2 2 2")
MOST_POINTS = 100  # of a curve that is drawn: training is noisy, and a mean over a few steps shows where it goes
MOST_PICTURES = 3  # of a report on the run page
MOST_MARKED = 40  # points of a line that get a marker each


@dataclass(frozen=True)
class Style:
    """How a curve is drawn: the place of its colour, and what repeats the colour for those who do not see it."""

    place: int
    dash: str
    marker: str
    joined: bool  # a line runs through the points
    marked: bool  # each point has a marker

    @property
    def colour(self) -> str:
        return COLOURS[self.place]


def styles(figure: Figure) -> tuple[Style, ...]:
    """The style of each curve; a fit takes the colour of the curve before it."""
    found: list[Style] = []
    turn = -1
    for curve in figure.curves:
        fit = curve.style == "fit"
        turn += 0 if fit and found else 1
        place = turn % len(COLOURS)
        dash = "5 3" if fit else DASHES[(turn + turn // len(COLOURS)) % len(DASHES)]
        marked = curve.style == "points" or (curve.style == "line" and len(curve.x) <= MOST_MARKED)
        found.append(Style(place, dash, MARKERS[turn % len(MARKERS)], curve.style != "points", marked))
    return tuple(found)


def thinned(curve: Curve, *, log_x: bool = False) -> Curve:
    """The curve with at most MOST_POINTS points; it spans the same x.

    Each point of a line is the mean of its neighbours, of equally many, or on a logarithmic axis of those within a
    factor of x. Of points that stand apart every so many stay as they are: a mean would hide how far they scatter.
    """
    count = len(curve.x)
    if count <= MOST_POINTS:
        return curve
    if curve.style == "points":
        return _picked(curve, [round(index * (count - 1) / (MOST_POINTS - 1)) for index in range(MOST_POINTS)])
    edges = [round(index * count / MOST_POINTS) for index in range(MOST_POINTS + 1)]
    if log_x:
        bounds = [curve.x[0] * (curve.x[-1] / curve.x[0]) ** (index / MOST_POINTS) for index in range(1, MOST_POINTS)]
        edges = sorted({0, *(bisect_left(curve.x, bound) for bound in bounds), count})
    spans = [slice(begin, end) for begin, end in pairwise(edges)]

    def means(values: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(sum(values[span]) / len(values[span]) for span in spans) if values else ()

    x = (curve.x[0], *means(curve.x)[1:-1], curve.x[-1])
    return curve.but(x=x, y=means(curve.y), low=means(curve.low), high=means(curve.high))


def _picked(curve: Curve, places: Sequence[int]) -> Curve:
    """The curve's points at these places."""
    fields = {name: getattr(curve, name) for name in ("x", "y", "low", "high")}
    return curve.but(**{name: tuple(values[at] for at in places) for name, values in fields.items() if values})


def drawable(figure: Figure) -> Figure:
    """The figure with curves that can be drawn: cut to the range of x, thinned, above zero on a logarithmic axis."""
    curves = [thinned(_within(curve, figure.x_range), log_x=figure.log_x) for curve in figure.curves]
    if figure.log_y:
        curves = [_above_zero(curve) for curve in curves]
    return figure.but(curves=tuple(curves))


def _within(curve: Curve, x_range: tuple[float, float] | None) -> Curve:
    if not x_range:
        return curve
    low, high = x_range
    inside = [low <= x <= high for x in curve.x]
    if curve.style != "points":  # a line runs on to its neighbours outside, and is cut off at the edge
        inside = [any(inside[max(0, at - 1) : at + 2]) for at in range(len(inside))]
    return curve if all(inside) else _picked(curve, [at for at, kept in enumerate(inside) if kept])


def _above_zero(curve: Curve) -> Curve:
    """The curve with a band that ends at the curve where it would reach zero; error bars are cut off by the axis."""
    if not curve.low or curve.style == "points":
        return curve
    return curve.but(low=tuple(low if low > 0 else y for low, y in zip(curve.low, curve.y, strict=True)))


def draw_png(drawing: Drawing) -> bytes:
    """The drawing on white, 800 by 450 pixels."""
    canvas = _canvas(8, 4.5)
    if isinstance(drawing, Figure):
        _plot_figure(canvas, drawable(drawing))
    elif isinstance(drawing, ImageGrid):
        plot_image_grid(canvas, drawing)
    else:
        plot_maps(canvas, drawing)
    return _png(canvas)


def draw_panels(figures: Sequence[Figure]) -> bytes:
    """The figures on white, two in a row, 800 pixels wide."""
    columns = min(2, len(figures))
    rows = -(-len(figures) // columns)
    canvas = _canvas(8, 4.5 if columns == 1 else 3.2 * rows)
    panels = canvas.subfigures(rows, columns, squeeze=False)
    for place, figure in enumerate(figures):
        _plot_figure(panels[place // columns][place % columns], drawable(figure))
    return _png(canvas)


def _canvas(width: float, height: float) -> Any:
    keep_matplotlib_inside()
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(width, height), dpi=100, facecolor="white")
    canvas.set_layout_engine("constrained", w_pad=0.12, h_pad=0.1)
    return canvas


def _png(canvas: Any) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    picture = io.BytesIO()
    FigureCanvasAgg(canvas).print_png(picture)
    return picture.getvalue()


def _plot_figure(canvas: Any, figure: Figure) -> None:
    axes = canvas.add_subplot()
    if figure.log_x:
        axes.set_xscale("log")
    if figure.log_y:
        axes.set_yscale("log")
    for curve, look in zip(figure.curves, styles(figure), strict=True):
        _plot(axes, curve, look)
    for place, level in enumerate(figure.levels):
        dashes = _dashes(LEVEL_DASHES[place % len(LEVEL_DASHES)])
        axes.axhline(level.value, color="#333b42", linestyle=dashes, linewidth=1.3, label=plain(level.label))
        if level.error:
            axes.axhspan(level.value - level.error, level.value + level.error, color="#333b42", alpha=0.12, linewidth=0)
    if figure.shaded:
        axes.axvspan(*figure.shaded, color="#8a94a0", alpha=0.16, linewidth=0, zorder=0, label="trained on")
    if figure.x_range:
        axes.set_xlim(*figure.x_range)
    if figure.y_range:
        low, high = figure.y_range
        axes.set_ylim(low, high if figure.log_y else high + 0.02 * (high - low))
    for axis, log in ((axes.xaxis, figure.log_x), (axes.yaxis, figure.log_y)):
        if not log:
            axis.get_major_formatter().set_useOffset(False)  # whole numbers at the ticks, not what is to be added
    axes.set_title(plain(figure.title), loc="left", fontsize=12)
    axes.set_xlabel(plain(figure.x_label))
    axes.set_ylabel(plain(figure.y_label))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if any(curve.label for curve in figure.curves) or figure.shaded or figure.levels:
        canvas.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)


def _plot(axes: Any, curve: Curve, look: Style) -> None:
    axes.plot(
        *(curve.x, curve.y), color=look.colour, linestyle=_dashes(look.dash) if look.joined else "none", linewidth=1.8,
        marker=look.marker if look.marked else "", markersize=4.5, label=plain(curve.label),
    )  # fmt: skip
    if curve.low and look.joined:
        axes.fill_between(curve.x, curve.low, curve.high, color=look.colour, alpha=0.15, linewidth=0)
    elif curve.low:
        axes.vlines(curve.x, curve.low, curve.high, color=look.colour, linewidth=1.3)


def _dashes(dash: str) -> Any:
    return (0, tuple(float(part) / 1.5 for part in dash.split())) if dash else "solid"


def as_markdown(report: Report) -> str:
    """The report for Prefect's run page: what was found, the headline table, the gates and the first pictures."""
    parts = [f"# {_cell(report.title)}", _cell(report.summary)]
    if report.headline:
        parts.append(_markdown_table(report.headline))
    if report.gates:
        rows = tuple(
            (gate.name, "passed" if gate.passed else "**FAILED**", f"{gate.value:.4g}{gate.unit}", gate.bound)
            for gate in report.gates
        )
        parts.append(_markdown_table(Table(title="Gates", columns=("gate", "", "found", "bound"), rows=rows)))
    for figure in report.figures[:MOST_PICTURES]:
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
