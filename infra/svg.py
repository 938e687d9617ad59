"""Figures as SVG, to stand inside an HTML page: sharp, readable aloud, and in the page's colours, light or dark."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Literal

from infra.axes import Axis, digits, make_axes, number_text
from infra.pictures import COLOURS, MOST_MARKED, Style, drawable, styles
from models.common.report import Curve, Figure, Level

_LETTER = 6.9  # mean width of a letter at 13 px; SVG wraps nothing by itself
_ROW = 22  # height of a legend row


def draw_svg(figure: Figure, name: str = "figure", width: int = 760, height: int = 380) -> str:
    """An `<svg>` element without a namespace, as HTML takes it.

    `name` is unique on the page: the element's ids begin with it.

    Colours come from the page's `--series-0` to `--series-5` and its text colour, with fallbacks for white.
    """
    description = _describe(figure)
    figure = drawable(figure)
    legend, top = _legend(figure, width)
    x_axis, y_axis = make_axes(figure, width, top=top + 8, bottom=top + height - 46)
    curves = list(zip(figure.curves, styles(figure), strict=True))
    parts = [
        f"<title id='{name}-title'>{escape(figure.title)}</title><desc id='{name}-desc'>{escape(description)}</desc>",
        legend,
        f"<clipPath id='{name}-clip'><rect x='{x_axis.begin - 5:.1f}' y='{y_axis.end - 5:.1f}' "
        f"width='{x_axis.end - x_axis.begin + 10:.1f}' height='{y_axis.begin - y_axis.end + 10:.1f}'/></clipPath>",
        _shading(figure, x_axis, y_axis),
        _grid(figure, x_axis, y_axis),
        f"<g clip-path='url(#{name}-clip)'>",
        *(_level(level, x_axis, y_axis) for level in figure.levels),
        *(_band(curve, look, x_axis, y_axis) for curve, look in curves if curve.low and look.joined),
        *(_error_bars(curve, look, x_axis, y_axis) for curve, look in curves if curve.low and not look.joined),
        *(_line(curve, look, x_axis, y_axis) for curve, look in curves),
        "</g>",
        _level_labels(figure, x_axis, y_axis),
    ]
    return (
        f"<svg viewBox='0 0 {width} {top + height}' role='img' aria-labelledby='{name}-title {name}-desc' "
        f"font-size='13' fill='currentColor'>{''.join(parts)}</svg>"
    )


def _describe(figure: Figure) -> str:
    """The figure in words: its axes, where each curve begins and ends, and what it is compared with."""
    told = [f"{figure.y_label} over {figure.x_label}."]
    shown = digits([y for curve in figure.curves for y in curve.y] + [level.value for level in figure.levels])
    for curve in figure.curves:
        if curve.x:
            ends = " to ".join(
                f"{number_text(curve.y[at], shown)} at {curve.x[at]:.4g}"
                for at in ((0, -1) if len(curve.x) > 1 else (0,))
            )
            told.append(f"{curve.label}: {ends}.")
    told += [f"{level.label}: {number_text(level.value, shown)}." for level in figure.levels]
    if figure.shaded:
        told.append(f"Trained on {figure.shaded[0]:.4g} to {figure.shaded[1]:.4g}.")
    return " ".join(told)


def _legend(figure: Figure, width: int) -> tuple[str, int]:
    """The legend's SVG in as many rows as the width asks for, and its height."""
    parts, x, y = [], 8.0, 14
    entries = [(curve.label, _swatch(curve, look)) for curve, look in zip(figure.curves, styles(figure), strict=True)]
    if figure.shaded:
        entries.append(("trained on", "<rect y='-6' width='26' height='12' opacity='0.14'/>"))
    for label, swatch in entries:
        shown = _cut(label, width - 60)
        room = 34 + len(shown) * _LETTER + 28
        if x > 8 and x + room > width:
            x, y = 8.0, y + _ROW
        parts.append(f"<g transform='translate({x:.1f} {y})'>{swatch}<text x='34' y='4.5'>{escape(shown)}</text></g>")
        x += room
    return "".join(parts), (y + 18 if entries else 0)


def _cut(text: str, width: float) -> str:
    fits = int(width / _LETTER)
    return text if len(text) <= fits else text[: fits - 1] + "…"


def _swatch(curve: Curve, look: Style) -> str:
    marker = _marker(13, 0, look) if look.marked else ""
    if look.joined:
        return f"<path d='M0 0H26' {_stroke(look)}/>{marker}"
    bar = f"<path d='M13 -8V8' style='stroke:{_colour(look)}' stroke-width='1.5'/>" if curve.low else ""
    return bar + marker


def _colour(look: Style) -> str:
    return f"var(--series-{look.place},{COLOURS[look.place]})"


def _stroke(look: Style) -> str:
    dashes = f" stroke-dasharray='{look.dash}'" if look.dash else ""
    return f"fill='none' style='stroke:{_colour(look)}' stroke-width='2' stroke-linejoin='round'{dashes}"


