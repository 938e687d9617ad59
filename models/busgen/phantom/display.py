"""From the envelope to the grey values that a scanner shows."""

# H depths   W places along the probe

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from models.busgen.phantom.devices import Device

_SHARPENING_MM = 0.5  # edges are sharpened against the mean over this width


def decibels(envelope_HW: np.ndarray) -> np.ndarray:
    """20 log10(envelope), from -200 dB upwards: [H, W]."""
    return 20 * np.log10(np.maximum(envelope_HW, np.float32(1e-10)))


def grey_of(db_HW: np.ndarray, device: Device) -> np.ndarray:
    """The device's grey map, 0 black to 1 white: [H, W].

    grey = clip((dB - brightest + range) / range, 0, 1)^gamma
    """
    above_HW = db_HW - np.float32(device.brightest_db - device.dynamic_range_db)
    return np.clip(above_HW / np.float32(device.dynamic_range_db), 0, 1) ** np.float32(device.gamma)


def finished(grey_HW: np.ndarray, device: Device, cell_mm: float) -> np.ndarray:
    """Smoothed, then sharpened against its surroundings, as the device does: [H, W], not clipped."""
    if device.smoothing_mm:
        grey_HW = gaussian_filter(grey_HW, device.smoothing_mm / cell_mm, mode="nearest", truncate=3.0)
    if device.sharpening:
        mean_HW = gaussian_filter(grey_HW, _SHARPENING_MM / cell_mm, mode="nearest", truncate=2.5)
        grey_HW = grey_HW + np.float32(device.sharpening) * (grey_HW - mean_HW)
    return grey_HW


def area_mean(values_HW: np.ndarray, side: int) -> np.ndarray:
    """The means of equal squares of cells, which tile the grid: [side, side], float32."""
    cells = values_HW.shape[0] // side
    return values_HW.reshape(side, cells, side, cells).mean(axis=(1, 3), dtype=np.float32)


def pixels_of(grey_HW: np.ndarray) -> np.ndarray:
    """Grey values from 0 to 1 as they are stored, uint8; what lies beyond is clipped."""
    return np.clip(np.rint(grey_HW * 255), 0, 255).astype(np.uint8)
