"""What ultrasound physics says of an image: speckle, and the lesion against what lies around and below it."""

# N images   H height   W width   P patches   A pixels of a patch

from __future__ import annotations

import numpy as np
from scipy.ndimage import maximum_filter

from models.busgen.statistics.estimate import Array
from models.common.errors import DataError

_HIGHEST = 10.0  # of SNR and Nakagami's m: 27 looks averaged, smoother than any speckle; a flat patch has this
_INSIDE = 128  # of 255: half a pixel covered


def envelope_of(pixels_NHW: np.ndarray, dynamic_range_db: float) -> Array:
    """The echo amplitude that log compression made these greys of, 1 at white.

    A = 10^((g / 255 - 1) range / 20)

    The range that a scanner used is seldom known, nor its grey map: so numbers of two sets compare, and hardly more.
    """
    return 10.0 ** ((np.asarray(pixels_NHW, dtype=np.float64) / 255 - 1) * dynamic_range_db / 20)


def patches_of(images_NHW: Array, side: int) -> Array:
    """Square patches side by side, [N, P, A]; what is left over at the right and below is not used."""
    count, height, width = images_NHW.shape
    down, across = height // side, width // side
    if not down * across:
        raise DataError(f"images of {height} x {width} hold no patch of {side} pixels\nfits: patch up to the side")
    cut = images_NHW[:, : down * side, : across * side].reshape(count, down, side, across, side)
    return cut.transpose(0, 1, 3, 2, 4).reshape(count, down * across, side * side)


def speckle_snr(envelope_NPA: Array) -> Array:
    """Mean over deviation of the envelope, of each patch, [N, P]: 1.91 for developed speckle (Burckhardt 1978).

    sqrt(pi / (4 - pi)) = 1.913 of Rayleigh's distribution
    """
    mean_NP = envelope_NPA.mean(axis=2)
    return mean_NP / np.maximum(envelope_NPA.std(axis=2), mean_NP / _HIGHEST)


def nakagami_m(envelope_NPA: Array) -> Array:
    """Nakagami's shape from moments, of each patch, [N, P]: 1 for developed speckle, less where scatterers are few.

    m = E[A^2]^2 / var(A^2)    (Nakagami 1960; Shankar 2000)
    """
    intensity_NPA = envelope_NPA**2
    mean_NP = intensity_NPA.mean(axis=2)
    return mean_NP**2 / np.maximum(intensity_NPA.var(axis=2), mean_NP**2 / _HIGHEST)


def lesion_contrast(pixels_NHW: np.ndarray, masks_NHW: np.ndarray, ring: int, dynamic_range_db: float) -> Array:
    """How much brighter the lesion is than the ring of pixels around it, in dB, [N]; 0 where there is no lesion.

    A difference of greys is one of decibels, as far as greys are log-compressed with this range.
    """
    lesion_NHW = np.asarray(masks_NHW) >= _INSIDE
    near_NHW = np.asarray(maximum_filter(lesion_NHW, size=(1, 2 * ring + 1, 2 * ring + 1), mode="constant"), dtype=bool)
    return _brighter(pixels_NHW, lesion_NHW, near_NHW & ~lesion_NHW, dynamic_range_db)


def posterior_contrast(pixels_NHW: np.ndarray, masks_NHW: np.ndarray, depth: int, dynamic_range_db: float) -> Array:
    """How much brighter it is right below the lesion than beside that, in dB, [N]: above 0 enhanced, below shadowed.

    Below: as many rows under the lesion's lowest pixel of each column. Beside: the same rows, in columns that the
    lesion does not cover. 0 where there is no lesion, or nothing beside or below it.
    """
    lesion_NHW = np.asarray(masks_NHW) >= _INSIDE
    height = lesion_NHW.shape[1]
    row_H1 = np.arange(height)[:, None]
    covered_N1W = lesion_NHW.any(axis=1, keepdims=True)
    lowest_N1W = height - 1 - np.argmax(lesion_NHW[:, ::-1], axis=1)[:, None]
    below_NHW = covered_N1W & (row_H1 > lowest_N1W) & (row_H1 <= lowest_N1W + depth)
    beside_NHW = below_NHW.any(axis=2, keepdims=True) & ~covered_N1W
    return _brighter(pixels_NHW, below_NHW, beside_NHW, dynamic_range_db)


def _brighter(pixels_NHW: np.ndarray, here_NHW: np.ndarray, there_NHW: np.ndarray, dynamic_range_db: float) -> Array:
    """Mean grey here less there, in dB; 0 where either has no pixel."""
    grey_NHW = np.asarray(pixels_NHW, dtype=np.float64)
    count_N, others_N = here_NHW.sum(axis=(1, 2)), there_NHW.sum(axis=(1, 2))
    here_N = np.einsum("nhw,nhw->n", grey_NHW, here_NHW.astype(np.float64)) / np.maximum(count_N, 1)
    there_N = np.einsum("nhw,nhw->n", grey_NHW, there_NHW.astype(np.float64)) / np.maximum(others_N, 1)
    return np.where((count_N > 0) & (others_N > 0), (here_N - there_N) * dynamic_range_db / 255, 0.0)
