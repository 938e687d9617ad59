"""OASBUD, of Warsaw (Piotrzkowska-Wroblewska et al. 2017): echoes as they reached the probe, made to B-mode here.

    OASBUD.mat: a struct array `data` with the fields id, rf1, rf2, roi1, roi2, birads, class (0 benign, 1 malignant)

A patient is an id; each lesion has two planes, so two scans. Names are OASBUD.mat#7.1: lesion 7, plane 1.
"""

# Z samples in depth   L scan lines   H height   W width

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import scipy.signal
from PIL import Image
from scipy.io.matlab import MatReadError

from models.busgen.images.cases import Case, Scan
from models.busgen.readers.entries import Entry, root_of
from models.busgen.readers.pictures import Picture
from models.busgen.readers.scans import scan_of
from models.busgen.readers.words import birads_of, text_of
from models.common.errors import DataError

LICENCE = "not stated (Zenodo 545928), cite"
DEVICE = "Ultrasonix SonixTouch, L14-5/38"
DYNAMIC_RANGE_DB = 60.0  # from black to white; scanners show breasts at 50 to 70
_TABLE = "OASBUD.mat"
_FIELDS = ("id", "rf1", "rf2", "roi1", "roi2", "birads", "class")
_PATHOLOGY_OF_CLASS = {0: "benign", 1: "malignant"}

_SOUND_MM_PER_US = 1.54
_SAMPLES_PER_US = 40.0
_PROBE_MM, _PROBE_LINES = 38.0, 510
_MM_PER_SAMPLE = _SOUND_MM_PER_US / (2 * _SAMPLES_PER_US)  # there and back
_MM_PER_LINE = _PROBE_MM / _PROBE_LINES


def tables(source: Path) -> tuple[Path, ...]:
    return (_file(source),)


def entries(source: Path) -> Iterator[Entry]:
    """Both planes of every lesion in the file's order."""
    path = _file(source)
    try:
        held = scipy.io.loadmat(path, variable_names=["data"])
    except (MatReadError, NotImplementedError, ValueError, TypeError, OSError) as fault:
        raise DataError(f"{path} is no MATLAB file that can be read ({fault})\nfits: {_TABLE} of Zenodo") from fault
    lesions = held.get("data")
    found = () if lesions is None else lesions.dtype.names or ()
    if lesions is None or set(_FIELDS) - set(found):
        raise DataError(f"{path} has the fields {', '.join(found) or 'none'}\nfits: data with {', '.join(_FIELDS)}")
    for number, lesion in enumerate(lesions.ravel(), start=1):
        for plane in (1, 2):
            name = f"{path.name}#{number}.{plane}"
            yield Entry(name, (), partial(_scans, name, lesion, plane))


def envelope(echoes_ZL: np.ndarray) -> np.ndarray:
    """The amplitude of echoes along each scan line: |x + i H(x)|, H the Hilbert transform; a line's mean is no echo."""
    echoes_ZL = np.asarray(echoes_ZL, dtype=np.float64)
    return np.abs(scipy.signal.hilbert(echoes_ZL - echoes_ZL.mean(axis=0), axis=0))


def b_mode(envelope_ZL: np.ndarray, range_db: float) -> np.ndarray:
    """Grey values 0 to 255: 20 log10 of the envelope over its greatest value, range_db below that and less is black."""
    greatest = envelope_ZL.max()
    decibels_ZL = 20.0 * np.log10(np.maximum(envelope_ZL / greatest, 1e-12))
    return np.rint(255.0 * np.clip(1.0 + decibels_ZL / range_db, 0.0, 1.0)).astype(np.uint8)


def square_pixels(values_ZL: np.ndarray) -> np.ndarray:
    """The same with pixels as deep as scan lines lie apart, each the mean of the samples that it covers.

    A sample is 0.019 mm deep and a line 0.075 mm wide; unchanged, an image would stand four times too tall.
    """
    samples, lines = values_ZL.shape
    height = max(1, round(samples * _MM_PER_SAMPLE / _MM_PER_LINE))
    image = Image.fromarray(values_ZL.astype(np.float32))
    return np.asarray(image.resize((lines, height), Image.Resampling.BOX))


def _file(source: Path) -> Path:
    return source if source.is_file() else root_of(source, "oasbud", _TABLE) / _TABLE


def _scans(name: str, lesion: Any, plane: int) -> Iterable[Scan]:
    echoes_ZL, region_ZL = np.atleast_2d(lesion[f"rf{plane}"]), np.atleast_2d(lesion[f"roi{plane}"])
    if echoes_ZL.shape != region_ZL.shape:
        raise DataError(f"roi{plane} is {region_ZL.shape}, rf{plane} is {echoes_ZL.shape}; fits: one size")
    if not np.isfinite(echoes_ZL).all() or not np.ptp(echoes_ZL):
        raise DataError(f"rf{plane} holds no echoes: it is constant or not finite")
    number = _first(lesion["class"])
    if number not in _PATHOLOGY_OF_CLASS:
        raise DataError(f"its class is {number!r}; fits: 0 benign, 1 malignant")
    case = Case(
        name=name,
        source="oasbud",
        patient=text_of(_first(lesion["id"])) or name.rpartition(".")[0],
        pathology=_PATHOLOGY_OF_CLASS[number],
        birads=birads_of(_first(lesion["birads"])),
        device=DEVICE,
        mm_per_pixel=_MM_PER_LINE,
        licence=LICENCE,
    )
    # The file's own bytes are those of all scans; what tells copies from others is the echoes.
    digest = hashlib.sha256(np.ascontiguousarray(echoes_ZL).tobytes()).hexdigest()
    pixels_HW = b_mode(square_pixels(envelope(echoes_ZL)), DYNAMIC_RANGE_DB)
    mask_HW = square_pixels(region_ZL != 0) > 0.5
    yield scan_of(case, Picture(pixels_HW, (), digest), [mask_HW])


def _first(value: Any) -> Any:
    """The one value of a MATLAB cell, which comes wrapped in arrays."""
    while isinstance(value, np.ndarray):
        if value.size == 0:
            return ""
        value = value.ravel()[0]
    return value.item() if isinstance(value, np.generic) else value
