"""Maps as SVG, alone or many in a grid, with a colour scale that the page's style turns dark where the page is dark."""

import math
from collections import defaultdict
from dataclasses import dataclass
from html import escape

from infra.axes import number_text, round_ticks, tick_texts
from infra.maps import across, largest_mark, maps_of, marks_of
from infra.ramps import LEVELS, Scale, colours, ink, scale_of
from models.common.report import Map, MapRow

_GAP = 20  # between maps
_LEAST_PANEL = 150  # pixels; narrower maps stand in another row
_LARGEST_CELL, _TALLEST = 60, 520
_LETTER = 6.4  # mean width of a letter at 11 px
_SPACED = 10  # cells from this size on stand apart by a pixel


@dataclass(frozen=True)
class Panel:
    """One map's place on the page: the pixel of its first cell's corner, and the size of a cell."""

    one: Map
    left: float
    top: float
    cell: float

    @property
    def right(self) -> float:
        return self.left + self.cell * self.one.shape[1]

    @property
    def bottom(self) -> float:
        return self.top + self.cell * self.one.shape[0]


def draw_maps_svg(drawing: Map | MapRow, name: str = "maps", width: int = 760) -> str:
    """An `<svg>` element without a namespace, as HTML takes it; its height follows from the maps.

    `name` is unique on the page: the element's ids begin with it. Colours are those for a white page; the rules of
    `infra.ramps.dark_rules` replace them on a dark one.
    """
    drawn, y = _grid(drawing, width)
    parts = [drawn]
    if isinstance(drawing, Map) or drawing.common_scale:
        left = _left(drawing, width) if isinstance(drawing, Map) else 0.0
        drawn, y = _legend(drawing, left, y, min(260.0, width - 20.0))
        parts.append(drawn)
    drawn, y = _marks_legend(drawing, y, width)
    parts.append(drawn)
    return (
        f"<svg viewBox='0 0 {width} {math.ceil(y)}' role='img' aria-labelledby='{name}-title {name}-desc' "
        f"font-size='12' fill='currentColor'><title id='{name}-title'>{escape(drawing.title)}</title>"
        f"<desc id='{name}-desc'>{escape(describe(drawing))}</desc>{''.join(parts)}</svg>"
    )