_SHAPES: dict[str, Callable[[float, float], str]] = {
    "o": lambda x, y: f"M{x - 3.6:.1f} {y:.1f}a3.6 3.6 0 1 0 7.2 0a3.6 3.6 0 1 0 -7.2 0z",
    "s": lambda x, y: f"M{x - 3.3:.1f} {y - 3.3:.1f}h6.6v6.6h-6.6z",
    "^": lambda x, y: f"M{x:.1f} {y - 4.6:.1f}l4.4 7.8h-8.8z",
    "D": lambda x, y: f"M{x:.1f} {y - 4.8:.1f}l4.8 4.8l-4.8 4.8l-4.8 -4.8z",
    "v": lambda x, y: f"M{x:.1f} {y + 4.6:.1f}l4.4 -7.8h-8.8z",
    "P": lambda x, y: f"M{x - 1.5:.1f} {y - 4.5:.1f}h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
}


def _marker(x: float, y: float, look: Style) -> str:
    return f"<path d='{_SHAPES[look.marker](x, y)}' style='fill:{_colour(look)}'/>"


def _shading(figure: Figure, x_axis: Axis, y_axis: Axis) -> str:
    if not figure.shaded:
        return ""
    begin, end = (x_axis(min(max(value, x_axis.low), x_axis.high)) for value in figure.shaded)
    return (
        f"<rect class='trained' x='{begin:.1f}' y='{y_axis.end:.1f}' width='{end - begin:.1f}' "
        f"height='{y_axis.begin - y_axis.end:.1f}' opacity='0.09'/>"
    )


def _grid(figure: Figure, x_axis: Axis, y_axis: Axis) -> str:
    left, right, top, bottom = x_axis.begin, x_axis.end, y_axis.end, y_axis.begin
    parts = [f"<path d='M{left:.1f} {bottom:.1f}H{right:.1f}' stroke='currentColor' opacity='0.5'/>"]
    for tick, text in zip(y_axis.ticks, y_axis.texts, strict=True):
        y = y_axis(tick)
        parts.append(f"<path d='M{left:.1f} {y:.1f}H{right:.1f}' stroke='currentColor' opacity='0.13'/>")
        parts.append(f"<text x='{left - 8:.1f}' y='{y + 4.5:.1f}' text-anchor='end'>{text}</text>")
    for tick, text in zip(x_axis.ticks, x_axis.texts, strict=True):
        x = x_axis(tick)
        parts.append(f"<path d='M{x:.1f} {bottom:.1f}v5' stroke='currentColor' opacity='0.5'/>")
        parts.append(f"<text x='{x:.1f}' y='{bottom + 20:.1f}' text-anchor='middle'>{text}</text>")
    middle = (left + right) / 2
    label = escape(_cut(figure.x_label, right - left))
    parts.append(f"<text x='{middle:.1f}' y='{bottom + 40:.1f}' text-anchor='middle'>{label}</text>")
    label = escape(_cut(figure.y_label, bottom - top))
    across = (top + bottom) / 2
    parts.append(f"<text transform='translate(13 {across:.1f}) rotate(-90)' text-anchor='middle'>{label}</text>")
    return f"<g class='axes'>{''.join(parts)}</g>"


def _path(x_axis: Axis, y_axis: Axis, x: Sequence[float], y: Sequence[float]) -> str:
    return "L".join(f"{x_axis(a):.1f} {y_axis(b):.1f}" for a, b in zip(x, y, strict=True))


def _band(curve: Curve, look: Style, x_axis: Axis, y_axis: Axis) -> str:
    """The interval as an area: along the upper edge, and back along the lower."""
    there = _path(x_axis, y_axis, curve.x, curve.high)
    back = _path(x_axis, y_axis, curve.x[::-1], curve.low[::-1])
    return f"<path class='band' d='M{there}L{back}z' style='fill:{_colour(look)}' opacity='0.15'/>"


def _error_bars(curve: Curve, look: Style, x_axis: Axis, y_axis: Axis) -> str:
    """A bar with caps for each point; one that reaches zero on a logarithmic axis runs out of the figure."""
    bars = []
    for x, low, high in zip(curve.x, curve.low, curve.high, strict=True):
        at, bottom, top = x_axis(x), y_axis(low), y_axis(high)
        bars.append(f"M{at - 4:.1f} {top:.1f}h8M{at:.1f} {top:.1f}V{bottom:.1f}M{at - 4:.1f} {bottom:.1f}h8")
    return f"<path class='bars' d='{''.join(bars)}' fill='none' style='stroke:{_colour(look)}' stroke-width='1.5'/>"


def _line(curve: Curve, look: Style, x_axis: Axis, y_axis: Axis) -> str:
    if not curve.x:
        return ""
    path = f"<path class='line' d='M{_path(x_axis, y_axis, curve.x, curve.y)}' {_stroke(look)}/>" if look.joined else ""
    if not look.marked:
        return path
    drawn = "".join(_marker(x_axis(x), y_axis(y), look) for x, y in zip(curve.x, curve.y, strict=True))
    crowded = " opacity='0.7'" if len(curve.x) > MOST_MARKED else ""
    return f"{path}<g class='points'{crowded}>{drawn}</g>"


