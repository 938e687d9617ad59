"""BUS-UCLM, of Ciudad Real (Vallez et al. 2025): 683 images of 38 women, with masks in colour.

    BUS-UCLM/images/ALWI_000.png     BUS-UCLM/masks/ALWI_000.png: green benign, red malignant, black no lesion
    BUS-UCLM/INFO.csv with ";": Image, Resolution (856x606), Label, Doppler, Marks, Combined

A patient is the prefix of the name. The table's Doppler, Marks and Combined become the flags "doppler", "calipers" and
"combined". An image may show lesions of both kinds; its label is the table's, and its mask holds them all.
"""

# H height   W width

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from models.busgen.images.cases import Case, Scan
from models.busgen.readers.entries import Entry, entry_of, root_of, unnamed
from models.busgen.readers.pictures import read_coloured_mask, read_picture
from models.busgen.readers.scans import check_size, missing, scan_of
from models.busgen.readers.tables import csv_rows
from models.busgen.readers.words import pathology_of, yes
from models.common.errors import DataError

LICENCE = "CC BY 4.0 (Mendeley 7fvgj4jsp7)"
DEVICE = "Siemens ACUSON S2000"
_TABLE = "INFO.csv"
_FLAGS = {"Doppler": "doppler", "Marks": "calipers", "Combined": "combined"}


def tables(source: Path) -> tuple[Path, ...]:
    return (_root(source) / _TABLE,)


def entries(source: Path) -> Iterator[Entry]:
    """Every row of the table in its order, then the files that no row names."""
    root = _root(source)
    named: set[str] = set()
    for row in csv_rows(root / _TABLE, ("Image", "Resolution", "Label", *_FLAGS), ";"):
        name = row["Image"] if row["Image"].lower().endswith(".png") else f"{row['Image']}.png"
        named.add(name)
        image, mask = root / "images" / name, root / "masks" / name
        yield entry_of(root, image, [mask], partial(_scan, root, row, image, mask))
    yield from unnamed(root, _TABLE, named, "images", "masks")


def _root(source: Path) -> Path:
    return root_of(source, "uclm", _TABLE, "images/", "masks/")


def _scan(root: Path, row: dict[str, str], image: Path, mask: Path) -> Scan:
    if lost := missing((image, mask)):
        raise DataError(f"{_TABLE} names it, and {lost} is missing; download or unpack the data set anew")
    picture = read_picture(image)
    width, _, height = row["Resolution"].lower().partition("x")
    if not (width.strip().isdigit() and height.strip().isdigit()):
        raise DataError(f"its Resolution is '{row['Resolution']}'; fits: WIDTHxHEIGHT")
    check_size(picture, int(width), int(height))
    benign_HW, malignant_HW = read_coloured_mask(mask)
    pathology = pathology_of(row["Label"], "its Label")
    own_HW = malignant_HW if pathology == "malignant" else benign_HW
    if pathology != "normal" and not own_HW.any() and (benign_HW | malignant_HW).any():
        raise DataError(f"its Label is {pathology}, and its mask has only the other colour; mend one of the two")
    case = Case(
        name=image.relative_to(root).as_posix(),
        source="uclm",
        patient=image.stem.rpartition("_")[0] or image.stem,
        pathology=pathology,
        device=DEVICE,
        flags=tuple(flag for column, flag in _FLAGS.items() if yes(row[column], f"its {column}")),
        licence=LICENCE,
    )
    return scan_of(case, picture, [benign_HW, malignant_HW])
