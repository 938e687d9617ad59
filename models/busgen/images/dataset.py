"""A folder of images as all stages read it: prepared ones and generated ones alike."""

# N images   H height   W width

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.busgen.images.cases import Case, Quarantined
from models.common.errors import DataError

_PIXELS, _MASKS, _CASES, _AUDIT = "images.npy", "masks.npy", "cases.json", "audit.json"


@dataclass(frozen=True)
class Images:
    """Square grey images of one size, with their cases.

    pixels_NHW: uint8. masks_NHW: uint8, 0 to 255 as the share of a pixel that the lesion covers; read from disk both
    are memory maps. Where a case has no known mask its box stands in for it, and zeros where there is no lesion.
    audit: what was quarantined, and the numbers of the audit, as JSON.
    """

    pixels_NHW: np.ndarray
    masks_NHW: np.ndarray
    cases: tuple[Case, ...]
    audit: dict[str, Any]

    def __len__(self) -> int:
        return len(self.cases)

    @property
    def side(self) -> int:
        """Pixels of an edge."""
        return self.pixels_NHW.shape[1]

    def rows(
        self, *, split: str | None = None, labels: Iterable[str] | None = None, classes: Sequence[str] = ()
    ) -> np.ndarray:
        """The numbers of the cases of this split and these labels, in order; None takes all.

        classes: as `Case.label` takes them; the labels themselves where none are given.
        """
        wanted = None if labels is None else tuple(labels)
        among = tuple(classes) or wanted or ()
        return np.array(
            [
                number
                for number, case in enumerate(self.cases)
                if (split is None or case.split == split) and (wanted is None or case.label(among) in wanted)
            ],
            dtype=np.int64,
        )

    def are(self, label: str, classes: Sequence[str]) -> np.ndarray:
        """Whether each case has this label among the classes, [N]."""
        return np.array([case.label(tuple(classes)) == label for case in self.cases], dtype=bool)

    def take(self, rows: Sequence[int] | np.ndarray) -> Images:
        """These rows, in this order."""
        rows = np.asarray(rows, dtype=np.int64)
        return Images(self.pixels_NHW[rows], self.masks_NHW[rows], tuple(self.cases[row] for row in rows), self.audit)

    def write(self, folder: Path) -> None:
        """Writes the four files; the same images give the same bytes."""
        np.save(folder / _PIXELS, self.pixels_NHW, allow_pickle=False)
        np.save(folder / _MASKS, self.masks_NHW, allow_pickle=False)
        rows = ",\n".join(json.dumps(case.as_json(), sort_keys=True) for case in self.cases)
        (folder / _CASES).write_text(f"[\n{rows}\n]\n")
        (folder / _AUDIT).write_text(json.dumps(self.audit, indent=1, sort_keys=True) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Images:
        """The images of a folder; raises DataError where a file of them is missing or they do not fit together."""
        for name in (_PIXELS, _MASKS, _CASES, _AUDIT):
            if not (folder / name).is_file():
                raise DataError(f"{folder} has no {name}\nfits: a folder that BUSGen prepared or generated")
        pixels = np.load(folder / _PIXELS, mmap_mode="r", allow_pickle=False)
        masks = np.load(folder / _MASKS, mmap_mode="r", allow_pickle=False)
        cases = tuple(Case.from_json(values) for values in json.loads((folder / _CASES).read_text()))
        if not len(pixels) == len(masks) == len(cases):
            raise DataError(
                f"{folder} has {len(pixels)} images, {len(masks)} masks and {len(cases)} cases; prepare it anew"
            )
        return cls(pixels, masks, cases, json.loads((folder / _AUDIT).read_text()))


def joined(first: Images, second: Images) -> Images:
    """The images of both, those of the first before those of the second, with the first one's audit."""
    return Images(
        np.concatenate([first.pixels_NHW, second.pixels_NHW]),
        np.concatenate([first.masks_NHW, second.masks_NHW]),
        first.cases + second.cases,
        first.audit,
    )


def quarantine_table(found: Iterable[Quarantined]) -> list[dict[str, str]]:
    """The quarantined images as `audit["quarantined"]` lists them."""
    return [asdict(one) for one in found]


def as_network_input(pixels_NHW: np.ndarray) -> np.ndarray:
    """Grey values 0 to 255 as float32 from -1 to 1, with a channel: [N, 1, H, W]."""
    return (np.asarray(pixels_NHW, dtype=np.float32) / 127.5 - 1.0)[:, None]


def as_pixels(values_N1HW: np.ndarray) -> np.ndarray:
    """The inverse of `as_network_input`, rounded and clipped to what a pixel can hold: [N, H, W], uint8."""
    return np.clip(np.rint((values_N1HW[:, 0] + 1.0) * 127.5), 0, 255).astype(np.uint8)
