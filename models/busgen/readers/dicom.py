"""DICOM files of ultrasound, single and moving, in folders named after their class or with a manifest beside them.

    benign/0001.dcm     malignant/dcis/0002.dcm     normal/...         as the layout 'folder' has them, or
    manifest.csv with image = 0001.dcm, or 0001.dcm#12 for one frame   as the layout 'manifest' has them

Where a manifest names a file it decides; a row of a frame adds to that of its file, and the folder says what neither
does. Boxes and masks are those of the whole frame as it is stored and are cropped with it. A file counts as DICOM by
its first bytes or by the ending .dcm; others are passed over.

What identifies a person is never taken over: a patient is the SHA-256 of PatientID, else of StudyInstanceUID, else of
the file's path; names, dates, institutions and numbers are not read. A hash of a short number can be found again by
trying all numbers: it keeps frames together, and is no anonymisation. Frames are cropped to the file's ultrasound
regions, which is where the scanner's interface ends; a file with several such regions gives a scan of each. Where a
file names no region and does not say that it is free of burned-in text, its scans are flagged "overlay".

Frames are named FILE#1, FILE#2, ... as DICOM counts them, several regions FILE@1, FILE@2 or FILE@1#1, ...; those of
one file share its PatientID and so its patient. They are decoded one by one.
"""

# H height   W width   C channels

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import FileDataset

from models.busgen.images.cases import Box, Case, Quarantined, Scan
from models.busgen.readers import manifest
from models.busgen.readers.dicom_frames import Region, as_grey, frames, read_header, regions_of
from models.busgen.readers.entries import Entry, faulty, files_below, relative
from models.busgen.readers.folder import class_of, require_classes
from models.busgen.readers.pictures import Picture, read_mask
from models.busgen.readers.scans import box_of_pixels, scan_of
from models.busgen.readers.words import text_of
from models.common.errors import DataError

_PREAMBLE, _MAGIC = 128, b"DICM"
_INDEX = "DICOMDIR"  # a list of the files beside it, without pixels
_HASH_DIGITS = 16

Row = Mapping[str, Any]
Rows = Mapping[str, Mapping[int, Row]]  # of a manifest, by file and frame; those of a whole file as of frame 0


def tables(source: Path) -> tuple[Path, ...]:
    found = manifest.find(source) if source.is_dir() else None
    return () if found is None else (found,)


def entries(source: Path) -> Iterator[Entry]:
    """Every DICOM file, one folder after the other, then the rows of the manifest that name none."""
    found = tables(source)
    if not found:
        require_classes(source, "dicom", "DICOM files")
    rows = _rows(found[0]) if found else {}
    unused = dict.fromkeys(rows)
    for path in files_below(source):
        if _is_dicom(path):
            name = relative(source, path)
            unused.pop(name, None)
            own = rows.get(name, {})
            masks = [source / mask for row in own.values() for mask in manifest.words_of(row, "mask")]
            yield Entry(name, (path, *masks), partial(_scans, source, path, own))
    for name in unused:
        yield faulty(source, source / name, "the manifest names it, and it is missing or no DICOM file")


def _rows(path: Path) -> Rows:
    rows: dict[str, dict[int, Row]] = {}
    for number, row in enumerate(manifest.rows_of(path), start=1):
        named = manifest.image_of(path, row, number)
        name, _, frame = named.rpartition("#")
        name, frame = (name, int(frame)) if name and frame.isdigit() else (named, 0)
        if frame in rows.setdefault(name, {}):
            raise DataError(f"{path} names {named} twice\nfits: one row for each file or frame")
        rows[name][frame] = row
    return rows


def _is_dicom(path: Path) -> bool:
    if path.name == _INDEX:
        return False
    with path.open("rb") as file:
        return file.read(_PREAMBLE + len(_MAGIC))[_PREAMBLE:] == _MAGIC or path.suffix.lower() in (".dcm", ".dicom")


