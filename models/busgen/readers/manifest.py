"""A manifest: a CSV or JSON file with one row an image, which carries a case's fields and the paths of its files.

    image                  path of the picture, from the manifest's folder                                  required
    pathology              normal, benign or malignant                                                      required
    mask                   path of its mask; several with "|" in CSV, as a list in JSON
    patient                one name for all images of a person; without it the image is its own patient
    boxes                  [[left, top, right, bottom], ...] in shares of the width and height
    boxes_px               the same in pixels
    descriptors            {"shape": "oval", ...}, or a column for each: shape, margin, ...
    flags                  "doppler|calipers" in CSV, a list in JSON
    mm_per_pixel           of the picture as it stands
    sha256                 checked against the file where given
    name, source, subtype, birads, device, licence, split, truth      as `Case` has them

A column of another name is refused, since it would be a typing error that nobody sees. JSON is a list of objects.
"""

# H height   W width

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from models.busgen.images.cases import Box, Case, Scan
from models.busgen.images.descriptors import DESCRIPTORS, numbers_of
from models.busgen.readers.entries import Entry, entry_of, listing
from models.busgen.readers.pictures import read_mask, read_picture
from models.busgen.readers.scans import box_of_pixels, scan_of
from models.busgen.readers.tables import csv_rows, json_of
from models.busgen.readers.words import birads_of, pathology_of, subtype_of, text_of
from models.common.errors import DataError

NAMES = ("manifest.csv", "manifest.json")
FLAGS = ("doppler", "calipers", "combined", "overlay")
_EDGES = ("left", "top", "right", "bottom")
_TEXTS = ("name", "source", "patient", "device", "licence", "sha256", "split")
_COLUMNS = frozenset(
    {"image", "mask", "pathology", "subtype", "birads", "boxes", "boxes_px", "descriptors", "flags", "mm_per_pixel"}
    | {"truth", *_TEXTS, *DESCRIPTORS}
)


def tables(source: Path) -> tuple[Path, ...]:
    return (_file(source),)


def entries(source: Path) -> Iterator[Entry]:
    """Every row in its order."""
    path = _file(source)
    for number, row in enumerate(rows_of(path), start=1):
        image = path.parent / image_of(path, row, number)
        masks = [path.parent / name for name in words_of(row, "mask")]
        yield entry_of(path.parent, image, masks, partial(_scan, row, image, masks))


def find(folder: Path) -> Path | None:
    """The manifest of a folder, if it has one."""
    found = [folder / name for name in NAMES if (folder / name).is_file()]
    if len(found) > 1:
        raise DataError(f"{folder} has {' and '.join(NAMES)}; remove one of them")
    return found[0] if found else None


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a manifest; raises DataError for columns that it does not know."""
    if path.suffix.lower() == ".json":
        held = json_of(path)
        if not isinstance(held, list) or not all(isinstance(row, dict) for row in held):
            raise DataError(f"{path} is no list of objects\nfits: [{{'image': ..., 'pathology': ...}}, ...]")
        rows: Iterator[dict[str, Any]] = iter(held)
    else:
        rows = iter(csv_rows(path, ("image", "pathology")))
    for row in rows:
        unknown = sorted(set(row) - _COLUMNS)
        if unknown:
            raise DataError(f"{path} has the column {', '.join(unknown)}\nfits: {', '.join(sorted(_COLUMNS))}")
        yield row


def image_of(path: Path, row: Mapping[str, Any], number: int) -> str:
    """The image that a row names; raises DataError where it names none."""
    name = text_of(row.get("image"))
    if not name:
        raise DataError(f"{path}, row {number} names no image")
    return name


def words_of(row: Mapping[str, Any], column: str) -> list[str]:
    """The words of a cell: a list's, or those between "|"."""
    value = row.get(column)
    words = value if isinstance(value, list) else text_of(value).split("|")
    return [text_of(word) for word in words if text_of(word)]


def case_of(row: Mapping[str, Any], name: str, source: str) -> Case:
    """The case of a row, without boxes. name, source: what it is called where the row does not say."""
    texts = {column: text_of(row.get(column)) for column in _TEXTS}
    flags = words_of(row, "flags")
    if set(flags) - set(FLAGS):
        raise DataError(f"its flags are {', '.join(flags)}; fits: {', '.join(FLAGS)}")
    spacing = _number(row, "mm_per_pixel")
    if spacing is not None and spacing <= 0:
        raise DataError(f"its mm_per_pixel is {spacing:g}; fits: more than 0")
    return Case(
        name=texts["name"] or name,
        source=texts["source"] or source,
        patient=texts["patient"] or name,
        pathology=pathology_of(row.get("pathology"), "its pathology"),
        subtype=subtype_of(row.get("subtype")),
        birads=birads_of(row.get("birads")),
        device=texts["device"],
        descriptors=_descriptors(row),
        mm_per_pixel=spacing,
        flags=tuple(flags),
        licence=texts["licence"],
        sha256=texts["sha256"].lower(),
        split=texts["split"],
        truth=_truth(row),
    )


