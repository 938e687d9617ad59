"""BrEaST, of Warsaw (Pawlowska et al. 2024, TCIA): 256 women, with the BI-RADS descriptors of each lesion.

    case001.png, case001_tumor.png, case001_other1.png, in one folder, and an Excel sheet beside or in it with CaseID,
    Image_filename, Mask_tumor_filename (several with "&"), Pixel_size (cm), Shape, Margin, Echogenicity,
    Posterior_features, Halo, Calcifications, BIRADS, Diagnosis, Classification, ...

One image a woman: the patient is the CaseID. Masks of other structures (`_other`) are not read. Left out for want of a
counterpart: "not applicable", calcifications that are "indefinable", and skin thickening. Of several margins the most
suspicious one is kept: spiculated before angular, microlobulated and indistinct.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from models.busgen.images.cases import Case, Scan
from models.busgen.readers.entries import Entry, entry_of, faulty, files_below, listing
from models.busgen.readers.scans import missing, scan_of_files
from models.busgen.readers.tables import sheet_rows
from models.busgen.readers.words import birads_of, pathology_of, subtype_of, text_of, translated
from models.common.errors import DataError

LICENCE = "CC BY 4.0"
_COLUMNS = ("CaseID", "Image_filename", "Mask_tumor_filename", "Pixel_size", "BIRADS", "Diagnosis", "Classification")
_MARGINS = ("spiculated", "angular", "microlobulated", "indistinct")  # the most suspicious first

_SAME = {word: word for word in ("anechoic", "hypoechoic", "isoechoic", "hyperechoic", "heterogeneous")}
_DESCRIPTORS = {
    "Shape": ("shape", {"oval": "oval", "round": "round", "irregular": "irregular"}),
    "Echogenicity": ("echo_pattern", {**_SAME, "complex cystic/solid": "complex"}),
    "Posterior_features": (
        "posterior",
        {"no": "none", "enhancement": "enhancement", "shadowing": "shadowing", "combined": "combined"},
    ),
    "Halo": ("halo", {"no": "none", "yes": "present"}),
    "Calcifications": (
        "calcifications",
        {
            "no": "none",
            "in a mass": "in_mass",
            "outside a mass": "outside_mass",
            "outside of a mass": "outside_mass",
            "intraductal": "intraductal",
        },
    ),
}


def tables(source: Path) -> tuple[Path, ...]:
    return (_sheet(source),)


def entries(source: Path) -> Iterator[Entry]:
    """Every row of the sheet in its order, then the tumour masks that no row names."""
    sheet = _sheet(source)
    pictures = {path.name: path for path in files_below(source, frozenset({".png"}))}
    named: set[str] = set()
    for row in sheet_rows(sheet, _COLUMNS):
        image, *masks = (pictures.get(name, source / name) for name in _names(row))
        named |= {path.name for path in (image, *masks)}
        yield entry_of(source, image, masks, partial(_scan, row, image, masks))
    for name, path in pictures.items():
        if name not in named and "_other" not in name:
            what = "a mask without an image" if "_tumor" in name else "an image"
            yield faulty(source, path, f"it is {what} that the sheet does not name")


def _sheet(source: Path) -> Path:
    if not source.is_dir():
        raise DataError(f"{source} is no folder\nlayout 'breast' fits: a folder with the PNG files and the Excel sheet")
    sheets = [path for path in files_below(source, frozenset({".xlsx"})) if not path.name.startswith("~")]
    sheets += [path for path in (source.with_suffix(".xlsx"),) if not sheets and path.is_file()]
    if len(sheets) != 1:
        raise DataError(
            f"{source} does not have the layout 'breast': it holds {len(sheets)} Excel sheets and {listing(source)}\n"
            "fits: the PNG files and one sheet, BrEaST-Lesions-USG-clinical-data-Dec-15-2023.xlsx"
        )
    return sheets[0]


def _names(row: Mapping[str, Any]) -> list[str]:
    """The image's file name and those of its masks."""
    masks = text_of(row["Mask_tumor_filename"]).split("&")
    return [text_of(row["Image_filename"]), *(name.strip() for name in masks if name.strip())]


def _scan(row: Mapping[str, Any], image: Path, masks: list[Path]) -> Scan:
    if lost := missing((image, *masks)):
        raise DataError(f"the sheet names it, and {lost} is missing; download or unpack the data set anew")
    pathology = pathology_of(row["Classification"], "its Classification")
    if not masks and pathology != "normal":
        raise DataError(f"the sheet names no tumour mask, and the case is {pathology}")
    case = Case(
        name=image.name,
        source="breast",
        patient=text_of(row["CaseID"]),
        pathology=pathology,
        subtype="" if pathology == "normal" else subtype_of(row["Diagnosis"]),
        birads=birads_of(row["BIRADS"]),
        descriptors={**translated(row, _DESCRIPTORS), **_margin(text_of(row.get("Margin")).lower())},
        mm_per_pixel=_mm(row["Pixel_size"]),
        licence=LICENCE,
    )
    return scan_of_files(case, image, masks)


def _margin(text: str) -> dict[str, str]:
    """The margin of "circumscribed" or "not circumscribed - angular&indistinct"."""
    if text == "circumscribed":
        return {"margin": text}
    found = [word for word in _MARGINS if word in text.partition("-")[2]]
    return {"margin": found[0]} if found else {}


def _mm(centimetres: Any) -> float | None:
    """Millimetres per pixel of Pixel_size, which is in centimetres."""
    text = text_of(centimetres)
    try:
        return 10.0 * float(text) if text else None
    except ValueError as fault:
        raise DataError(f"its Pixel_size is '{text}'; fits: centimetres, such as 0.0076") from fault
