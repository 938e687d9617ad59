"""Where lesions lie: one joint density of centre, size and aspect, from which new boxes are drawn."""

# P boxes   D = 4: centre across, centre down, log size, log aspect

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.busgen.images.cases import Box
from models.common.errors import DataError

_RIDGE = 1e-8  # of the covariance, so that boxes which are all alike have one
_ROUNDS = 1000


@dataclass(frozen=True)
class LesionPrior:
    """A kernel density of boxes, cut off at the image's edge.

        p(z) ~ sum_i N(z; z_i, h^2 S) [box(z) lies in the image],   h = b P^(-1 / (D + 4))   (Scott 1992, eq. 6.42)

    with S the boxes' covariance. Unlike one density for each of place, aspect and area, it keeps what they have to do
    with each other; and its bandwidth comes from the data, so that a draw is no copy of a box.
    """

    points_PD: np.ndarray
    kernel_DD: np.ndarray  # h^2 S

    def log_density(self, points_ND: np.ndarray) -> np.ndarray:
        """Of these points, before it is cut off."""
        root_DD = np.linalg.cholesky(self.kernel_DD)
        apart_NPD = points_ND[:, None] - self.points_PD
        white_NPD = np.linalg.solve(root_DD, apart_NPD.reshape(-1, apart_NPD.shape[-1]).T).T.reshape(apart_NPD.shape)
        dimensions = root_DD.shape[0]
        scale = (
            np.log(np.diag(root_DD)).sum() + 0.5 * dimensions * math.log(2 * math.pi) + math.log(len(self.points_PD))
        )
        return np.logaddexp.reduce(-0.5 * (white_NPD**2).sum(axis=-1), axis=1) - scale

    def draw_points(self, count: int, generator: np.random.Generator) -> np.ndarray:
        """Points of the density before it is cut off, [count, D]."""
        chosen = generator.integers(len(self.points_PD), size=count)
        noise = generator.standard_normal((count, self.points_PD.shape[1]))
        return self.points_PD[chosen] + noise @ np.linalg.cholesky(self.kernel_DD).T

    def draw(self, count: int, generator: np.random.Generator) -> list[Box]:
        """Boxes that lie in the image; what does not is drawn anew, kernel and all."""
        found: list[Box] = []
        for _ in range(_ROUNDS):
            if len(found) >= count:
                return found[:count]
            edges = edges_of(self.draw_points(max(16, 2 * (count - len(found))), generator))
            fits = ((edges >= 0.0) & (edges <= 1.0)).all(axis=1)
            found += [Box(*map(float, row)) for row in edges[fits]]
        raise DataError(
            f"of boxes drawn anew {_ROUNDS} times only {len(found)} lay in the image, where {count} were wanted\n"
            "look at the images' boxes, or set a smaller bandwidth"
        )


def fit_prior(boxes: Sequence[Box], bandwidth: float) -> LesionPrior:
    """The density of these boxes; bandwidth: times Scott's. Raises DataError for fewer than two."""
    if len(boxes) < 2:
        raise DataError(f"{len(boxes)} boxes give no density of lesions\nfits: 2 or more; add images with boxes")
    points_PD = points_of(boxes)
    factor = bandwidth * len(boxes) ** (-1.0 / (points_PD.shape[1] + 4))
    covariance_DD = np.cov(points_PD, rowvar=False) + _RIDGE * np.eye(points_PD.shape[1])
    return LesionPrior(points_PD, factor**2 * covariance_DD)


def points_of(boxes: Sequence[Box]) -> np.ndarray:
    """Centre across and down, log sqrt(width height), log(width / height), [P, D]."""
    left, top, right, bottom = np.array([[box.left, box.top, box.right, box.bottom] for box in boxes]).T
    log_width, log_height = np.log(right - left), np.log(bottom - top)
    return np.stack(
        [(left + right) / 2, (top + bottom) / 2, (log_width + log_height) / 2, log_width - log_height], axis=1
    )


def edges_of(points_PD: np.ndarray) -> np.ndarray:
    """The inverse of `points_of`: left, top, right, bottom, [P, 4]."""
    across, down, log_size, log_aspect = points_PD.T
    width, height = np.exp(log_size + log_aspect / 2), np.exp(log_size - log_aspect / 2)
    return np.stack([across - width / 2, down - height / 2, across + width / 2, down + height / 2], axis=1)
