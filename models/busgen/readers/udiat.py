"""Dataset B of UDIAT, Sabadell (Yap et al. 2018): 163 lesions of different women.

    original/000001.png     GT/000001.png     DatasetB.xlsx: Image, Type, and a diagnosis in some copies

One image a woman: the patient is the image's number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from models.busgen.images.cases import Case, Scan
from models.busgen.readers.entries import Entry, entry_of, root_of, unnamed
from models.busgen.readers.scans import missing, scan_of_files
from models.busgen.readers.tables import sheet_rows
from models.busgen.readers.words import pathology_of, subtype_of, text_of
from models.common.errors import DataError

LICENCE = "by signed agreement with UDIAT, research only"
DEVICE = "Siemens ACUSON C512"
_TABLE = "DatasetB.xlsx"


def tables(source: Path) -> tuple[Path, ...]:
    return (_root(source) / _TABLE,)


def entries(source: Path) -> Iterator[Entry]:
    """Every row of the sheet in its order, then the files that no row names."""
    root = _root(source)
    named: set[str] = set()
    for row in sheet_rows(root / _TABLE, ("Image", "Type")):
        name = f"{text_of(row['Image']).removesuffix('.png'):0>6}.png"
        named.add(name)
        image, mask = root / "original" / name, root / "GT" / name
        yield entry_of(root, image, [mask], partial(_scan, root, row, image, mask))
    yield from unnamed(root, _TABLE, named, "original", "GT")


def _root(source: Path) -> Path:
    return root_of(source, "udiat", _TABLE, "original/", "GT/")


def _scan(root: Path, row: Mapping[str, Any], image: Path, mask: Path) -> Scan:
    if lost := missing((image, mask)):
        raise DataError(f"{_TABLE} names it, and {lost} is missing; unpack the data set anew")
    case = Case(
        name=image.relative_to(root).as_posix(),
        source="udiat",
        patient=image.stem,
        pathology=pathology_of(row["Type"], "its Type"),
        subtype=subtype_of(row.get("Diagnosis")),
        device=DEVICE,
        licence=LICENCE,
    )
    return scan_of_files(case, image, [mask])
