"""Maps, whoever draws them: how many stand side by side, how large their marks are, and the PNG for the run page."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from infra.ramps import colours, ink, scale_of
from models.common.report import Map, MapRow


@dataclass(frozen=True)
class Mark:
    """One mark: its cell, and its length (arrows) or diameter (circles) as a signed part of the largest."""

    row: int
    column: int
    part: float


def maps_of(drawing: Map | MapRow) -> tuple[Map, ...]:
    return drawing.maps if isinstance(drawing, MapRow) else (drawing,)


def across(drawing: Map | MapRow, fits: int) -> int:
    """How many maps stand side by side where `fits` would: rows of equal length, or a divisor of the wanted columns."""
    count = len(maps_of(drawing))
    wanted = drawing.columns if isinstance(drawing, MapRow) else None
    if wanted:
        return min(count, next(number for number in range(min(wanted, fits), 0, -1) if wanted % number == 0))
    rows = -(-count // fits)
    return -(-count // rows)


def largest_mark(drawing: Map | MapRow) -> float:
    """The largest absolute value of a mark, which the others are in proportion to."""
    marks = [one.marks.values for one in maps_of(drawing) if one.marks]
    return max((abs(value) for rows in marks for row in rows for value in row if value is not None), default=0.0)


def marks_of(one: Map, largest: float) -> Iterator[Mark]:
    """The map's marks that are not zero; a circle's area, and an arrow's length, is in proportion to its value."""
    if not one.marks or not largest:
        return
    for row, values in enumerate(one.marks.values):
        for column, value in enumerate(values):
            if value:
                part = abs(value) / largest
                yield Mark(row, column, math.copysign(math.sqrt(part) if one.marks.shape == "circles" else part, value))


def plot_maps(canvas: Any, drawing: Map | MapRow) -> None:
    """Draws the maps on matplotlib's canvas, with one colour scale, or with one each."""
    maps = maps_of(drawing)
    shared = isinstance(drawing, Map) or drawing.common_scale
    columns = across(drawing, math.ceil(math.sqrt(1.8 * len(maps))))  # the picture is nearly twice as wide as high
    grid = canvas.subplots(-(-len(maps) // columns), columns, squeeze=False)
    for axes in grid.flat[len(maps) :]:
        axes.set_visible(False)
    for axes, one in zip(grid.flat, maps, strict=False):
        shown = _plot(axes, one, drawing if shared else one, size=12 if len(maps) == 1 else 9)
        if not shared:
            canvas.colorbar(shown, ax=axes, label=plain(one.unit))
        elif one is maps[-1]:
            canvas.colorbar(shown, ax=grid, label=plain(one.unit), shrink=0.9)
    if isinstance(drawing, MapRow):
        canvas.suptitle(plain(drawing.title), fontsize=12, x=0.02, ha="left")


def _plot(axes: Any, one: Map, sharing: Map | MapRow, size: int) -> Any:
    from matplotlib.colors import ListedColormap, Normalize

    scale = scale_of(sharing)
    palette = colours(scale.kind)
    shown = axes.imshow(
        [[math.nan if value is None else value for value in row] for row in one.values],
        cmap=ListedColormap(palette),
        norm=Normalize(scale.low, scale.high),
        interpolation="nearest",
    )
    axes.set_title(plain(one.title), fontsize=size, loc="left")
    axes.set_xticks(range(len(one.column_labels)), [plain(label) for label in one.column_labels])
    axes.set_yticks(range(len(one.row_labels)), [plain(label) for label in one.row_labels])
    axes.set_xlabel(plain(one.x_label), fontsize=9)
    axes.set_ylabel(plain(one.y_label), fontsize=9)
    axes.tick_params(labelsize=8)
    for mark in marks_of(one, largest_mark(sharing)):
        value = one.values[mark.row][mark.column]
        _plot_mark(axes, one, mark, "#1c2126" if value is None else ink(palette[scale.level(value)]))
    return shown


def _plot_mark(axes: Any, one: Map, mark: Mark, colour: str) -> None:
    from matplotlib.patches import Circle, FancyArrow

    assert one.marks
    if one.marks.shape == "circles":
        filled = mark.part > 0
        axes.add_patch(Circle((mark.column, mark.row), 0.38 * abs(mark.part), fill=filled, color=colour, linewidth=1.2))
        return
    length = -0.76 * mark.part  # rows count downwards, and up is up
    axes.add_patch(
        FancyArrow(
            *(mark.column, mark.row - length / 2, 0, length), color=colour, linewidth=0,
            width=min(0.05, 0.15 * abs(length)), head_width=min(0.26, 0.6 * abs(length)),
            head_length=0.45 * abs(length), length_includes_head=True,
        )
    )  # fmt: skip


def plain(text: str) -> str:
    """Text that matplotlib takes literally: no formulas between dollar signs, no label hidden by its first letter."""
    return text.replace("$", r"\$").removeprefix("_") or " "