def _level(level: Level, x_axis: Axis, y_axis: Axis) -> str:
    """The horizontal line, and the band of its error."""
    left, right, y = x_axis.begin, x_axis.end, y_axis(level.value)
    band = ""
    if level.error:
        top, bottom = y_axis(level.value + level.error), y_axis(level.value - level.error)
        band = (
            f"<rect class='level-band' x='{left:.1f}' y='{top:.1f}' width='{right - left:.1f}' "
            f"height='{bottom - top:.1f}' opacity='0.12'/>"
        )
    dashes = "stroke='currentColor' stroke-width='1.4' stroke-dasharray='6 3' opacity='0.75'"
    return f"{band}<path class='level' d='M{left:.1f} {y:.1f}H{right:.1f}' {dashes}/>"


@dataclass(frozen=True)
class _Box:
    """Where a label would stand: its baseline, the x that it is anchored at, and how."""

    anchor: Literal["start", "middle", "end"]
    x: float
    baseline: float
    width: float

    @property
    def left(self) -> float:
        return self.x - {"start": 0.0, "middle": 0.5, "end": 1.0}[self.anchor] * self.width

    def covers(self, x: float, y: float) -> bool:
        return self.left - 3 <= x <= self.left + self.width + 3 and self.baseline - 13 <= y <= self.baseline + 5

    def meets(self, other: "_Box") -> bool:
        beside = self.left > other.left + other.width + 6 or other.left > self.left + self.width + 6
        return not beside and abs(self.baseline - other.baseline) < 16


def _level_labels(figure: Figure, x_axis: Axis, y_axis: Axis) -> str:
    """A label beside each level, at the end and on the side of its line where it hides the least."""
    busy = _busy(figure, x_axis, y_axis)
    lines = [y_axis(level.value) for level in figure.levels]
    placed: list[_Box] = []
    parts = []
    for level, y in zip(figure.levels, lines, strict=True):
        if not y_axis.end - 1 <= y <= y_axis.begin + 1:
            continue  # outside the range of y
        text = _cut(level.label, x_axis.end - x_axis.begin)
        box = min(
            _boxes(text, y, x_axis, y_axis),
            key=lambda box: (
                1000 * sum(box.meets(other) for other in placed)
                + 40 * sum(box.baseline - 11 < line < box.baseline + 3 for line in lines)
                + sum(box.covers(*point) for point in busy)
            ),
        )
        placed.append(box)
        parts.append(
            f"<text class='level-label' x='{box.x:.1f}' y='{box.baseline:.1f}' text-anchor='{box.anchor}' "
            f"stroke='var(--card,#fff)' stroke-width='4' stroke-linejoin='round' paint-order='stroke'>"
            f"{escape(text)}</text>"
        )
    return "".join(parts)


def _boxes(text: str, y: float, x_axis: Axis, y_axis: Axis) -> list[_Box]:
    """The places that a label may take beside a line at y: above and below it, at its ends and its middle."""
    width = len(text) * _LETTER
    middle = (x_axis.begin + x_axis.end) / 2
    boxes = [
        box
        for baseline in (y - 5, y + 14)
        for box in (
            _Box("end", x_axis.end - 4, baseline, width),
            _Box("middle", middle, baseline, width),
            _Box("start", x_axis.begin + 4, baseline, width),
        )
    ]
    inside = [box for box in boxes if y_axis.end - 4 <= box.baseline - 10 and box.baseline <= y_axis.begin - 3]
    return inside or boxes


def _busy(figure: Figure, x_axis: Axis, y_axis: Axis) -> list[tuple[float, float]]:
    """Pixels that curves run through, near enough to each other for a label not to slip between."""
    pixels = []
    for curve in figure.curves:
        points = [(x_axis(x), y_axis(y)) for x, y in zip(curve.x, curve.y, strict=True)]
        pixels += points
        for (x0, y0), (x1, y1) in pairwise(points if curve.style != "points" else []):
            begin, end = _both(_visible(x0, x1, x_axis), _visible(y0, y1, y_axis))
            steps = int((end - begin) * max(abs(x1 - x0), abs(y1 - y0)) / 6)
            parts = [begin + (end - begin) * at / steps for at in range(1, steps)]
            pixels += [(x0 + (x1 - x0) * part, y0 + (y1 - y0) * part) for part in parts]
    return pixels


def _visible(first: float, last: float, axis: Axis) -> tuple[float, float]:
    """From which part of the way to which a line is within an axis: a curve may come from far outside."""
    if first == last:
        return 0.0, 1.0
    enters, leaves = sorted((edge - first) / (last - first) for edge in (axis.begin, axis.end))
    return max(0.0, enters), min(1.0, leaves)


def _both(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    """What two parts of the way have in common; nothing where the second number is not the larger one."""
    return max(a[0], b[0]), min(a[1], b[1])
