"""BUS-BRA, of Rio de Janeiro (Gomez-Flores et al. 2024): images, masks, and a table with a box for each lesion.

    BUSBRA/Images/bus_0001-l.png     BUSBRA/Masks/mask_0001-l.png
    BUSBRA/bus_data.csv: ID, Case, Histology, Pathology, BIRADS, Device, Width, Height, Side, BBOX

A patient is a Case. BBOX is left, top, width and height in pixels. Whether it counts from 0 or, as MATLAB does, from 1
is not documented: it is read as from 0, and may run out of the image by a pixel, and by no more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from models.busgen.images.cases import Case, Scan
from models.busgen.readers.entries import Entry, entry_of, root_of, unnamed
from models.busgen.readers.pictures import read_mask, read_picture
from models.busgen.readers.scans import box_of_pixels, check_size, missing, scan_of
from models.busgen.readers.tables import csv_rows
from models.busgen.readers.words import birads_of, pathology_of, subtype_of, text_of
from models.common.errors import DataError

LICENCE = "CC BY 4.0 (Zenodo 8231412), academic use, cite"
_TABLE = "bus_data.csv"
_COLUMNS = ("ID", "Case", "Histology", "Pathology", "BIRADS", "Device", "Width", "Height", "BBOX")


def tables(source: Path) -> tuple[Path, ...]:
    return (_root(source) / _TABLE,)


def entries(source: Path) -> Iterator[Entry]:
    """Every row of the table in its order, then the files that no row names."""
    root = _root(source)
    named: set[str] = set()
    for row in csv_rows(root / _TABLE, _COLUMNS):
        number = row["ID"].removeprefix("bus_")
        image, mask = root / "Images" / f"{row['ID']}.png", root / "Masks" / f"mask_{number}.png"
        named |= {image.name, mask.name}
        yield entry_of(root, image, [mask], partial(_scan, root, row, image, mask))
    yield from unnamed(root, _TABLE, named, "Images", "Masks")


def _root(source: Path) -> Path:
    return root_of(source, "busbra", _TABLE, "Images/", "Masks/")


def _scan(root: Path, row: dict[str, str], image: Path, mask: Path) -> Scan:
    if lost := missing((image, mask)):
        raise DataError(f"{_TABLE} names it, and {lost} is missing; download or unpack the data set anew")
    picture = read_picture(image)
    check_size(picture, _number(row, "Width"), _number(row, "Height"))
    edges = [float(edge) for edge in re.findall(r"-?\d+(?:\.\d+)?", row["BBOX"])]
    if len(edges) != 4:
        raise DataError(f"its BBOX is '{row['BBOX']}'; fits: [left, top, width, height]")
    left, top, width, height = edges
    place = (left, top, left + width, top + height)
    case = Case(
        name=image.relative_to(root).as_posix(),
        source="busbra",
        patient=row["Case"],
        pathology=pathology_of(row["Pathology"], "its Pathology"),
        subtype=subtype_of(row["Histology"]),
        birads=birads_of(row["BIRADS"]),
        device=text_of(row["Device"]),
        boxes=(box_of_pixels(place, picture.pixels_HW.shape, slack=1.0),),
        licence=LICENCE,
    )
    return scan_of(case, picture, [read_mask(mask)])


def _number(row: dict[str, str], column: str) -> float:
    try:
        return float(row[column])
    except ValueError as fault:
        raise DataError(f"its {column} is '{row[column]}'; fits: a number of pixels") from fault
