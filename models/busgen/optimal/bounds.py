"""What is known of the optimal loss without estimating it: limits, bounds, and what an estimate has to obey."""

# N images   D numbers of an image   S levels   I eigenvalues

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from models.busgen.optimal.posterior import Array, Samples


@dataclass(frozen=True)
class Spread:
    """Second moments of a data set.

    total_variance: E||x - E x||^2, the limit of J* as s grows. variances_I: of the principal axes, those above zero;
    None where there were too many images and numbers to find them.
    """

    images: int
    pixels: int
    total_variance: float
    variances_I: Array | None


def spread_of(samples: Samples, *, at_once: int, most_axes: int) -> Spread:
    """The moments, in passes of so many images; the axes where images or numbers, the fewer, are no more than that."""
    count, numbers = len(samples), samples[np.zeros(1, np.int64)].shape[1]
    blocks = [np.arange(start, min(start + at_once, count)) for start in range(0, count, at_once)]
    mean_D = _sum(samples[rows].sum(0, dtype=torch.float64) for rows in blocks) / count
    total = float(_sum((samples[rows] - mean_D).square().sum() for rows in blocks)) / count
    if min(count, numbers) > most_axes:
        return Spread(count, numbers, total, None)
    if numbers <= count:
        square = _sum((samples[rows] - mean_D).T @ (samples[rows] - mean_D) for rows in blocks)
    else:
        centred_ND = samples[np.arange(count)] - mean_D
        square = centred_ND @ centred_ND.T
    variances = torch.linalg.eigvalsh(square / count).clamp(min=0.0).cpu().numpy()
    return Spread(count, numbers, total, variances[::-1].copy())


def _sum(values: Iterable[Tensor]) -> Tensor:
    """The sum, holding two of them at a time."""
    return reduce(torch.add, values)


def wiener_loss(variances_I: Array, levels_S: Array) -> Array:
    """The loss of the best linear denoiser, which J* cannot exceed; equal to J* for Gaussian data.

    sum_i lambda_i s^2 / (lambda_i + s^2)
    """
    noise_S1 = np.square(levels_S)[:, None]
    return (variances_I * noise_S1 / (variances_I + noise_S1)).sum(1)


def upper_bound(spread: Spread, levels_S: Array) -> Array:
    """The least of the bounds from above: the noise D s^2, the total variance, and the linear denoiser's loss."""
    bound_S = np.minimum(spread.pixels * np.square(levels_S), spread.total_variance)
    return bound_S if spread.variances_I is None else np.minimum(bound_S, wiener_loss(spread.variances_I, levels_S))


def violations(levels_S: Array, j_star_S: Array, error_S: Array, spread: Spread) -> dict[str, float]:
    """How far an estimate breaks what J* obeys, in standard errors at the worst level; 0 where it does not at all.

    "negative": below 0. "above_bound": above `upper_bound`. "falling": lower than at a smaller s. An error is taken
    as at least 1e-6 of the total variance, what float32 leaves.
    """
    least = 1e-6 * spread.total_variance
    error_S = np.maximum(error_S, least)
    steps = np.maximum(np.maximum.accumulate(j_star_S) - j_star_S, 0.0)
    return {
        "negative": float(np.max(np.maximum(-j_star_S, 0.0) / error_S)),
        "above_bound": float(np.max(np.maximum(j_star_S - upper_bound(spread, levels_S), 0.0) / error_S)),
        "falling": float(np.max(steps / error_S)),
    }
