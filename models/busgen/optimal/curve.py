"""The optimal loss as a curve over noise levels, as the training and the figures read it.

Losses are of the clean image, summed over its pixels, in the coordinates x = x0 + s eps.
"""

# S levels of the grid

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.common.config import unknown
from models.common.errors import DataError

OPTIMAL_LOSS_FILE = "optimal_loss.json"
TRAINING, UNCONDITIONAL, CONDITIONAL = "training", "unconditional", "conditional"
_NOTHING = 1e-12  # of the total variance: how near zero, and how near that variance, a curve is told apart from them

Array = NDArray[np.float64]


@dataclass(frozen=True)
class OptimalCurve:
    """J*(s) on a grid of levels, rising.

    error_S: one standard error. total_variance: the limit of J* as s grows. pixels: D, numbers of an image.
    critical: s*, the largest level at which J* is still next to nothing.
    """

    levels_S: Array
    j_star_S: Array
    error_S: Array
    total_variance: float
    pixels: int
    critical: float

    def at(self, s: ArrayLike) -> Array:
        """J* at these levels: between those of the grid as `_interpolated` says, beyond them as at the ends.

        Never above D s^2, which is what the noisy image itself would lose.
        """
        s = np.asarray(s, dtype=np.float64)
        values = _interpolated(s, self.levels_S, self.j_star_S, self.total_variance)
        return np.minimum(values, self.pixels * np.square(s))

    @classmethod
    def read(cls, folder: Path, of: str = TRAINING) -> OptimalCurve:
        """The curve that a stage wrote: "training", "unconditional", "conditional", or of one condition by its name.

        "training" is the mixture that a network meets whose condition is sometimes left out.
        """
        file = folder / OPTIMAL_LOSS_FILE
        if not file.is_file():
            raise DataError(f"{folder} has no {OPTIMAL_LOSS_FILE}\nfits: a folder that BUSGen's optimal loss wrote")
        return cls.from_json(json.loads(file.read_text()), of)

    @classmethod
    def from_json(cls, found: dict[str, Any], of: str = TRAINING) -> OptimalCurve:
        """The curve out of what `optimal_loss.json` holds."""
        curves = found["curves"]
        if of not in curves:
            raise DataError(unknown("curve", of, list(curves), where=OPTIMAL_LOSS_FILE))
        curve = curves[of]
        return cls(
            np.array(found["levels"], dtype=np.float64),
            np.array(curve["j_star"], dtype=np.float64),
            np.array(curve["error"], dtype=np.float64),
            float(curve["total_variance"]),
            int(found["pixels"]),
            float(curve["critical"]),
        )


def critical_level(levels_S: Array, j_star_S: Array, total_variance: float, share: float) -> float:
    """s*, the level up to which J* stays below this share of the total variance (Xu et al. 2025, section 4).

    Between two levels of the grid as `OptimalCurve.at` interpolates; the first or last level where the grid does not
    reach the crossing. Unlike the paper, which reads s* off a figure, a share of the variance says what zero means.
    """
    above = np.flatnonzero(j_star_S > share * total_variance)
    if not len(above):
        return float(levels_S[-1])
    right = above[0]
    if right == 0:
        return float(levels_S[0])
    depths = np.log(_depth(j_star_S[right - 1 : right + 1], total_variance))
    part = (np.log(-np.log(share)) - depths[0]) / (depths[1] - depths[0])
    low, high = np.log(levels_S[right - 1 : right + 1])
    return float(np.exp(low + np.clip(part, 0.0, 1.0) * (high - low)))


def mixed(conditional: ArrayLike, unconditional: ArrayLike, dropout: float) -> Array:
    """The optimal loss of a network whose condition is left out in this share of the steps.

    (1 - p) J*_cond + p J*_uncond,   as the network is told whether it knows the condition.
    """
    return (1.0 - dropout) * np.asarray(conditional, np.float64) + dropout * np.asarray(unconditional, np.float64)


def _interpolated(s: Array, levels_S: Array, loss_S: Array, total_variance: float) -> Array:
    """J* = V exp(-g), log g linear in log s: right in both limits, as g falls with 1 / s^2 in either.

    Out of zero J* comes as V exp(-d^2 / 8 s^2), for images at a distance d; to its limit as V - c / s^2.
    """
    depth = np.exp(np.interp(np.log(s), np.log(levels_S), np.log(_depth(loss_S, total_variance))))
    return total_variance * np.exp(-depth)


def _depth(loss_S: Array, total_variance: float) -> Array:
    """-log(J* / V), with zero and V themselves taken for next to nothing away."""
    share_S = loss_S / max(total_variance, np.finfo(np.float64).tiny)
    return -np.log(np.clip(share_S, _NOTHING, 1.0 - _NOTHING))