def _scans(source: Path, path: Path, rows: Mapping[int, Row]) -> Iterator[Scan | Quarantined]:
    """The scans of one file: its frames, and of each frame its regions. A frame with a fault does not end the file."""
    header = read_header(path)
    regions = regions_of(header)
    moving = int(header.get("NumberOfFrames") or 1) > 1
    name, digest = relative(source, path), _sha256(path) if not moving and len(regions) == 1 else ""
    number = 0
    for number, frame in enumerate(frames(path, header), start=1):
        row = {**rows.get(0, {}), **_said(rows.get(number, {}))}
        for place, region in enumerate(regions, start=1):
            called = name + f"@{place}" * (len(regions) > 1) + f"#{number}" * moving
            try:
                scan = _scan(source, _case(source, path, header, row, called), row, frame, region, digest)
            except DataError as fault:
                yield Quarantined(called, str(fault))
            else:
                yield scan
    for wanted in sorted(set(rows) - set(range(number + 1))):
        yield Quarantined(f"{name}#{wanted}", f"the manifest names it, and the file has {number} frames")


def _case(source: Path, path: Path, header: FileDataset, row: Row, called: str) -> Case:
    """What is known of a frame: by the manifest where it has a row, else by its folder."""
    patient = _patient(header, relative(source, path))
    device = " ".join(filter(None, (text_of(header.get(tag)) for tag in ("Manufacturer", "ManufacturerModelName"))))
    pathology, subtype = class_of(source, path) or ("", "")
    if not (pathology or row.get("pathology")):
        raise DataError("neither its folder nor a manifest names its class; fits: benign/, malignant/ or normal/")
    given = {"pathology": pathology, "subtype": subtype, "patient": patient, "device": device, **_said(row)}
    case = manifest.case_of({**given, "name": "", "sha256": ""}, called, "dicom")
    return replace(case, flags=(*case.flags, *_unsure(header)))


def _scan(source: Path, case: Case, row: Row, frame: np.ndarray, region: Region, digest: str) -> Scan:
    """The scan of a region of a frame.

    digest: of the file's bytes; where none is given, several scans are in the file, and each is known by its pixels.
    """
    height, width = frame.shape[:2]
    masks = [read_mask(source / mask) for mask in manifest.words_of(row, "mask")]
    for mask_HW in masks:
        if mask_HW.shape != (height, width):
            found = f"{mask_HW.shape[1]} x {mask_HW.shape[0]}"
            raise DataError(f"its mask has {found} pixels, the frame {width} x {height}; fits: one size")
    pixels_HW, flags = as_grey(region.of(frame))
    boxes = tuple(_cropped(box, height, width, region) for box in manifest.boxes_of(row, (height, width)))
    case = replace(case, boxes=boxes, mm_per_pixel=case.mm_per_pixel or region.mm_per_pixel)
    picture = Picture(pixels_HW, flags, digest or hashlib.sha256(pixels_HW.tobytes()).hexdigest())
    return scan_of(case, picture, [region.of(mask_HW) for mask_HW in masks])


def _cropped(box: Box, height: int, width: int, region: Region) -> Box:
    """A box of the whole frame in shares of the region; raises DataError where it does not lie in that."""
    edges = (
        box.left * width - region.left,
        box.top * height - region.top,
        box.right * width - region.left,
        box.bottom * height - region.top,
    )
    return box_of_pixels(edges, (region.bottom - region.top, region.right - region.left), slack=1e-6)


def _patient(header: FileDataset, name: str) -> str:
    """The first digits of the SHA-256 of what tells a person from others, which is not given away so."""
    who = text_of(header.get("PatientID")) or text_of(header.get("StudyInstanceUID")) or name
    return hashlib.sha256(who.encode()).hexdigest()[:_HASH_DIGITS]


def _unsure(header: FileDataset) -> tuple[str, ...]:
    """("overlay",) where the scanner's interface may be in the image."""
    clean = header.get("SequenceOfUltrasoundRegions") or str(header.get("BurnedInAnnotation", "")).upper() == "NO"
    return () if clean else ("overlay",)


def _said(row: Mapping[str, Any]) -> dict[str, Any]:
    """The cells of a row that say something, so that a frame's empty ones do not hide its file's."""
    return {column: value for column, value in row.items() if value not in (None, "")}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
