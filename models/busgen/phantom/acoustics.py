"""From tissue to echoes: attenuation along the beam, speckle, the pulse, and the average over looks."""

# H depths   W places along the probe   L looks

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import fft

from models.busgen.phantom.devices import Device

SOUND_MM_PER_US = 1.54
TGC_DB_PER_CM_MHZ = 0.7  # what the time-gain compensation takes tissue to attenuate
_FWHM = 2 * math.sqrt(2 * math.log(2))  # of a Gaussian, in standard deviations
_NARROWEST = 0.55  # cells: below, the grid could not hold the pulse


@dataclass(frozen=True)
class Pulse:
    """The point spread function on a grid: Gaussian, its width across growing away from the focus.

    across_H, along: standard deviations in cells. `across_H` has a value for every depth: as depths are rows, a
    width for each costs no more than a few depth bands.
    """

    across_H: np.ndarray
    along: float

    def cells(self) -> np.ndarray:
        """Cells in one resolution cell, by depth: (sum |h|^2)^2 / sum |h|^4 of the sampled pulse, [H]."""
        return _cells_of(self.across_H) * _cells_of(np.array([self.along]))


def attenuation_frequency(device: Device) -> float:
    """In MHz, the pulse's mean frequency at the focus, lower than sent as tissue takes the high ones first.

    A Gaussian spectrum of standard deviation s shifts by s^2 a per Np of slope a = alpha 2z (Kuc 1984).
    """
    spread = device.frequency_mhz * device.bandwidth / _FWHM
    nepers_per_mhz = TGC_DB_PER_CM_MHZ * 2 * device.focus_mm / 10 / (20 / math.log(10))
    return max(device.frequency_mhz - spread**2 * nepers_per_mhz, device.frequency_mhz / 2)


def loss_db(alpha_HW: np.ndarray, cell_mm: float, frequency_mhz: float) -> np.ndarray:
    """What an echo has lost on its way down and back, less what the time-gain compensation gives back, in dB.

        2 f (integral_0^z alpha dz' - alpha_TGC z)

    alpha in dB / (cm MHz), z in cm. Negative behind what attenuates less than the compensation assumes. [H, W].
    """
    passed_HW = np.cumsum(alpha_HW - np.float32(TGC_DB_PER_CM_MHZ), axis=0, dtype=np.float32)
    # Echoes of a cell come from its middle: half of it has been passed.
    passed_HW -= (alpha_HW - np.float32(TGC_DB_PER_CM_MHZ)) / 2
    return passed_HW * np.float32(2 * frequency_mhz * cell_mm / 10)


def pulse_of(device: Device, z_H: np.ndarray, cell_mm: float) -> Pulse:
    """The device's pulse on a grid of these depths, all widths at half height of the envelope.

    along  = c / 2 x duration,  duration of a Gaussian spectrum of -6 dB width B: sigma_t = sqrt(2 ln 2) / (pi B)
    across = wavelength x f-number x sqrt(1 + ((z - focus) / depth of field)^2)
    """
    band = device.bandwidth * device.frequency_mhz
    along_mm = SOUND_MM_PER_US / 2 * math.sqrt(2 * math.log(2)) / (math.pi * band)
    focus_mm = SOUND_MM_PER_US / device.frequency_mhz * device.f_number / _FWHM
    across_H = focus_mm * np.sqrt(1 + ((z_H - device.focus_mm) / device.depth_of_field_mm) ** 2)
    return Pulse(np.maximum(across_H / cell_mm, _NARROWEST), max(along_mm / cell_mm, _NARROWEST))


def scatterer_density(per_cell_HW: np.ndarray, pulse: Pulse, uniform_HW: np.ndarray) -> np.ndarray:
    """Amplitudes of thinned-out scatterers, of mean square 1: [H, W], float32.

    per_cell_HW: scatterers in a resolution cell; where the grid has fewer cells than that, all of them scatter and
    speckle is fully developed. Fewer scatterers give a lower SNR than Rayleigh's 1.91.
    """
    share_HW = np.clip(per_cell_HW / pulse.cells()[:, None], 0.02, 1.0).astype(np.float32)
    return np.where(uniform_HW < share_HW, 1 / np.sqrt(share_HW), 0).astype(np.float32)


def blur(echoes_HW: np.ndarray, pulse: Pulse) -> np.ndarray:
    """Echoes seen through the pulse, complex64: [H, W]. Uncorrelated echoes keep their mean power."""
    across_HW, across_H = _filter(echoes_HW.shape[1], pulse.across_H)
    along_1H, along = _filter(echoes_HW.shape[0], np.array([pulse.along]))
    seen_HW = _filtered(echoes_HW, across_HW / across_H[:, None], axis=1)
    return _filtered(seen_HW, (along_1H[0] / along[0])[:, None], axis=0)


def compounded_envelope(looks: Iterable[np.ndarray]) -> np.ndarray:
    """The mean of the looks' envelopes: [H, W]. Of K independent looks, mean / deviation is 1.91 sqrt(K)."""
    envelopes = [np.abs(look_HW) for look_HW in looks]
    return np.asarray(np.mean(envelopes, axis=0, dtype=np.float32))


def complex_gaussian(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Circular complex numbers of mean square 1, complex64."""
    pairs = rng.standard_normal((*shape, 2), dtype=np.float32) * np.float32(math.sqrt(0.5))
    return pairs.view(np.complex64)[..., 0]


def _filtered(values_HW: np.ndarray, response: np.ndarray, axis: int) -> np.ndarray:
    spectrum_HW = np.asarray(fft.fft(values_HW, axis=axis)) * response
    return np.asarray(fft.ifft(spectrum_HW, axis=axis))


def _filter(size: int, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """exp(-(k width)^2 / 2) for each width, [widths, size], and the root of its mean square, in float32."""
    k = 2 * np.pi * fft.fftfreq(size).astype(np.float32)
    response = np.exp(-((k * widths.astype(np.float32)[:, None]) ** 2) / 2)
    return response, np.sqrt(np.mean(response**2, axis=1))


def _cells_of(widths: np.ndarray) -> np.ndarray:
    power = np.exp(-((np.arange(-20, 21) / widths[:, None]) ** 2))
    return power.sum(axis=1) ** 2 / (power**2).sum(axis=1)
