"""Soft masks of lesions that are to be generated: an ellipse in the box, or a real outline moved into it."""

# H height   W width

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from models.busgen.images.cases import Box
from models.busgen.images.dataset import Images
from models.busgen.tailor.places import points_of

_FINE = 4  # points along a pixel's edge, whose mean is the pixel's share


@dataclass(frozen=True)
class Outlines:
    """Real lesions that lend their outline: their boxes, and the images that hold them."""

    images: Images
    rows: tuple[int, ...]
    boxes: tuple[Box, ...]


def outlines_of(images: Images) -> Outlines:
    """Every lesion that has a box to itself: where a case has several, no mask tells them apart."""
    alone = [(row, case.boxes[0]) for row, case in enumerate(images.cases) if len(case.boxes) == 1]
    return Outlines(images, tuple(row for row, _ in alone), tuple(box for _, box in alone))


def ellipse_mask(box: Box, side: int) -> np.ndarray:
    """The share of each pixel that the ellipse in this box covers, uint8 0 to 255, [H, W]."""
    return _in_box(box, side, lambda down, across: ((across - 0.5) ** 2 + (down - 0.5) ** 2 <= 0.25).astype(np.float64))


def moved_mask(box: Box, side: int, lenders: Outlines, alike: int, generator: np.random.Generator) -> np.ndarray:
    """A real lesion's mask, stretched into this box and mirrored at random, uint8 0 to 255, [H, W].

    It is one of those whose aspect is nearest to the box's, so that none is distorted much.
    """
    aspects = points_of(lenders.boxes)[:, 3]
    nearest = np.argsort(np.abs(aspects - points_of([box])[0, 3]), kind="stable")[:alike]
    chosen = int(generator.choice(nearest))
    mirrored = generator.random() < 0.5
    mask_HW = np.asarray(lenders.images.masks_NHW[lenders.rows[chosen]], np.float64) / 255.0
    own = lenders.boxes[chosen]

    def value(down: np.ndarray, across: np.ndarray) -> np.ndarray:
        across = 1.0 - across if mirrored else across
        rows = (own.top + down * (own.bottom - own.top)) * len(mask_HW) - 0.5
        columns = (own.left + across * (own.right - own.left)) * len(mask_HW) - 0.5
        return ndimage.map_coordinates(mask_HW, [rows, columns], order=1, mode="nearest")

    return _in_box(box, side, value)


def make_mask(
    boxes: Sequence[Box], side: int, lenders: Outlines | None, alike: int, generator: np.random.Generator
) -> np.ndarray:
    """The union of the outlines in these boxes, uint8, [H, W]; ellipses where nobody lends one."""
    union = np.zeros((side, side), np.uint8)
    for box in boxes:
        one = moved_mask(box, side, lenders, alike, generator) if lenders else ellipse_mask(box, side)
        union = np.maximum(union, one)
    return union


def _in_box(box: Box, side: int, value: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """A function of the place in the box, 0 to 1 down and across, as the mean over each pixel; 0 beyond the box."""
    top, bottom = int(box.top * side), int(np.ceil(box.bottom * side))
    left, right = int(box.left * side), int(np.ceil(box.right * side))
    down = ((np.arange(top * _FINE, bottom * _FINE) + 0.5) / (_FINE * side) - box.top) / (box.bottom - box.top)
    across = ((np.arange(left * _FINE, right * _FINE) + 0.5) / (_FINE * side) - box.left) / (box.right - box.left)
    down, across = np.meshgrid(down, across, indexing="ij")
    inside = (down >= 0) & (down <= 1) & (across >= 0) & (across <= 1)
    fine = np.where(inside, value(down, across), 0.0)
    mask = np.zeros((side, side), np.uint8)
    mean = fine.reshape(bottom - top, _FINE, right - left, _FINE).mean(axis=(1, 3))
    mask[top:bottom, left:right] = np.rint(255.0 * np.clip(mean, 0.0, 1.0))
    return mask
