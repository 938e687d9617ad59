"""The frames of an ultrasound DICOM file in grey, one by one, and the regions of them that are ultrasound."""

# H height   W width   C channels

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.pixels.processing import apply_color_lut, apply_voi_lut
from pydicom.pixels.utils import iter_pixels

from models.busgen.readers.pictures import colour_flags, luma, spread
from models.common.errors import DataError

# What pydicom raises for files that are cut short, damaged, or packed as no decoder here can read.
_BROKEN = (
    AttributeError,
    EOFError,
    InvalidDicomError,
    KeyError,
    IndexError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
_ULTRASOUND_CLASSES = (  # storage of still and moving ultrasound, of today and retired
    "1.2.840.10008.5.1.4.1.1.3",
    "1.2.840.10008.5.1.4.1.1.3.1",
    "1.2.840.10008.5.1.4.1.1.6",
    "1.2.840.10008.5.1.4.1.1.6.1",
)
_FORMAT_2D, _TISSUE, _COLOUR_FLOW, _CENTIMETRES = 1, 1, 2, 3
_SLACK = 1  # pixels by which vendors let a region's last column or row run out


@dataclass(frozen=True)
class Region:
    """A part of a frame that is ultrasound, right and bottom not included, and its millimetres per pixel if known."""

    left: int
    top: int
    right: int
    bottom: int
    mm_per_pixel: float | None

    def of(self, frame_HW: np.ndarray) -> np.ndarray:
        """The frame's part, of its own memory."""
        return np.ascontiguousarray(frame_HW[self.top : self.bottom, self.left : self.right])


def read_header(path: Path) -> FileDataset:
    """All of a file but its pixels; raises DataError where it is no DICOM file, or no ultrasound."""
    try:
        header = dcmread(path, stop_before_pixels=True)
        modality, kind = str(header.get("Modality", "")), str(header.get("SOPClassUID", ""))
    except _BROKEN as fault:
        raise DataError(f"it is no DICOM file that can be read ({fault})") from fault
    if modality != "US" and not (modality == "" and kind in _ULTRASOUND_CLASSES):
        raise DataError(f"its modality is '{modality}'; fits: US, ultrasound")
    return header


def frames(path: Path, header: FileDataset) -> Iterator[np.ndarray]:
    """A file's frames, [H, W] or [H, W, 3], uint8, one in memory at a time; raises DataError where one does not decode.

    Luminance and colour difference become red, green and blue, palettes are looked up, MONOCHROME1 is turned so that 0
    is black. More than 8 bits come through the file's own window where it has one, else by the frame's own range.
    """
    number = 1
    try:
        for stored in iter_pixels(path):
            yield _shown(stored, header)
            number += 1
    except _BROKEN as fault:
        raise DataError(f"its pixels do not decode from frame {number} on ({fault})") from fault


def as_grey(frame: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """A frame in grey, and what its colours say, see `pictures.colour_flags`."""
    return (frame, ()) if frame.ndim == 2 else (luma(frame), colour_flags(frame))


def regions_of(header: FileDataset) -> tuple[Region, ...]:
    """The two-dimensional tissue regions of a file's frames; the whole frame where the file names no region at all.

    Spectra, traces and rulers are other regions and are left out. A region within another is the box of a flow map. A
    region may run out on one side: then rows or columns were cut off later, and it is cut with them. Raises DataError
    where one runs out on two sides, for then the frame was scaled after its regions were written, and where only text
    is known to be there: burned in by BurnedInAnnotation, and no region to crop to.
    """
    if "Rows" not in header or "Columns" not in header:
        raise DataError("it holds no pixels; fits: an image")
    height, width = int(header.Rows), int(header.Columns)
    named = list(header.get("SequenceOfUltrasoundRegions") or ())
    burned = str(header.get("BurnedInAnnotation", "")).upper() == "YES"
    if not named:
        if burned:
            raise DataError("its BurnedInAnnotation is YES, and it has no ultrasound region to crop to")
        return (Region(0, 0, width, height, _spacing(header)),)
    flat = [region for region in named if region.get("RegionSpatialFormat") == _FORMAT_2D]
    tissue = [region for region in flat if region.get("RegionDataType") == _TISSUE]
    chosen = tissue or [region for region in flat if region.get("RegionDataType") == _COLOUR_FLOW]
    if not chosen:
        raise DataError("none of its ultrasound regions is a two-dimensional image of tissue; fits: B-mode")
    found = [_region(region, height, width) for region in chosen]
    outer = [one for number, one in enumerate(found) if not _within_another(one, number, found)]
    return tuple(sorted(outer, key=lambda region: (region.left, region.top)))


def _region(region: Any, height: int, width: int) -> Region:
    """A region as the file names it, its last column and row included there."""
    left, top = int(region.RegionLocationMinX0), int(region.RegionLocationMinY0)
    right, bottom = int(region.RegionLocationMaxX1) + 1, int(region.RegionLocationMaxY1) + 1
    place = f"its ultrasound region {left}, {top} to {right - 1}, {bottom - 1}"
    if not (0 <= left < min(right, width) and 0 <= top < min(bottom, height)):
        raise DataError(f"{place} does not lie in its {width} x {height} pixels")
    if right > width + _SLACK and bottom > height + _SLACK:
        raise DataError(
            f"{place} runs out of its {width} x {height} pixels on two sides: it was scaled after that was written; "
            "fits: the file as the scanner stored it"
        )
    across, down = float(region.get("PhysicalDeltaX") or 0.0), float(region.get("PhysicalDeltaY") or 0.0)
    units = {region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection")}
    square = across != 0.0 and np.isclose(abs(across), abs(down), rtol=0.01)
    mm_per_pixel = 10.0 * abs(across) if square and units == {_CENTIMETRES} else None
    return Region(left, top, min(right, width), min(bottom, height), mm_per_pixel)


def _within_another(region: Region, number: int, regions: list[Region]) -> bool:
    """Whether another region holds this one; of two equal ones the first stays."""
    for other_number, other in enumerate(regions):
        holds = other.left <= region.left and other.top <= region.top
        holds = holds and other.right >= region.right and other.bottom >= region.bottom
        if other_number != number and holds and (other != region or other_number < number):
            return True
    return False


def _spacing(header: FileDataset) -> float | None:
    """Millimetres per pixel of PixelSpacing, where it is the same down and across."""
    spacing = header.get("PixelSpacing")
    if spacing is None or len(spacing) != 2 or not np.isclose(float(spacing[0]), float(spacing[1]), rtol=0.01):
        return None
    return float(spacing[1]) or None


def _shown(stored: np.ndarray, header: FileDataset) -> np.ndarray:
    """A stored frame as it is shown, uint8."""
    kind, bits = str(header.PhotometricInterpretation), int(header.get("BitsStored", 8))
    if kind == "PALETTE COLOR":
        return _bytes(apply_color_lut(stored, header)[..., :3], 16)
    if stored.ndim == 3:
        return _bytes(stored, bits)
    grey_HW = np.asarray(stored)
    if bits > 8 and header.get("WindowCenter") is not None:
        windowed_HW = apply_voi_lut(grey_HW, header)
        least, greatest = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if header.PixelRepresentation else (0, 2**bits - 1)
        grey_HW = np.rint((windowed_HW - least) * (255.0 / (greatest - least))).astype(np.uint8)
    elif grey_HW.dtype != np.uint8:
        grey_HW = spread(grey_HW)
    return 255 - grey_HW if kind == "MONOCHROME1" else grey_HW


def _bytes(colours_HWC: np.ndarray, bits: int) -> np.ndarray:
    """Colours of up to so many bits as uint8, by their upper eight."""
    return colours_HWC if colours_HWC.dtype == np.uint8 else (colours_HWC >> max(bits - 8, 0)).astype(np.uint8)
