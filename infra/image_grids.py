"""Grids of grey images: what the report page needs to show them, and the PNG for the run page."""

import base64
import io
from dataclasses import dataclass
from typing import Any

from infra.maps import plain
from models.common.image_grid import ImageGrid

_GAP = 0.12  # between images of the picture, as a part of an image's longer edge
_ROOM = (600, 360)  # pixels of the picture that images may have, across and down
_LETTER = 5.9  # pixels of a letter in the picture, in the mean
_MOST_NOTED = 10  # columns; notes under more are too small to read
_MOST_LETTERS = 26  # of a row's label in the picture


@dataclass(frozen=True)
class ShownImage:
    """An image as it stands on the page: its address, which is its PNG itself, what it is in words, and its note."""

    source: str
    told: str
    note: str


@dataclass(frozen=True)
class ShownRow:
    label: str
    images: tuple[ShownImage | None, ...]


def shown_rows(grid: ImageGrid) -> list[ShownRow]:
    """The rows of the grid for the page; None where a place is empty."""
    rows, columns = grid.shape
    return [
        ShownRow(
            label=grid.row_labels[row] if grid.row_labels else "",
            images=tuple(_shown(grid, row, column) for column in range(columns)),
        )
        for row in range(rows)
    ]


def _shown(grid: ImageGrid, row: int, column: int) -> ShownImage | None:
    pixels = grid.pixels(row, column)
    if pixels is None:
        return None
    note = grid.notes[row][column] if grid.notes else ""
    source = f"data:image/png;base64,{base64.b64encode(as_png(pixels, grid.width, grid.height)).decode()}"
    return ShownImage(source, f"{grid.title}: {grid.name(row, column)}{f', {note}' if note else ''}", note)


def as_png(pixels: bytes, width: int, height: int) -> bytes:
    """A grey PNG of these bytes."""
    from PIL import Image

    file = io.BytesIO()
    Image.frombytes("L", (width, height), pixels).save(file, "PNG", optimize=True)
    return file.getvalue()


def plot_image_grid(canvas: Any, grid: ImageGrid) -> None:
    """Draws all images on matplotlib's canvas, with their labels, and their notes where there is room."""
    rows, columns = grid.shape
    gap = max(grid.height, grid.width) * _GAP
    down, along = grid.height + gap * (3 if grid.notes else 1), grid.width + gap
    letters = min(_ROOM[0] / (columns * along), _ROOM[1] / (rows * down)) * along / _LETTER  # above one image
    axes = canvas.add_subplot()
    for row in range(rows):
        for column in range(columns):
            if (pixels := grid.pixels(row, column)) is not None:
                left, top = column * along, row * down
                bottom = top + grid.height
                _plot(axes, grid, pixels, (left, left + grid.width, bottom, top))
                note = _cut(grid.notes[row][column], letters) if grid.notes and columns <= _MOST_NOTED else ""
                axes.text(left + grid.width / 2, bottom + 0.3 * gap, note, fontsize=7, ha="center", va="top")
    axes.set(xlim=(0, columns * along - gap), ylim=(rows * down - gap, 0), aspect="equal")
    above = [_cut(label, letters) for label in grid.column_labels]
    beside = [_cut(label, _MOST_LETTERS) for label in grid.row_labels]
    axes.set_xticks([column * along + grid.width / 2 for column in range(len(above))], above)
    axes.set_yticks([row * down + grid.height / 2 for row in range(len(beside))], beside)
    axes.tick_params(length=0, labelsize=8, labeltop=True, labelbottom=False)
    axes.spines[:].set_visible(False)
    canvas.suptitle(plain(grid.title), fontsize=12, x=0.02, ha="left")


def _plot(axes: Any, grid: ImageGrid, pixels: bytes, extent: tuple[float, ...]) -> None:
    import numpy as np

    image_HW = np.frombuffer(pixels, np.uint8).reshape(grid.height, grid.width)
    look = "bilinear" if grid.smooth else "auto"
    axes.imshow(image_HW, cmap="gray", vmin=0, vmax=255, extent=extent, interpolation=look)


def _cut(label: str, room: float) -> str:
    """The label, or as much of its beginning as so many letters are, for matplotlib."""
    most = max(3, int(room))
    return plain(label if len(label) <= most else f"{label[: most - 1]}…")
