"""A folder of one's own: a folder a class, in it the images, and a mask beside an image where there is one.

    benign/scan 1.png, scan 1_mask.png     malignant/...     normal/...
    malignant/dcis/scan 7.png              a folder within a class is the subtype
    dcis/scan 7.png                        so is one whose class is known, see `words.PATHOLOGY_OF_SUBTYPE`

Each image counts as a patient of its own, since a folder cannot say more: several images of a woman then fall into
different splits. Where patients are known, use the layout 'manifest'. Files that are no pictures are passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from models.busgen.images.cases import PATHOLOGIES, Case, Scan
from models.busgen.readers.entries import (
    Entry,
    entry_of,
    faulty,
    files_below,
    folders_below,
    in_folder,
    listing,
    relative,
)
from models.busgen.readers.pairs import images_and_masks
from models.busgen.readers.pictures import SUFFIXES
from models.busgen.readers.scans import scan_of_files
from models.busgen.readers.words import PATHOLOGY_OF_SUBTYPE, subtype_of
from models.common.errors import DataError

CLASSES = (*PATHOLOGIES, *PATHOLOGY_OF_SUBTYPE)


def tables(_source: Path) -> tuple[Path, ...]:
    return ()


def entries(source: Path) -> Iterator[Entry]:
    """Every picture, one folder after the other; those that lie in no class's folder are faults."""
    require_classes(source, "folder", "PNG, JPEG, BMP or TIFF files")
    for folder in in_folder(source):
        if folder.is_file() and folder.suffix.lower() in SUFFIXES:
            yield faulty(source, folder, f"it lies in no class's folder; fits: {', '.join(CLASSES)}")
        elif folder.is_dir() and class_of(source, folder / "any") is None:
            for path in files_below(folder, SUFFIXES):
                yield faulty(source, path, f"'{folder.name}' is no class; fits: {', '.join(CLASSES)}")
        elif folder.is_dir():
            yield from _class_entries(source, folder)


def require_classes(source: Path, layout: str, files: str) -> None:
    """Raises DataError where no folder of the source is a class."""
    if not source.is_dir():
        raise DataError(f"{source} is no folder\nlayout '{layout}' fits: folders named after classes, with {files}")
    if not any(path.is_dir() and class_of(source, path / "any") for path in in_folder(source)):
        raise DataError(
            f"{source} does not have the layout '{layout}': it holds {listing(source)}\n"
            f"fits: folders with {files}, named after their class: {', '.join(CLASSES)}"
        )


def class_of(source: Path, file: Path) -> tuple[str, str] | None:
    """The pathology and the subtype, or "", that the folders of a file name; None where they name no class."""
    folders = file.relative_to(source).parts[:-1]
    if not folders:
        return None
    first = subtype_of(folders[0])
    if first in PATHOLOGY_OF_SUBTYPE:
        return PATHOLOGY_OF_SUBTYPE[first], first
    return (first, subtype_of(folders[1]) if len(folders) > 1 else "") if first in PATHOLOGIES else None


def _class_entries(source: Path, folder: Path) -> Iterator[Entry]:
    for place in folders_below(folder):
        for image, masks in images_and_masks(place):
            if image is None:
                yield from (faulty(source, mask, "it is a mask without an image") for mask in masks)
            else:
                yield entry_of(source, image, masks, partial(_scan, source, image, masks))


def _scan(source: Path, image: Path, masks: list[Path]) -> Scan:
    found = class_of(source, image)
    assert found is not None
    name = relative(source, image)
    return scan_of_files(Case(name, "folder", name, found[0], found[1]), image, masks)
