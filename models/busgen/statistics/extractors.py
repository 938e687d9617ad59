"""What turns images into features, and features of a network that somebody else made."""

# N images   H height   W width   F features

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from models.busgen.statistics.estimate import Array
from models.common.errors import DataError


class Extractor(Protocol):
    """Images to features. The name stands in that of every distance: there is no plain "FID" here."""

    @property
    def name(self) -> str: ...

    def features(self, pixels_NHW: np.ndarray, masks_NHW: np.ndarray | None) -> Array:
        """[N, F] in float64, of uint8 pixels; masks: 0 to 255 as a share of the pixel, None where none are known."""
        ...


@dataclass(frozen=True)
class Encoder:
    """Features of a network that is handed in, such as what the heads of a classifier from the same run read.

    encode: uint8 pixels [n, H, W] to [n, F]. Weights of one's own come in this way.
    """

    name: str
    encode: Callable[[np.ndarray], ArrayLike]
    images_at_once: int

    def features(self, pixels_NHW: np.ndarray, masks_NHW: np.ndarray | None) -> Array:
        """[N, F], whatever the encoder makes of a batch; the masks are not looked at."""
        parts = []
        for start in range(0, len(pixels_NHW), self.images_at_once):
            batch = pixels_NHW[start : start + self.images_at_once]
            found = np.asarray(self.encode(batch), dtype=np.float64)
            if found.ndim != 2 or len(found) != len(batch):
                raise DataError(f"{self.name} makes {found.shape} of {len(batch)} images\nfits: a row for each image")
            parts.append(found)
        return np.concatenate(parts)
