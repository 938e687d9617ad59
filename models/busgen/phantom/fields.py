"""Smooth random fields that can be read at any place, so that a moved probe sees the same tissue moved."""

# H depths   W places along the probe   M, N waves down and along

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

_PERIOD_MM = 131.0  # the fields repeat after this, which is more than any field of view


@dataclass(frozen=True)
class RandomField:
    """A stationary Gaussian field of mean 0 and variance 1.

    correlation(dz, dx) = exp(-dz^2 / 2 length_z^2) exp(-dx^2 / 2 length_x^2)

    coefficients: [2, M, N] for the plane and for one far from it, of cosines and sines times their amplitudes.
    """

    length_z_mm: float
    length_x_mm: float
    coefficients_2MN: np.ndarray

    def at(self, z_H: np.ndarray, x_W: np.ndarray, off_plane_mm: float = 0.0) -> np.ndarray:
        """Its values on a grid of depths and places, in float32: [H, W].

        off_plane_mm: a plane this far off has turned, by an angle of distance over length, to the other one.
        """
        turn = off_plane_mm / min(self.length_z_mm, self.length_x_mm)
        first_MN, second_MN = self.coefficients_2MN
        mixed_MN = math.cos(turn) * first_MN + math.sin(turn) * second_MN
        down_HM, along_WN = _waves(z_H, self.length_z_mm), _waves(x_W, self.length_x_mm)
        return down_HM @ mixed_MN @ along_WN.T


def draw_field(rng: np.random.Generator, length_z_mm: float, length_x_mm: float) -> RandomField:
    """A field of these correlation lengths: a sum of waves with Gaussian amplitudes."""
    spread_M, spread_N = _amplitudes(length_z_mm), _amplitudes(length_x_mm)
    size = (2, len(spread_M), len(spread_N))
    gaussian_2MN = rng.standard_normal(size, dtype=np.float32)
    return RandomField(length_z_mm, length_x_mm, gaussian_2MN * spread_M[:, None] * spread_N)


def draw_curve(rng: np.random.Generator, length_mm: float) -> RandomField:
    """A curve along the probe: a field that is the same at all depths."""
    return draw_field(rng, math.inf, length_mm)


def _wavenumbers(length_mm: float) -> np.ndarray:
    """In 1/mm, from 0 to where the spectrum exp(-(k length)^2 / 2) has fallen to 1 %."""
    highest = 0 if math.isinf(length_mm) else math.ceil(3.0 / length_mm * _PERIOD_MM / (2 * math.pi))
    return np.arange(highest + 1) * (2 * math.pi / _PERIOD_MM)


def _amplitudes(length_mm: float) -> np.ndarray:
    """Standard deviations of the cosines' and then the sines' amplitudes; variance 1 in all at every place."""
    k = _wavenumbers(length_mm)
    power = np.ones(1) if math.isinf(length_mm) else np.exp(-((k * length_mm) ** 2) / 2)
    power[1:] *= 2  # a wave and its mirror image
    power /= power.sum()
    return np.sqrt(np.concatenate([power, power[1:]])).astype(np.float32)


def _waves(places: np.ndarray, length_mm: float) -> np.ndarray:
    """Cosines and sines at each place: [places, waves]."""
    k = _wavenumbers(length_mm)
    angles = (np.asarray(places, np.float64)[:, None] * k).astype(np.float32)
    return np.concatenate([np.cos(angles), np.sin(angles[:, 1:])], axis=1)
