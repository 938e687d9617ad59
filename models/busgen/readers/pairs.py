"""Folders in which an image's masks lie beside it under its name with `_mask` behind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from models.busgen.readers.entries import in_folder
from models.busgen.readers.pictures import SUFFIXES

_MASK = re.compile(r"(?P<image>.+)_mask(_?\d+)?", re.IGNORECASE)


def images_and_masks(folder: Path) -> Iterator[tuple[Path | None, list[Path]]]:
    """The images of one folder, each with its masks, in natural order; None with masks that have no image.

    An image's masks are `NAME_mask.png`, `NAME_mask_1.png` and so on, of any picture format.
    """
    pictures = [path for path in in_folder(folder) if path.is_file() and path.suffix.lower() in SUFFIXES]
    masks: dict[str, list[Path]] = {}
    images = []
    for path in pictures:
        match = _MASK.fullmatch(path.stem)
        if match:
            masks.setdefault(match["image"], []).append(path)
        else:
            images.append(path)
    for image in images:
        yield image, masks.pop(image.stem, [])
    for orphans in masks.values():
        yield None, orphans
