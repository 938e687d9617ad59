"""Figures as SVG, to stand inside an HTML page: sharp, readable aloud, and in the page's colours, light or dark."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from infra.pictures import COLOURS, MOST_MARKED, drawable, style
from models.common.report import Curve, Figure

_LETTER = 6.9  # mean width of a letter at 13 px; SVG wraps nothing by itself
_ROW = 22  # height of a legend row


@dataclass(frozen=True)
class Axis:
    """One axis: the values it spans, where its ticks are, and how a value becomes a pixel."""

    low: float
    high: float
    log: bool
    ticks: tuple[float, ...]
    begin: float  # pixel of `low`
    end: float  # pixel of `high`

    def __call__(self, value: float) -> float:
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.begin + (value - low) / (high - low) * (self.end - self.begin)


def draw_svg(figure: Figure, name: str = "figure", width: int = 760, height: int = 380) -> str:
    """An `<svg>` element without a namespace, as HTML takes it.

    `name` is unique on the page: the element's ids begin with it.

    Colours come from the page's `--series-0` to `--series-5` and its text colour, with fallbacks for white.
    """
    description = _describe(figure)
    figure = drawable(figure)
    legend, top = _legend(figure, width)
    x_axis, y_axis = _axes(figure, left=58, right=width - 14, top=top + 8, bottom=top + height - 46)
    parts = [
        f"<title id='{name}-title'>{escape(figure.title)}</title><desc id='{name}-desc'>{escape(description)}</desc>",
        legend,
        f"<clipPath id='{name}-clip'><rect x='{x_axis.begin - 5:.1f}' y='{y_axis.end - 5:.1f}' "
        f"width='{x_axis.end - x_axis.begin + 10:.1f}' height='{y_axis.begin - y_axis.end + 10:.1f}'/></clipPath>",
        _shading(figure, x_axis, y_axis),
        _grid(figure, x_axis, y_axis),
        f"<g clip-path='url(#{name}-clip)'>",
        *(_band(curve, place, x_axis, y_axis) for place, curve in enumerate(figure.curves) if curve.low),
        *(_line(curve, place, x_axis, y_axis) for place, curve in enumerate(figure.curves)),
        "</g>",
    ]
    return (
        f"<svg viewBox='0 0 {width} {top + height}' role='img' aria-labelledby='{name}-title {name}-desc' "
        f"font-size='13' fill='currentColor'>{''.join(parts)}</svg>"
    )


def _describe(figure: Figure) -> str:
    """The figure in words: its axes, and where each curve begins and ends."""
    told = [f"{figure.y_label} over {figure.x_label}."]
    for curve in figure.curves:
        if curve.x:
            ends = " to ".join(
                f"{curve.y[at]:.4g} at {curve.x[at]:.4g}" for at in ((0, -1) if len(curve.x) > 1 else (0,))
            )
            told.append(f"{curve.label}: {ends}.")
    if figure.shaded:
        told.append(f"Trained on {figure.shaded[0]:.4g} to {figure.shaded[1]:.4g}.")
    return " ".join(told)


def _axes(figure: Figure, *, left: float, right: float, top: float, bottom: float) -> tuple[Axis, Axis]:
    xs = [x for curve in figure.curves for x in curve.x]
    x_low, x_high = _padded(min(xs, default=0.0), max(xs, default=1.0), 0.0)
    if figure.shaded:
        x_low, x_high = min(x_low, figure.shaded[0]), max(x_high, figure.shaded[1])
    most_x = max(3, int((right - left) / 70))
    x_axis = Axis(x_low, x_high, log=False, ticks=_ticks(x_low, x_high, most_x), begin=left, end=right)

    ys = [y for curve in figure.curves for values in (curve.y, curve.low, curve.high) for y in values]
    log = figure.log_y and bool(ys)
    if figure.y_range and not (log and figure.y_range[0] <= 0):
        y_low, y_high = figure.y_range
    elif log:
        y_low, y_high = min(ys) / 1.15, max(ys) * 1.15
    else:
        y_low, y_high = _padded(min(ys, default=0.0), max(ys, default=1.0), 0.05)
    ticks = _log_ticks(y_low, y_high) if log else _ticks(y_low, y_high, 6)
    return x_axis, Axis(y_low, y_high, log, ticks, bottom, top)


def _padded(low: float, high: float, part: float) -> tuple[float, float]:
    if high == low:
        return low - 0.5, high + 0.5
    return low - part * (high - low), high + part * (high - low)


def _ticks(low: float, high: float, most: int) -> tuple[float, ...]:
    """Round values between low and high: steps of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(step * power for step in (1, 2, 5, 10) if (high - low) / (step * power) <= most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(round(number * step, 12) for number in range(first, last + 1))


def _log_ticks(low: float, high: float) -> tuple[float, ...]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    multiples = (1,) if len(decades) > 3 else (1, 2, 5)
    values = [multiple * 10.0**decade for decade in decades[:: max(1, len(decades) // 6)] for multiple in multiples]
    return tuple(value for value in values if low <= value <= high)


def _legend(figure: Figure, width: int) -> tuple[str, int]:
    """The legend's SVG in as many rows as the width asks for, and its height."""
    parts, x, y = [], 8.0, 14
    entries = [(curve.label, _swatch(curve, place)) for place, curve in enumerate(figure.curves)]
    if figure.shaded:
        entries.append(("trained on", "<rect y='-6' width='26' height='12' opacity='0.14'/>"))
    for label, swatch in entries:
        shown = _cut(label, width - 60)
        room = 32 + len(shown) * _LETTER + 20
        if x > 8 and x + room > width:
            x, y = 8.0, y + _ROW
        parts.append(f"<g transform='translate({x:.1f} {y})'>{swatch}<text x='34' y='4.5'>{escape(shown)}</text></g>")
        x += room
    return "".join(parts), (y + 18 if entries else 0)


def _cut(text: str, width: float) -> str:
    fits = int(width / _LETTER)
    return text if len(text) <= fits else text[: fits - 1] + "…"


def _swatch(curve: Curve, place: int) -> str:
    marker = _marker(13, 0, place) if len(curve.x) <= MOST_MARKED else ""
    return f"<path d='M0 0H26' {_stroke(place)}/>{marker}"


def _colour(place: int) -> str:
    place %= len(COLOURS)
    return f"var(--series-{place},{COLOURS[place]})"


def _stroke(place: int) -> str:
    dash = style(place).dash
    dashes = f" stroke-dasharray='{dash}'" if dash else ""
    return f"fill='none' style='stroke:{_colour(place)}' stroke-width='2' stroke-linejoin='round'{dashes}"


_SHAPES: dict[str, Callable[[float, float], str]] = {
    "o": lambda x, y: f"M{x - 3.6:.1f} {y:.1f}a3.6 3.6 0 1 0 7.2 0a3.6 3.6 0 1 0 -7.2 0z",
    "s": lambda x, y: f"M{x - 3.3:.1f} {y - 3.3:.1f}h6.6v6.6h-6.6z",
    "^": lambda x, y: f"M{x:.1f} {y - 4.6:.1f}l4.4 7.8h-8.8z",
    "D": lambda x, y: f"M{x:.1f} {y - 4.8:.1f}l4.8 4.8l-4.8 4.8l-4.8 -4.8z",
    "v": lambda x, y: f"M{x:.1f} {y + 4.6:.1f}l4.4 -7.8h-8.8z",
    "P": lambda x, y: f"M{x - 1.5:.1f} {y - 4.5:.1f}h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
}


def _marker(x: float, y: float, place: int) -> str:
    return f"<path d='{_SHAPES[style(place).marker](x, y)}' style='fill:{_colour(place)}'/>"


def _shading(figure: Figure, x_axis: Axis, y_axis: Axis) -> str:
    if not figure.shaded:
        return ""
    begin, end = (x_axis(value) for value in figure.shaded)
    return (
        f"<rect class='trained' x='{begin:.1f}' y='{y_axis.end:.1f}' width='{end - begin:.1f}' "
        f"height='{y_axis.begin - y_axis.end:.1f}' opacity='0.09'/>"
    )


def _grid(figure: Figure, x_axis: Axis, y_axis: Axis) -> str:
    left, right, top, bottom = x_axis.begin, x_axis.end, y_axis.end, y_axis.begin
    parts = [f"<path d='M{left:.1f} {bottom:.1f}H{right:.1f}' stroke='currentColor' opacity='0.5'/>"]
    for tick in y_axis.ticks:
        y = y_axis(tick)
        parts.append(f"<path d='M{left:.1f} {y:.1f}H{right:.1f}' stroke='currentColor' opacity='0.13'/>")
        parts.append(f"<text x='{left - 8:.1f}' y='{y + 4.5:.1f}' text-anchor='end'>{_number(tick)}</text>")
    for tick in x_axis.ticks:
        x = x_axis(tick)
        parts.append(f"<path d='M{x:.1f} {bottom:.1f}v5' stroke='currentColor' opacity='0.5'/>")
        parts.append(f"<text x='{x:.1f}' y='{bottom + 20:.1f}' text-anchor='middle'>{_number(tick)}</text>")
    middle = (left + right) / 2
    label = escape(_cut(figure.x_label, right - left))
    parts.append(f"<text x='{middle:.1f}' y='{bottom + 40:.1f}' text-anchor='middle'>{label}</text>")
    label = escape(_cut(figure.y_label, bottom - top))
    across = (top + bottom) / 2
    parts.append(f"<text transform='translate(13 {across:.1f}) rotate(-90)' text-anchor='middle'>{label}</text>")
    return f"<g class='axes'>{''.join(parts)}</g>"


def _number(value: float) -> str:
    return f"{value:.6g}".replace("-", "−")


def _path(x_axis: Axis, y_axis: Axis, x: Sequence[float], y: Sequence[float]) -> str:
    return "L".join(f"{x_axis(a):.1f} {y_axis(b):.1f}" for a, b in zip(x, y, strict=True))


def _band(curve: Curve, place: int, x_axis: Axis, y_axis: Axis) -> str:
    """The interval as an area: along the upper edge, and back along the lower."""
    there = _path(x_axis, y_axis, curve.x, curve.high)
    back = _path(x_axis, y_axis, curve.x[::-1], curve.low[::-1])
    return f"<path class='band' d='M{there}L{back}z' style='fill:{_colour(place)}' opacity='0.15'/>"


def _line(curve: Curve, place: int, x_axis: Axis, y_axis: Axis) -> str:
    if not curve.x:
        return ""
    line = f"<path class='line' d='M{_path(x_axis, y_axis, curve.x, curve.y)}' {_stroke(place)}/>"
    if len(curve.x) > MOST_MARKED:
        return line
    points = zip(curve.x, curve.y, strict=True)
    return line + "".join(_marker(x_axis(x), y_axis(y), place) for x, y in points)