def boxes_of(row: Mapping[str, Any], shape_HW: tuple[int, int]) -> tuple[Box, ...]:
    """The boxes of a row, in shares of an image of this size; raises DataError for one that does not lie in it."""
    shares, pixels = _edges(row, "boxes"), _edges(row, "boxes_px")
    if shares and pixels:
        raise DataError("it has boxes and boxes_px; fits: one of the two")
    return tuple(Box(*edges) for edges in shares) + tuple(box_of_pixels(edges, shape_HW) for edges in pixels)


def _file(source: Path) -> Path:
    if source.is_file():
        return source
    found = find(source) if source.is_dir() else None
    if found is None:
        holds = f"holds {listing(source)}" if source.is_dir() else "does not exist"
        raise DataError(f"{source} {holds}\nlayout 'manifest' fits: a CSV or JSON file, or a folder with {NAMES[0]}")
    return found


def _scan(row: Mapping[str, Any], image: Path, masks: list[Path]) -> Scan:
    if image.suffix.lower() in (".dcm", ".dicom"):
        raise DataError("it is a DICOM file; the layout 'dicom' reads it, with this manifest beside it")
    case = case_of(row, text_of(row["image"]), "manifest")
    picture = read_picture(image)
    if case.sha256 not in ("", picture.sha256):
        raise DataError(f"its SHA-256 is {picture.sha256[:12]}..., the manifest says {case.sha256[:12]}...")
    case = Case(**{**vars(case), "boxes": boxes_of(row, picture.pixels_HW.shape)})
    return scan_of(case, picture, [read_mask(mask) for mask in masks])


def _edges(row: Mapping[str, Any], column: str) -> list[list[float]]:
    boxes = _json(row, column) or []
    try:
        listed = [[box[edge] for edge in _EDGES] if isinstance(box, dict) else box for box in boxes]
        found = [[float(edge) for edge in box] for box in listed]
    except (TypeError, ValueError, KeyError) as fault:
        raise DataError(f"its {column} are {boxes}; fits: [[left, top, right, bottom], ...]") from fault
    if any(len(box) != 4 or not all(math.isfinite(edge) for edge in box) for box in found):
        raise DataError(f"its {column} are {boxes}; fits: [[left, top, right, bottom], ...]")
    return found


def _descriptors(row: Mapping[str, Any]) -> dict[str, str]:
    held = _json(row, "descriptors") or {}
    if not isinstance(held, dict):
        raise DataError(f"its descriptors are {held}; fits: an object, such as {{'shape': 'oval'}}")
    descriptors = {str(name): str(word) for name, word in held.items()}
    # Not `text_of`, for which "none" is nothing known: here it is a finding, such as no halo.
    columns = {name: str(row.get(name) or "").strip().lower() for name in DESCRIPTORS}
    descriptors |= {name: word for name, word in columns.items() if word}
    numbers_of(descriptors)  # raises where the lexicon does not have one of them
    return descriptors


def _truth(row: Mapping[str, Any]) -> dict[str, float]:
    held = _json(row, "truth") or {}
    try:
        return {str(name): float(value) for name, value in dict(held).items()}
    except (TypeError, ValueError) as fault:
        raise DataError(f"its truth is {held}; fits: an object of numbers") from fault


def _json(row: Mapping[str, Any], column: str) -> Any:
    """A cell that holds a list or an object: as it is from JSON, parsed from CSV."""
    value = row.get(column)
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value.strip() else None
    except ValueError as fault:
        raise DataError(f"its {column} is {value!r}; fits: JSON") from fault


def _number(row: Mapping[str, Any], column: str) -> float | None:
    text = text_of(row.get(column))
    try:
        number = float(text) if text else None
    except ValueError as fault:
        raise DataError(f"its {column} is '{text}'; fits: a number") from fault
    if number is not None and not math.isfinite(number):
        raise DataError(f"its {column} is '{text}'; fits: a number")
    return number