def _grid(drawing: Map | MapRow, width: int) -> tuple[str, float]:
    """All maps, row after row, and the pixel where they end."""
    maps = maps_of(drawing)
    titled = isinstance(drawing, MapRow)
    own_scales = isinstance(drawing, MapRow) and not drawing.common_scale
    columns = across(drawing, max(1, (width + _GAP) // (_LEAST_PANEL + _GAP)))
    room = (width - _GAP * (columns - 1)) / columns
    cell = min(_cell(one, room) for one in maps)
    ways = {(one.x_label, one.y_label) for one in maps}
    once = len(maps) > 3 and len(ways) == 1  # what all maps would say is said once
    y, parts = 0.0, []
    for begin in range(0, len(maps), columns):
        ends = [y]
        for place, one in enumerate(maps[begin : begin + columns]):
            left = place * (room + _GAP) + _left(one, room)
            panel = Panel(one, left, y + (24 if titled else 4), cell)
            parts.append(_panel(panel, one if own_scales else drawing, titled=titled, named=not once))
            end = panel.bottom + (18 if one.column_labels else 0) + (20 if one.x_label and not once else 0)
            if own_scales:
                legend, end = _legend(one, left, end + 10, min(room - _left(one, room) - 14, 240.0))
                parts.append(legend)
            ends.append(end)
        y = max(ends) + 14
    told = [f"{way}: {label}" for way, label in zip(("across", "down"), ways.pop(), strict=True) if label]
    if once and told:
        parts.append(f"<text x='0' y='{y + 6:.1f}'>{escape('; '.join(told))}</text>")
        y += 22
    return "".join(parts), y


def describe(drawing: Map | MapRow) -> str:
    """The maps in words: their size, where the lowest and the highest value stand, and how many marks point where."""
    told = []
    for one in maps_of(drawing):
        rows, columns = one.shape
        cells = [(v, r, c) for r, row in enumerate(one.values) for c, v in enumerate(row) if v is not None]
        text = f"{one.title}: {rows} rows, {columns} columns"
        if cells:
            ends = [
                f"{number_text(value, 4)} at {_where(one, r, c)}"
                for value, r, c in (min(cells, key=_first), max(cells, key=_first))
            ]
            text += f", {one.unit + ' ' if one.unit else ''}from {ends[0]} to {ends[1]}"
        if one.marks:
            values = [value for row in one.marks.values for value in row if value]
            up = sum(value > 0 for value in values)
            text += f"; {one.marks.label}: {up} positive, {len(values) - up} negative"
        told.append(text + ".")
    return " ".join(told[:8]) + (f" And {len(told) - 8} more maps." if len(told) > 8 else "")


def _first(cell: tuple[float, int, int]) -> float:
    return cell[0]


def _where(one: Map, row: int, column: int) -> str:
    down = one.row_labels[row] if one.row_labels else str(row + 1)
    along = one.column_labels[column] if one.column_labels else str(column + 1)
    return f"{one.y_label or 'row'} {down}, {one.x_label or 'column'} {along}"


def _left(one: Map, room: float) -> float:
    """Pixels that the labels of the rows take."""
    widest = max((len(label) for label in one.row_labels), default=0) * _LETTER
    return (18 if one.y_label else 0) + (min(widest, 0.35 * room) + 8 if one.row_labels else 0)


def _cell(one: Map, room: float) -> float:
    rows, columns = one.shape
    size = min((room - _left(one, room)) / columns, _TALLEST / rows, _LARGEST_CELL)
    return float(math.floor(size)) if size >= 4 else size


def _panel(panel: Panel, sharing: Map | MapRow, *, titled: bool, named: bool) -> str:
    """One map: its cells with what stands on them, its labels, and in a row of maps its title."""
    one, scale = panel.one, scale_of(sharing)
    texts, size = _numbers(one, scale, panel.cell)
    on: dict[int | None, list[str]] = defaultdict(list)  # what is written on each colour
    for (row, column), text in texts.items():
        value = one.values[row][column]
        y = panel.top + (row + 1) * panel.cell - 5 if one.marks else panel.top + (row + 0.5) * panel.cell + 4
        at = f"x='{panel.left + (column + 0.5) * panel.cell:.1f}' y='{y:.1f}' font-size='{size}'"
        on[None if value is None else scale.level(value)].append(f"<text {at} text-anchor='middle'>{text}</text>")
    height = panel.cell - (14 if texts else 0)
    for mark in marks_of(one, largest_mark(sharing)):
        value = one.values[mark.row][mark.column]
        x, y = panel.left + (mark.column + 0.5) * panel.cell, panel.top + mark.row * panel.cell + height / 2
        assert one.marks
        outline = _mark(one.marks.shape, x, y, mark.part * 0.8 * height)
        on[None if value is None else scale.level(value)].append(f"<path class='mark' d='{outline}'/>")
    title = ""
    if titled:
        shown = escape(cut(one.title, max(panel.right - panel.left, 60), 7.4))
        title = f"<text x='{panel.left:.1f}' y='{panel.top - 8:.1f}' font-weight='600'>{shown}</text>"
    return title + _cells(panel, scale, on) + _labels(panel, named=named)


def _cells(panel: Panel, scale: Scale, on: dict[int | None, list[str]]) -> str:
    """The cells, all of one colour together, and on each colour what is written there."""
    shapes = _shapes(panel, scale)
    palette = colours(scale.kind)
    parts = []
    for level in sorted(level for level in shapes if level is not None):
        path = f"<path class='cells' shape-rendering='crispEdges' d='{''.join(shapes[level])}'/>"
        written = f"<g class='on' fill='{ink(palette[level])}'>{''.join(on[level])}</g>" if on[level] else ""
        parts.append(f"<g class='{scale.css_class}{level}' fill='{palette[level]}'>{path}{written}</g>")
    if None in shapes:
        parts.append(f"<path class='missing' opacity='0.1' d='{''.join(shapes[None])}'/>")
        parts += on[None]
    box = f"M{panel.left - 1:.1f} {panel.top - 1:.1f}H{panel.right:.1f}V{panel.bottom:.1f}H{panel.left - 1:.1f}z"
    return f"{''.join(parts)}<path d='{box}' fill='none' stroke='currentColor' opacity='0.3'/>"


def _shapes(panel: Panel, scale: Scale) -> dict[int | None, list[str]]:
    """The outlines of the cells by the level of their colour; cells that touch and have one colour are one outline."""
    cell = panel.cell
    apart = 1 if cell >= _SPACED else 0
    shapes: dict[int | None, list[str]] = defaultdict(list)
    for row, values in enumerate(panel.one.values):
        levels = [None if value is None else scale.level(value) for value in values]
        y, begin = panel.top + row * cell, 0
        for end in range(1, len(levels) + 1):
            if end < len(levels) and levels[end] == levels[begin] and not apart:
                continue
            left, right = panel.left + begin * cell, panel.left + end * cell - apart
            shapes[levels[begin]].append(f"M{left:.1f} {y:.1f}H{right:.1f}V{y + cell - apart:.1f}H{left:.1f}z")
            begin = end
    return shapes


def _numbers(one: Map, scale: Scale, cell: float) -> tuple[dict[tuple[int, int], str], int]:
    """The values as text by cell, with decimals that tell them apart, and the size of letters; none if they do not fit.

    A cell without a value has a dash.
    """
    decimals = max(0, 1 - math.floor(math.log10((scale.high - scale.low) / 3)))
    texts = {
        (row, column): "–" if value is None else f"{value:z.{decimals}f}".replace("-", "−")
        for row, values in enumerate(one.values)
        for column, value in enumerate(values)
    }
    longest = max(len(text) for text in texts.values())
    fits = (size for size in (11, 10) if cell >= (40 if one.marks else 18) and longest * 0.575 * size + 3 <= cell)
    size = next(fits, 0)
    return (texts, size) if size else ({}, 0)


def _mark(shape: str, x: float, y: float, size: float) -> str:
    """The outline of an arrow of this signed length, or of a disc (positive) or ring (negative) of this diameter."""
    if shape == "circles":
        outer = max(abs(size) / 2, 0.8)
        hole = max(0.0, outer - 1.6) if size < 0 else 0.0
        return _circle(x, y, outer, 1) + (_circle(x, y, hole, 0) if hole else "")
    length = abs(size)
    sign = math.copysign(1.0, size)
    head, half, shaft = min(0.5 * length, 8.0), min(0.3 * length, 5.0), min(0.09 * length, 1.2)
    tip = y - sign * length / 2
    return (
        f"M{x:.1f} {tip:.1f}l{half:.1f} {sign * head:.1f}h{shaft - half:.1f}v{sign * (length - head):.1f}"
        f"h{-2 * shaft:.1f}v{-sign * (length - head):.1f}h{shaft - half:.1f}z"
    )


def _circle(x: float, y: float, radius: float, way: int) -> str:
    across = 2 * radius
    arc = f"a{radius:.2f} {radius:.2f} 0 1 {way}"
    return f"M{x - radius:.2f} {y:.2f}{arc} {across:.2f} 0{arc} {-across:.2f} 0z"


def _labels(panel: Panel, *, named: bool) -> str:
    """Labels of rows and columns, as many as there is room for, and the names of both directions."""
    one, cell = panel.one, panel.cell
    parts = []
    stride = math.ceil(14 / cell)
    room = panel.left
    for row, label in list(enumerate(one.row_labels))[::stride]:
        at = f"x='{panel.left - 6:.1f}' y='{panel.top + (row + 0.5) * cell + 4:.1f}'"
        parts.append(f"<text {at} text-anchor='end' font-size='11'>{escape(cut(label, max(room, 30), _LETTER))}</text>")
    widest = max((len(label) for label in one.column_labels), default=0) * _LETTER
    stride = math.ceil((widest + 4) / cell)
    for column, label in list(enumerate(one.column_labels))[::stride]:
        at = f"x='{panel.left + (column + 0.5) * cell:.1f}' y='{panel.bottom + 14:.1f}'"
        parts.append(f"<text {at} text-anchor='middle' font-size='11'>{escape(label)}</text>")
    if named and one.x_label:
        y = panel.bottom + (33 if one.column_labels else 16)
        middle = (panel.left + panel.right) / 2
        parts.append(f"<text x='{middle:.1f}' y='{y:.1f}' text-anchor='middle'>{escape(one.x_label)}</text>")
    if named and one.y_label:
        x = panel.left - _left(one, 1e9) + 11
        middle = (panel.top + panel.bottom) / 2
        parts.append(
            f"<text transform='translate({x:.1f} {middle:.1f}) rotate(-90)' text-anchor='middle'>"
            f"{escape(one.y_label)}</text>"
        )
    return f"<g class='axes'>{''.join(parts)}</g>"


def _legend(drawing: Map | MapRow, x: float, y: float, width: float) -> tuple[str, float]:
    """The colour scale with its unit above and round values below, and the pixel where it ends."""
    scale, unit = scale_of(drawing), maps_of(drawing)[0].unit
    parts = []
    ends = [f"{'≤' if way else '≥'} {number_text(end, 4)}" for way, end, beyond in
            ((1, scale.low, scale.below), (0, scale.high, scale.above)) if beyond]  # fmt: skip
    heading = unit + (f" ({', '.join(ends)} alike)" if ends else "")
    if heading:
        parts.append(f"<text x='{x:.1f}' y='{y + 10:.1f}'>{escape(heading)}</text>")
        y += 16
    step = width / LEVELS
    for level, colour in enumerate(colours(scale.kind)):
        at = f"M{x + level * step:.2f} {y:.1f}h{step + 0.3:.2f}v10h{-step - 0.3:.2f}z"
        parts.append(f"<g class='{scale.css_class}{level}' fill='{colour}'><path d='{at}'/></g>")
    ticks = round_ticks(scale.low, scale.high, max(2, int(width / 55)))
    for tick, text in zip(ticks, tick_texts(ticks), strict=True):
        # A level's colour stands for the values around it, so the first and last ones reach beyond the ends.
        at = x + ((tick - scale.low) / (scale.high - scale.low) * (LEVELS - 1) + 0.5) * step
        parts.append(f"<path d='M{at:.1f} {y + 10:.1f}v4' stroke='currentColor' opacity='0.5'/>")
        at = min(max(at, len(text) * _LETTER / 2 + 1), x + width - len(text) * _LETTER / 2 + 12)  # not beyond the edge
        parts.append(f"<text x='{at:.1f}' y='{y + 26:.1f}' text-anchor='middle' font-size='11'>{text}</text>")
    return f"<g class='scale'>{''.join(parts)}</g>", y + 34


def _marks_legend(drawing: Map | MapRow, y: float, width: int) -> tuple[str, float]:
    """What the marks mean and how large the largest is, and the pixel where that ends."""
    marks = next((one.marks for one in maps_of(drawing) if one.marks), None)
    if not marks:
        return "", y
    up, down = ("up", "down") if marks.shape == "arrows" else ("disc", "ring")
    said = [f"{marks.label}: {up} positive, {down} negative", f"the largest is {number_text(largest_mark(drawing), 3)}"]
    if len("; ".join(said)) * 6.8 <= width - 44:
        said = ["; ".join(said)]
    parts = [
        f"<path class='key' d='{_mark(marks.shape, 8 + 18 * place, y + 10, size)}'/>"
        for place, size in enumerate((14, -14))
    ]
    for line, text in enumerate(said):
        parts.append(f"<text x='44' y='{y + 14 + 16 * line:.1f}'>{escape(cut(text, width - 44, 6.8))}</text>")
    return "".join(parts), y + 10 + 16 * len(said)


def cut(text: str, width: float, letter: float) -> str:
    """The text, or as much of its beginning as fits into so many pixels."""
    fits = max(1, int(width / letter))
    return text if len(text) <= fits else text[: fits - 1] + "…"
