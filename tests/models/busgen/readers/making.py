"""Small files as the data sets have them, and a reading of them with nothing left out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
from PIL import Image

from models.busgen.images.cases import Quarantine, Scan
from models.busgen.readers.registry import read_scans

HEIGHT, WIDTH = 20, 30


def speckle(seed: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def patch(top: int, left: int, bottom: int, right: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A mask with one rectangle."""
    mask = np.zeros((height, width), dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def save(path: Path, pixels: np.ndarray) -> Path:
    """Writes a picture; a mask is written as 0 and 255."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8) * 255 if pixels.dtype == bool else pixels).save(path)
    return path


def save_sheet(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(list(rows[0]))
    for row in rows:
        sheet.append(list(row.values()))
    book.save(path)


def read(layout: str, source: Path) -> dict[str, Scan]:
    """The scans by name; fails where one is quarantined."""
    return {scan.case.name: scan for scan in read_scans(layout, source, Quarantine(strict=True))}


def faults(layout: str, source: Path) -> tuple[dict[str, Scan], dict[str, str]]:
    """The scans by name, and the reasons of what is quarantined by file."""
    quarantine = Quarantine()
    scans = {scan.case.name: scan for scan in read_scans(layout, source, quarantine)}
    return scans, {found.file: found.reason for found in quarantine.found}


def edges(scan: Scan) -> list[tuple[float, float, float, float]]:
    """A scan's boxes in pixels: left, top, right, bottom."""
    height, width = scan.pixels_HW.shape
    return [
        tuple(np.round((box.left * width, box.top * height, box.right * width, box.bottom * height), 6).tolist())
        for box in scan.case.boxes
    ]
