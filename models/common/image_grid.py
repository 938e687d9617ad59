"""Grey images side by side, as one of the drawings of a report."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, PositiveInt, model_validator

from models.common.config import Config

if TYPE_CHECKING:
    import numpy as np


class ImageGrid(Config):
    """Rows of grey images of one size, 8 bits a pixel; made of arrays by `ImageGrid.of`.

    Raises ValidationError where images, labels or notes do not fit together.
    """

    title: str
    images: tuple[tuple[str | None, ...], ...]  # base64 of an image's bytes, row by row; None leaves its place empty
    height: PositiveInt  # of each image, in pixels
    width: PositiveInt
    row_labels: tuple[str, ...] = ()
    column_labels: tuple[str, ...] = ()
    notes: tuple[tuple[str, ...], ...] = ()  # a few words under each image, such as a distance
    scale: Annotated[int, Field(ge=1, le=32)] = 1  # a pixel is shown so many times as large
    smooth: bool = False  # enlarged pixels run into each other; otherwise each is a square
    caption: str = ""

    @classmethod
    def of(cls, title: str, rows: Sequence[Sequence[np.ndarray | None]] | np.ndarray, **fields: Any) -> Self:
        """The grid of these images [height, width], uint8: an array of four axes, or rows of images and Nones.

        fields: the others of this class. Raises ValueError for an array that is no such image.
        """
        first = next((image for row in rows for image in row if image is not None), None)
        if first is None:
            raise ValueError(f"image grid '{title}' has no images; leave it out, or give it one")
        encoded = tuple(
            tuple(None if image is None else _encoded(title, image, first.shape) for image in row) for row in rows
        )
        height, width = first.shape
        return cls(title=title, images=encoded, height=height, width=width, **fields)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.images), len(self.images[0])

    def pixels(self, row: int, column: int) -> bytes | None:
        """The image there, a byte for each pixel, row by row from the top; None where the place is empty."""
        image = self.images[row][column]
        return None if image is None else base64.b64decode(image)

    def name(self, row: int, column: int) -> str:
        """What the image is, in words: its labels, or its place where it has none."""
        down = self.row_labels[row] if self.row_labels else f"row {row + 1}"
        along = self.column_labels[column] if self.column_labels else f"column {column + 1}"
        return f"{down}, {along}"

    @model_validator(mode="after")
    def _is_a_grid(self) -> Self:
        if not self.images or not self.images[0]:
            raise ValueError(f"image grid '{self.title}' has no images; leave it out, or give it one")
        rows, columns = self.shape
        for what, grid in (("images", self.images), ("notes", self.notes or self.images)):
            lengths = [len(row) for row in grid]
            if lengths != [columns] * rows:
                shown = ", ".join(map(str, lengths[:8])) + (", ..." if rows > 8 else "")
                raise ValueError(f"{what} of image grid '{self.title}' have rows of {shown}; give {rows} of {columns}")
        for what, labels, cells in (
            ("row_labels", self.row_labels, rows),
            ("column_labels", self.column_labels, columns),
        ):
            if labels and len(labels) != cells:
                raise ValueError(f"image grid '{self.title}' has {len(labels)} {what}; give {cells}, or none")
        return self

    @model_validator(mode="after")
    def _holds_its_pixels(self) -> Self:
        size = self.height * self.width
        for row, images in enumerate(self.images):
            for column, image in enumerate(images):
                found = size if image is None else _bytes_of(image)
                if found != size:
                    where = f"image in row {row + 1}, column {column + 1} of image grid '{self.title}'"
                    what = "is not base64" if found is None else f"has {found} bytes"
                    raise ValueError(f"{where} {what}; give {self.width} by {self.height} pixels, as ImageGrid.of does")
        return self


def _bytes_of(text: str) -> int | None:
    """How many bytes the text stands for; None where it is not base64."""
    try:
        return len(base64.b64decode(text, validate=True))
    except ValueError:
        return None


def _encoded(title: str, image: np.ndarray, shape: tuple[int, ...]) -> str:
    """The image's bytes as text; raises ValueError where it is not a grey image of this shape."""
    if image.ndim != 2 or str(image.dtype) != "uint8" or image.shape != shape:
        found = f"an image of {image.dtype} and shape {image.shape}"
        raise ValueError(f"image grid '{title}' has {found}; give uint8 [height, width], all of one size")
    return base64.b64encode(image.tobytes()).decode()
