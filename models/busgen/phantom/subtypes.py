"""The table that the phantom draws lesions from: which descriptors each subtype shows, how often.

Made up after the textbook signs, and deliberately overlapping: no sign belongs to one side only. Given the subtype the
descriptors are independent, so that the odds of malignancy given the descriptors have a closed form (oracle.py).
"""

from dataclasses import dataclass

from models.busgen.images.descriptors import DESCRIPTORS

Chances = dict[str, tuple[float, ...]]  # by descriptor, in the order of its values in the lexicon


@dataclass(frozen=True)
class Subtype:
    """A kind of lesion. label: the count in PhantomConfig that it belongs to; share: of the lesions of its label."""

    label: str
    pathology: str
    share: float
    chances: Chances


def _of(*rows: tuple[float, ...]) -> Chances:
    return dict(zip(DESCRIPTORS, rows, strict=True))


SUBTYPES: dict[str, Subtype] = {
    # in each: shape, orientation, margin, echo pattern, posterior, calcifications, halo
    "cyst": Subtype(
        "benign",
        "benign",
        0.30,
        _of(
            (0.68, 0.25, 0.07),
            (0.90, 0.10),
            (0.84, 0.08, 0.05, 0.02, 0.01),
            (0.72, 0.10, 0.03, 0.02, 0.11, 0.02),
            (0.16, 0.78, 0.02, 0.04),
            (0.95, 0.02, 0.02, 0.01),
            (0.96, 0.04),
        ),
    ),
    "fibroadenoma": Subtype(
        "benign",
        "benign",
        0.42,
        _of(
            (0.76, 0.10, 0.14),
            (0.88, 0.12),
            (0.68, 0.12, 0.14, 0.04, 0.02),
            (0.02, 0.60, 0.21, 0.04, 0.05, 0.08),
            (0.52, 0.32, 0.11, 0.05),
            (0.83, 0.11, 0.05, 0.01),
            (0.94, 0.06),
        ),
    ),
    "papilloma": Subtype(
        "benign",
        "benign",
        0.16,
        _of(
            (0.45, 0.30, 0.25),
            (0.76, 0.24),
            (0.42, 0.25, 0.22, 0.08, 0.03),
            (0.05, 0.45, 0.12, 0.05, 0.23, 0.10),
            (0.52, 0.35, 0.08, 0.05),
            (0.80, 0.08, 0.05, 0.07),
            (0.92, 0.08),
        ),
    ),
    "adenosis": Subtype(
        "benign",
        "benign",
        0.12,
        _of(
            (0.42, 0.10, 0.48),
            (0.74, 0.26),
            (0.26, 0.38, 0.20, 0.12, 0.04),
            (0.02, 0.48, 0.20, 0.08, 0.05, 0.17),
            (0.58, 0.10, 0.26, 0.06),
            (0.64, 0.22, 0.10, 0.04),
            (0.84, 0.16),
        ),
    ),
    "idc": Subtype(
        "malignant",
        "malignant",
        0.83,
        _of(
            (0.13, 0.12, 0.75),
            (0.38, 0.62),
            (0.06, 0.22, 0.16, 0.25, 0.31),
            (0.01, 0.66, 0.05, 0.02, 0.08, 0.18),
            (0.28, 0.10, 0.48, 0.14),
            (0.60, 0.28, 0.07, 0.05),
            (0.52, 0.48),
        ),
    ),
    "ilc": Subtype(
        "malignant",
        "malignant",
        0.17,
        _of(
            (0.15, 0.05, 0.80),
            (0.48, 0.52),
            (0.05, 0.36, 0.08, 0.20, 0.31),
            (0.01, 0.57, 0.12, 0.04, 0.03, 0.23),
            (0.28, 0.05, 0.55, 0.12),
            (0.83, 0.08, 0.06, 0.03),
            (0.56, 0.44),
        ),
    ),
    "dcis": Subtype(
        "dcis",
        "malignant",
        1.0,
        _of(
            (0.32, 0.10, 0.58),
            (0.68, 0.32),
            (0.12, 0.42, 0.34, 0.09, 0.03),
            (0.02, 0.58, 0.14, 0.03, 0.10, 0.13),
            (0.68, 0.16, 0.10, 0.06),
            (0.34, 0.30, 0.08, 0.28),
            (0.82, 0.18),
        ),
    ),
}
DCIS_AMONG_CANCERS = 0.2  # share of the patients with cancer whose cancer is in situ
