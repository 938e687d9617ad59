"""Texture of grey images: co-occurrence, spectrum, histogram."""

# N images   H height   W width   L grey levels   B rings of frequency

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.busgen.statistics.estimate import Array

_NEIGHBOURS = ((0, 1), (1, 1), (1, 0), (1, -1))  # rows down, columns right: 0, 135, 90 and 45 degrees
_DARKEST_SHARE = 1e-8  # of the power, below which a ring is as good as empty
_IMAGES = 256  # at once


@dataclass(frozen=True)
class CoOccurrence:
    """Properties of the grey levels of neighbours, each a mean over four directions (Haralick et al. 1973), [N]."""

    contrast: Array
    homogeneity: Array
    energy: Array
    correlation: Array


def co_occurrence(pixels_NHW: np.ndarray, levels: int) -> CoOccurrence:
    """The properties of the symmetric matrix P of neighbours' levels a, b, pixels 0 to 255 put into equal levels.

    contrast    = sum P (a - b)^2         energy      = sqrt(sum P^2)
    homogeneity = sum P / (1 + (a - b)^2) correlation = sum P (a - m)(b - m) / s^2, 1 where s = 0
    """
    starts = range(0, len(pixels_NHW), _IMAGES)
    parts = [_properties(pixels_NHW[start : start + _IMAGES], levels) for start in starts]
    return CoOccurrence(*np.concatenate(parts, axis=1))


def _properties(pixels_NHW: np.ndarray, levels: int) -> Array:
    """Contrast, homogeneity, energy, correlation: [4, N]."""
    level_NHW = np.asarray(pixels_NHW, dtype=np.int32) * levels // 256
    found = [_of_matrix(_matrix(level_NHW, down, right, levels)) for down, right in _NEIGHBOURS]
    return np.mean(found, axis=0)


def _matrix(level_NHW: np.ndarray, down: int, right: int, levels: int) -> Array:
    """How often level a has level b as its neighbour in this direction or the opposite one, as a share, [N, L, L]."""
    count, height, width = level_NHW.shape
    here = level_NHW[:, : height - down, max(0, -right) : width - max(0, right)]
    there = level_NHW[:, down:, max(0, right) : width - max(0, -right)]
    cell = (np.arange(count)[:, None, None] * levels + here) * levels + there
    pairs_NLL = np.bincount(cell.ravel(), minlength=count * levels**2).reshape(count, levels, levels)
    both_ways_NLL = (pairs_NLL + pairs_NLL.transpose(0, 2, 1)).astype(np.float64)
    return both_ways_NLL / both_ways_NLL.sum(axis=(1, 2), keepdims=True)


def _of_matrix(share_NLL: Array) -> Array:
    levels = np.arange(share_NLL.shape[1], dtype=np.float64)
    apart_LL = (levels[:, None] - levels) ** 2
    contrast = np.einsum("nab,ab->n", share_NLL, apart_LL)
    homogeneity = np.einsum("nab,ab->n", share_NLL, 1 / (1 + apart_LL))
    energy = np.sqrt(np.einsum("nab,nab->n", share_NLL, share_NLL))
    margin_NL = share_NLL.sum(axis=2)
    mean_N = margin_NL @ levels
    variance_N = margin_NL @ levels**2 - mean_N**2
    # (a - b)^2 = (a - m)^2 + (b - m)^2 - 2 (a - m)(b - m), and both margins are the same
    flat_N = variance_N < 1e-9
    correlation = np.where(flat_N, 1.0, 1.0 - contrast / (2 * np.where(flat_N, 1.0, variance_N)))
    return np.stack([contrast, homogeneity, energy, correlation])


def radial_spectrum(pixels_NHW: np.ndarray, bins: int) -> Array:
    """The common logarithm of the power in each ring of frequencies, as a share of all in the rings, [N, B].

    The rings reach from 0 to half a cycle a pixel and are equally wide; corners beyond are left out. The mean is taken
    off, and a Hann window keeps the edges of the image from looking like fine texture.
    """
    height, width = pixels_NHW.shape[1:]
    window_HW = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1])
    ring_F, used = _rings(height, width, bins)
    shares = []
    for start in range(0, len(pixels_NHW), _IMAGES):
        grey_NHW = np.asarray(pixels_NHW[start : start + _IMAGES], dtype=np.float64)
        centred_NHW = (
            grey_NHW
            - np.average(grey_NHW, axis=(1, 2), weights=np.broadcast_to(window_HW, grey_NHW.shape))[:, None, None]
        )
        power_NF = np.abs(np.fft.fft2(centred_NHW * window_HW)).reshape(len(grey_NHW), -1)[:, used] ** 2
        power_NB = power_NF @ (ring_F[:, None] == np.arange(bins)).astype(np.float64)
        shares.append(power_NB / np.maximum(power_NB.sum(axis=1, keepdims=True), 1e-300))
    return np.log10(np.concatenate(shares) + _DARKEST_SHARE)


def _rings(height: int, width: int, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """The ring of each frequency that lies in one, and which do; frequency 0 does not."""
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)).ravel()
    used = (radius > 0.0) & (radius <= 0.5)
    return np.minimum((radius[used] * 2 * bins).astype(np.int64), bins - 1), used


def grey_moments(pixels_NHW: np.ndarray) -> Array:
    """Mean and deviation as shares of white, skewness and excess kurtosis (0 where all is one grey), [N, 4]."""
    grey_NP = np.asarray(pixels_NHW, dtype=np.float64).reshape(len(pixels_NHW), -1) / 255
    mean_N = grey_NP.mean(axis=1)
    centred_NP = grey_NP - mean_N[:, None]
    variance_N = np.mean(centred_NP**2, axis=1)
    flat_N = variance_N < 1e-12
    safe_N = np.where(flat_N, 1.0, variance_N)
    skewness_N = np.where(flat_N, 0.0, np.mean(centred_NP**3, axis=1) / safe_N**1.5)
    kurtosis_N = np.where(flat_N, 0.0, np.mean(centred_NP**4, axis=1) / safe_N**2 - 3)
    return np.stack([mean_N, np.sqrt(variance_N), skewness_N, kurtosis_N], axis=1)
