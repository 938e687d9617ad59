"""A scan out of an image, its masks and its boxes, and the checks that all data sets share."""

# H height   W width

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from models.busgen.images.boxes import mask_boxes
from models.busgen.images.cases import Box, Case, Scan
from models.busgen.readers.pictures import Picture, read_mask, read_picture
from models.common.errors import DataError


def scan_of_files(case: Case, image: Path, masks: Sequence[Path]) -> Scan:
    """The scan of an image file and its mask files; raises DataError with the reason where they do not fit."""
    picture = read_picture(image)
    shapes = [_read_named(mask, image) for mask in masks]
    return scan_of(case, picture, shapes)


def scan_of(case: Case, picture: Picture, masks: Sequence[np.ndarray]) -> Scan:
    """The scan of a decoded image and its masks; the masks are united.

    Boxes are the case's own, and where it has none one around each mask. A normal case needs no mask: it has no lesion.
    Raises DataError where a mask has another size than the image or is empty, or where a normal case has a lesion.
    """
    height, width = picture.pixels_HW.shape
    for mask_HW in masks:
        if mask_HW.shape != (height, width):
            found = f"{mask_HW.shape[1]} x {mask_HW.shape[0]}"
            raise DataError(f"its mask has {found} pixels, the image {width} x {height}; fits: one size")
    union_HW = np.logical_or.reduce(masks) if masks else None
    if case.pathology == "normal":
        if case.boxes or (union_HW is not None and union_HW.any()):
            raise DataError("it is called normal, and a mask or box marks a lesion in it; mend one of the two")
        union_HW = np.zeros((height, width), dtype=bool)
    elif union_HW is not None and not union_HW.any():
        raise DataError(f"its mask is empty, and the case is {case.pathology}; fits: a mask that marks the lesion")
    boxes = case.boxes or tuple(box for mask_HW in masks for box in mask_boxes(mask_HW))
    flags = tuple(dict.fromkeys((*case.flags, *picture.flags)))
    return Scan(replace(case, boxes=boxes, flags=flags, sha256=picture.sha256), picture.pixels_HW, union_HW)


def box_of_pixels(edges: Sequence[float], shape_HW: tuple[int, int], *, slack: float = 0.0) -> Box:
    """The box of left, top, right and bottom in pixels; raises DataError where it does not lie in the image.

    slack: pixels by which it may run out, and is cut: some count from 1, some to the last pixel's far edge.
    """
    (height, width), (left, top, right, bottom) = shape_HW, edges
    inside = -slack <= left < right <= width + slack and -slack <= top < bottom <= height + slack
    clipped = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
    if not (inside and clipped[0] < clipped[2] and clipped[1] < clipped[3]):
        raise DataError(
            f"its box {left:g}, {top:g} to {right:g}, {bottom:g} does not lie in the image of {width} x {height} pixels"
        )
    return Box(clipped[0] / width, clipped[1] / height, clipped[2] / width, clipped[3] / height)


def check_size(picture: Picture, width: float, height: float) -> None:
    """Raises DataError where the image has not the size that its table gives."""
    if picture.pixels_HW.shape != (height, width):
        found = f"{picture.pixels_HW.shape[1]} x {picture.pixels_HW.shape[0]}"
        raise DataError(f"the table says {width:g} x {height:g} pixels, the image has {found}; fits: the original file")


def missing(files: Iterable[Path]) -> str:
    """The names of those files that do not exist, with commas between."""
    return ", ".join(path.name for path in files if not path.is_file())


def _read_named(mask: Path, image: Path) -> np.ndarray:
    """The mask; an error of it names it, since the quarantine names the image."""
    try:
        return read_mask(mask)
    except DataError as fault:
        raise DataError(f"its mask {mask.name}: {fault}") from fault
