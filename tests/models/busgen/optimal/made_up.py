"""Data sets whose optimal loss is known or easy to work out, and folders of images."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.busgen.images.cases import PATHOLOGIES, Case
from models.busgen.images.dataset import Images
from models.busgen.optimal.bounds import spread_of
from models.busgen.optimal.curve import OptimalCurve, critical_level
from models.busgen.optimal.estimators import Sampling, exact

LEVELS = np.geomspace(0.05, 30.0, 13)


def sampling(draws: int, seed: int = 0, memory_gib: float = 0.5) -> Sampling:
    return Sampling(draws, seed, memory_gib)


def gaussian(count: int, deviations: list[float], seed: int = 0) -> Tensor:
    """Rows of independent normal numbers."""
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.normal(0.0, deviations, (count, len(deviations))).astype(np.float32))


def clustered(count: int, numbers: int, clusters: int = 20, width: float = 0.3, seed: int = 0) -> Tensor:
    """Rows around a few centres."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((clusters, numbers))
    rows = centres[random.integers(0, clusters, count)] + width * random.standard_normal((count, numbers))
    return torch.from_numpy(rows.astype(np.float32))


def curve_of(images_ND: Tensor, levels: np.ndarray = LEVELS, draws: int = 600) -> OptimalCurve:
    """The exact curve of a small data set."""
    found = exact(images_ND, list(levels), sampling(draws))
    variance = spread_of(images_ND, at_once=1000, most_axes=0).total_variance
    critical = critical_level(levels, found.j_star_S, variance, 1e-3)
    return OptimalCurve(levels, found.j_star_S, found.error_S, variance, images_ND.shape[1], critical)


def write_images(folder: Path, count: int = 24, side: int = 4, held_out: int = 6) -> Images:
    """A folder of random images of three pathologies and two devices, the last of them for validation."""
    random = np.random.default_rng(5)
    cases = tuple(
        Case(
            name=f"{number}.png",
            source="made_up",
            patient=str(number),
            pathology=PATHOLOGIES[number % 3],
            device="esaote" if number % 2 else "",
            split="validation" if number >= count - held_out else "pretrain",
        )
        for number in range(count)
    )
    pixels = random.integers(0, 256, (count, side, side)).astype(np.uint8)
    images = Images(pixels, np.zeros_like(pixels), cases, {})
    folder.mkdir(parents=True, exist_ok=True)
    images.write(folder)
    return images
