"""BUSI, the breast ultrasound images of Cairo (Al-Dhabyani et al. 2020): a folder a class, masks beside the images.

    Dataset_BUSI_with_GT/benign/benign (1).png, benign (1)_mask.png, benign (1)_mask_1.png
    Dataset_BUSI_with_GT/malignant/...          Dataset_BUSI_with_GT/normal/...

780 images of 600 women, but nothing says which images are of one woman: each image counts as a patient of its own, so
that a split cannot keep a woman together. The set is known for near-duplicates, for lesions that stand in both classes,
and for drawn-in marks; finding them is the audit's part.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from models.busgen.images.cases import Case, Scan
from models.busgen.readers.entries import Entry, entry_of, faulty, root_of
from models.busgen.readers.pairs import images_and_masks
from models.busgen.readers.scans import scan_of_files
from models.common.errors import DataError

LICENCE = "CC BY (article); mirrors differ, do not redistribute"
DEVICE = "GE LOGIQ E9"


def tables(_source: Path) -> tuple[Path, ...]:
    return ()


def entries(source: Path) -> Iterator[Entry]:
    """Every image of the three classes, benign first."""
    root = root_of(source, "busi", "benign/", "malignant/")
    for pathology in ("benign", "malignant", "normal"):
        folder = root / pathology
        for image, masks in images_and_masks(folder) if folder.is_dir() else ():
            if image is None:
                yield from (faulty(root, mask, "it is a mask without an image") for mask in masks)
            else:
                yield entry_of(root, image, masks, partial(_scan, root, pathology, image, masks))


def _scan(root: Path, pathology: str, image: Path, masks: list[Path]) -> Scan:
    if not masks and pathology != "normal":
        raise DataError(f"it has no mask; fits: {image.stem}_mask.png beside it")
    name = image.relative_to(root).as_posix()
    return scan_of_files(Case(name, "busi", name, pathology, device=DEVICE, licence=LICENCE), image, masks)
