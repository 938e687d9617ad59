"""Where points come from: drawn once into a file, and taken from it row by row."""

# N points   D dimensions

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.regression.config import PointsData

Points = tuple[NDArray[np.float32], NDArray[np.float32]]


def write_points(config: PointsData, folder: Path) -> None:
    """Writes training and held-out points around one plane: y = x w + b + noise."""
    rng = np.random.default_rng(config.seed)
    slopes_D, intercept = rng.normal(size=config.dimensions), rng.normal()
    for name, count in (("train", config.points), ("held_out", config.held_out)):
        x_ND = rng.normal(size=(count, config.dimensions))
        y_N = x_ND @ slopes_D + intercept + config.noise * rng.normal(size=count)
        np.save(folder / f"{name}.npy", np.column_stack([x_ND, y_N]).astype(np.float32))


def read_points(folder: Path, name: str) -> Points:
    """x (N, D) and y (N) of "train" or "held_out"."""
    rows = np.load(folder / f"{name}.npy", allow_pickle=False)
    return rows[:, :-1], rows[:, -1]
