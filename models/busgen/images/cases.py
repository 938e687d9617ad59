"""A case: what is known of one image. A scan: a case with its pixels, as readers and the phantom hand it on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self, get_args

import numpy as np

from models.common.errors import DataError

Pathology = Literal["normal", "benign", "malignant"]
PATHOLOGIES: tuple[str, ...] = get_args(Pathology)


@dataclass(frozen=True)
class Box:
    """A rectangle in shares of the image's width and height, from its left upper corner."""

    left: float
    top: float
    right: float
    bottom: float

    def __post_init__(self) -> None:
        if not (0.0 <= self.left < self.right <= 1.0 and 0.0 <= self.top < self.bottom <= 1.0):
            raise DataError(
                f"box {self.left:g}, {self.top:g} to {self.right:g}, {self.bottom:g} does not lie in the image\n"
                "fits: left < right and top < bottom, from 0 to 1 of the image's width and height"
            )


@dataclass(frozen=True)
class Case:
    """One row of a dataset: an image, whose it is, and what is known of it. Empty and None mean: not known."""

    name: str  # unique within its source, such as the file's path below the folder
    source: str  # "busi", "phantom", ..., "generated"
    patient: str  # one name for all images of a person within the source
    pathology: str  # one of PATHOLOGIES
    subtype: str = ""  # such as "dcis", "fibroadenoma": lower case, words joined by "_"
    birads: str = ""  # "2", "3", "4a", ...
    device: str = ""
    boxes: tuple[Box, ...] = ()
    descriptors: dict[str, str] = field(default_factory=dict)  # of `descriptors.DESCRIPTORS`, those known
    mm_per_pixel: float | None = None  # of the pixels as they stand
    flags: tuple[str, ...] = ()  # "doppler", "calipers", "combined", "overlay"
    licence: str = ""
    sha256: str = ""  # of the file's bytes
    split: str = ""  # "pretrain", "validation", "few_shot", "test"; empty before the split
    truth: dict[str, float] = field(default_factory=dict)  # what only a phantom knows, such as its log-odds

    def label(self, classes: tuple[str, ...]) -> str:
        """The class that this case has among these: its subtype where that is one of them, else its pathology."""
        return self.subtype if self.subtype in classes else self.pathology

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        boxes = tuple(Box(**box) for box in values["boxes"])
        return cls(**{**values, "boxes": boxes, "flags": tuple(values["flags"])})


@dataclass(frozen=True)
class Scan:
    """A case with its pixels: grey values 0 to 255, and where the lesion is, if that is known."""

    case: Case
    pixels_HW: np.ndarray  # uint8
    mask_HW: np.ndarray | None  # bool, of the same shape; None: not known. All false: no lesion


@dataclass(frozen=True)
class Quarantined:
    """An image that is not used, and why; it stands in the report."""

    file: str
    reason: str


class Quarantine:
    """Where faulty images go: noted and left out, or refused.

    strict: the first fault raises DataError instead.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self.found: list[Quarantined] = []

    def add(self, file: str, reason: str) -> None:
        """Leaves the file out; reason says what was found and what fits. Raises DataError where strict."""
        if self.strict:
            raise DataError(f"{file}: {reason}\nmend or remove it, or set bad_images='quarantine' to go on without")
        self.found.append(Quarantined(file, reason))
