"""Square views of images of any size: which square is cut out, and how its pixels become those of a small image."""

# H, W: height and width of the image   S: pixels of a prepared image's edge

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np
from PIL import Image

from models.busgen.images.boxes import box_mask, mask_boxes
from models.busgen.images.cases import Box, Case, Scan

_TIE = 1e-6  # a share that lies on the border between two bytes goes up, however the machine adds


@dataclass(frozen=True)
class Square:
    """A square in pixels of the image; what of it lies beyond the image is black."""

    left: float
    top: float
    edge: float


@dataclass(frozen=True)
class View:
    """A case with the square of its image that is used, in the size that is used; its boxes and scale are the square's.

    mask_SS: uint8, 0 to 255 as the share of a pixel that the lesion covers.
    """

    case: Case
    pixels_SS: np.ndarray
    mask_SS: np.ndarray


def whole_square(height: int, width: int) -> Square:
    """The smallest square with all of the image in it, which stands in its middle."""
    edge = max(height, width)
    return Square((width - edge) / 2, (height - edge) / 2, edge)


def centre_square(height: int, width: int) -> Square:
    """The largest square within the image, in its middle."""
    edge = min(height, width)
    return Square((width - edge) / 2, (height - edge) / 2, edge)


def lesion_square(boxes: Sequence[Box], height: int, width: int, margin: float) -> Square:
    """The square around all boxes, with `margin` of their longer side on each side, moved into the image.

    With as much margin as fits into the image; it reaches beyond the image only where the lesion itself is longer than
    the image's shorter side.
    """
    left, right = min(box.left for box in boxes) * width, max(box.right for box in boxes) * width
    top, bottom = min(box.top for box in boxes) * height, max(box.bottom for box in boxes) * height
    longer = max(right - left, bottom - top)
    edge = max(longer, min(longer * (1 + 2 * margin), height, width))
    return Square(_moved_in((left + right) / 2, edge, width), _moved_in((top + bottom) / 2, edge, height), edge)


def _moved_in(middle: float, edge: float, length: int) -> float:
    """Where the square begins along an axis: around `middle`, but within the image where it fits."""
    if edge >= length:
        return (length - edge) / 2
    return min(max(middle - edge / 2, 0.0), length - edge)


def viewed(scan: Scan, side: int, crop: str, margin: float) -> View:
    """The scan as a square of `side` pixels.

    crop: "lesion" is the square around the lesion, and the largest square where no lesion is known; "whole" is all of
    the image, with black beside it. A box is made of the mask where none is given, and a mask of the boxes.
    """
    height, width = scan.pixels_HW.shape
    boxes = scan.case.boxes or mask_boxes(scan.mask_HW)
    if crop == "whole":
        square = whole_square(height, width)
    else:
        square = lesion_square(boxes, height, width, margin) if boxes else centre_square(height, width)
    boxes = boxes_within(boxes, square, height, width)
    shares = _bytes(box_mask(boxes, side)) if scan.mask_HW is None else mask_shares(scan.mask_HW, square, side)
    known = scan.case.mm_per_pixel
    case = replace(scan.case, boxes=boxes, mm_per_pixel=known and known * square.edge / side)
    return View(case, reduced(scan.pixels_HW, square, side), shares)


def boxes_within(boxes: Iterable[Box], square: Square, height: int, width: int) -> tuple[Box, ...]:
    """The boxes in shares of the square, cut off at its edges; those beyond it are left out."""

    def share(pixels: float, begin: float) -> float:
        return min(max((pixels - begin) / square.edge, 0.0), 1.0)

    edges = [
        (share(box.left * width, square.left), share(box.top * height, square.top),
         share(box.right * width, square.left), share(box.bottom * height, square.top))
        for box in boxes
    ]  # fmt: skip
    return tuple(Box(*edge) for edge in edges if edge[0] < edge[2] and edge[1] < edge[3])


def reduced(pixels_HW: np.ndarray, square: Square, side: int) -> np.ndarray:
    """The square's pixels as [S, S], uint8: Lanczos, widened where it reduces, so that fine speckle does not alias."""
    padded, left, top = _padded(pixels_HW, square)
    box = (left, top, left + square.edge, top + square.edge)
    return np.asarray(Image.fromarray(padded).resize((side, side), Image.Resampling.LANCZOS, box=box))


def mask_shares(mask_HW: np.ndarray, square: Square, side: int) -> np.ndarray:
    """The share of each pixel of the square that the mask covers, exactly: [S, S], uint8, 255 for all of it."""
    padded, left, top = _padded(mask_HW.astype(np.uint8), square)
    down = _overlaps(top, square.edge, padded.shape[0], side)
    along = _overlaps(left, square.edge, padded.shape[1], side)
    return _bytes(down @ padded @ along.T)


def _bytes(shares: np.ndarray) -> np.ndarray:
    return np.floor(255 * shares + 0.5 + _TIE).clip(0, 255).astype(np.uint8)


def _overlaps(begin: float, edge: float, length: int, side: int) -> np.ndarray:
    """How much of each of S equal parts of a stretch lies in each of the pixels: [S, length], rows of sum 1."""
    starts = begin + edge / side * np.arange(side)[:, None]
    pixels = np.arange(length)[None, :]
    overlap = np.minimum(starts + edge / side, pixels + 1) - np.maximum(starts, pixels)
    return overlap.clip(0, None) * (side / edge)


def _padded(values_HW: np.ndarray, square: Square) -> tuple[np.ndarray, float, float]:
    """The image with as much black around it as the square needs, and the square's corner in it."""
    height, width = values_HW.shape
    before = (max(0, ceil(-square.top)), max(0, ceil(-square.left)))
    after = (max(0, ceil(square.top + square.edge) - height), max(0, ceil(square.left + square.edge) - width))
    padded = np.pad(values_HW, tuple(zip(before, after, strict=True)))
    return np.ascontiguousarray(padded), square.left + before[1], square.top + before[0]
