"""Scans made up for tests: smooth speckle, different for each seed, with a lesion where asked."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from models.busgen.data_config import BreastImages, FilesOrigin
from models.busgen.images.cases import Case, Scan
from models.busgen.images.dataset import Images
from models.busgen.images.prepare import assembled, candidate_of, quarantines_of, sound

CONFIG = BreastImages(origins=(FilesOrigin(layout="folder", folder=Path("unread")),), side=16)


def speckle(seed: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Grey values of a random field that is smooth enough to survive being made smaller."""
    field = gaussian_filter(np.random.default_rng(seed).normal(size=(height, width)), 3.0)
    return (40 + 170 * (field - field.min()) / np.ptp(field)).astype(np.uint8)


def scan(
    name: str,
    patient: str,
    pathology: str = "benign",
    *,
    pixels: np.ndarray | int = 0,
    mask: Any = "ellipse",
    **of: Any,
) -> Scan:
    """A scan with these pixels, or those of this seed; an ellipse in the middle is marked unless it is normal."""
    pixels = speckle(pixels) if isinstance(pixels, int) else pixels
    if isinstance(mask, str):
        rows, columns = np.ogrid[-1 : 1 : pixels.shape[0] * 1j, -1 : 1 : pixels.shape[1] * 1j]
        mask = (rows**2 + columns**2 < 0.2) & (pathology != "normal")
    case = Case(name, of.pop("source", "made"), patient, pathology, **of)
    return Scan(case, pixels, mask)


def clinic(benign: int = 20, dcis: int = 8, malignant: int = 10, normal: int = 6, frames: int = 2) -> list[Scan]:
    """Unlike images of so many patients of each class."""
    of_class = {"benign": benign, "dcis": dcis, "malignant": malignant, "normal": normal}
    wanted = [(label, number) for label, count in of_class.items() for number in range(count)]
    return [
        scan(
            f"{label}-{number}-{frame}",
            f"{label}-{number}",
            "malignant" if label == "dcis" else label,
            subtype="dcis" if label == "dcis" else "",
            pixels=1000 * place + frame,
            device=("one", "two")[place % 2],
        )
        for place, (label, number) in enumerate(wanted)
        for frame in range(frames)
    ]


def images_of_scans(scans: list[Scan], config: BreastImages = CONFIG) -> Images:
    quarantines = quarantines_of(config)
    found = (candidate_of(one, config) for one in scans)
    return assembled(list(sound(found, quarantines)), config, quarantines)
