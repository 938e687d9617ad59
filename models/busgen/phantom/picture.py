"""One picture: tissue and lesion on a grid, their echoes, and what the scanner shows of them."""

# H depths   W places along the probe

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import fft
from scipy.ndimage import gaussian_filter1d

from models.busgen.phantom import acoustics, display
from models.busgen.phantom.anatomy import Breast, Tissue, tissue_of
from models.busgen.phantom.devices import Device
from models.busgen.phantom.fields import RandomField
from models.busgen.phantom.lesions import (
    Lesion,
    Outline,
    duct_share,
    edge_shadow_alpha,
    lesion_alpha,
    lesion_echo_db,
    outline_on,
    soft_inside,
    surroundings_db,
)

_COARSEST_MM = 0.2  # of a grid that still resolves the pulse
_ASIDE_MM, _BELOW_MM = 2.0, 3.0  # computed and cut off, as the Fourier transform joins opposite edges
_APERTURE_MM = 0.6  # a beam is so wide that shadows have soft sides
_DUCT_DB, _CALCIFICATION_DB = -17.0, 32.0
_CALCIFICATION_SHADOW_DB = 1.5  # of each of its cells
_LESION_SCATTERERS = 7.0
_REVERBERATION_DB = (-24.0, -34.0, -44.0)  # of the skin's echo, each time it has gone to and fro
_NEAR_CLUTTER_DB, _NEAR_CLUTTER_MM = -14.0, 2.0  # at the probe, and the depth in which its amplitude falls by e
_SIDE_LOBES_DB = -42.0
_ELEVATION_MM = 1.2  # a plane this far off has speckle of its own


@dataclass(frozen=True)
class Grid:
    """The cells that a picture is computed on; the first `size` rows and the `size` columns from `aside` are shown."""

    side: int  # pixels
    size: int  # cells of an edge that are shown
    aside: int
    cell_mm: float
    z_H: np.ndarray  # depth, mm
    x_W: np.ndarray  # place along the probe from its middle, mm

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.z_H), len(self.x_W)

    def shown(self, values_HW: np.ndarray) -> np.ndarray:
        return values_HW[: self.size, self.aside : self.aside + self.size]


@dataclass(frozen=True)
class Exam:
    """What stays the same from frame to frame: the patient, the scanner and the hand on its knobs."""

    breast: Breast
    lesion: Lesion | None
    lesion_x_mm: float
    lesion_z_mm: float
    lesion_size: float  # factor of all its lengths
    device: Device
    gain_db: float
    tgc_error: float  # dB / (cm MHz)
    tgc_curve: RandomField


@dataclass(frozen=True)
class Probe:
    """Where the probe is in one frame, against the patient's first plane."""

    along_mm: float = 0.0
    off_plane_mm: float = 0.0
    squeeze: float = 0.0  # share by which tissue is pressed together


@dataclass(frozen=True)
class Speckle:
    """The scatterers' random numbers: complex Gaussian for each look, and uniform ones that thin them out."""

    looks: tuple[np.ndarray, ...]
    uniform_HW: np.ndarray


def grid_of(side: int, field_mm: float) -> Grid:
    """A grid whose cells divide the pixels and are fine enough for the pulse."""
    per_pixel = math.ceil(field_mm / side / _COARSEST_MM)
    size, cell_mm = side * per_pixel, field_mm / side / per_pixel
    aside = math.ceil(_ASIDE_MM / cell_mm)
    height = _fast_length(size + math.ceil(_BELOW_MM / cell_mm))
    width = _fast_length(size + 2 * aside)
    z_H = (np.arange(height) + 0.5) * cell_mm
    x_W = (np.arange(width) - aside + 0.5) * cell_mm - field_mm / 2
    return Grid(side, size, aside, cell_mm, z_H, x_W)


def _fast_length(least: int) -> int:
    length = fft.next_fast_len(least)
    assert length is not None, "scipy answers every positive length"
    return length


def draw_speckle(grid: Grid, looks: int, rng: np.random.Generator) -> Speckle:
    gaussian = tuple(acoustics.complex_gaussian(rng, grid.shape) for _ in range(looks))
    return Speckle(gaussian, rng.random(grid.shape, dtype=np.float32))


def moved_speckle(speckle: Speckle, grid: Grid, probe: Probe, rng: np.random.Generator) -> Speckle:
    """The scatterers that a moved probe meets: shifted along, and partly others where it left the plane.

    The correlation with the first plane's is exp(-d^2 / 2 w^2) at a distance d, w being the beam's elevation width.
    """
    if probe == Probe():
        return speckle
    shift = -round(probe.along_mm / grid.cell_mm)
    kept = math.exp(-((probe.off_plane_mm / _ELEVATION_MM) ** 2) / 2)
    new = math.sqrt(1 - kept**2)
    looks = [np.roll(look_HW, shift, axis=1) for look_HW in speckle.looks]
    if new > 0:
        fresh = (acoustics.complex_gaussian(rng, grid.shape) for _ in looks)
        looks = [
            np.float32(kept) * same_HW + np.float32(new) * new_HW for same_HW, new_HW in zip(looks, fresh, strict=True)
        ]
    return Speckle(tuple(looks), np.roll(speckle.uniform_HW, shift, axis=1))


def picture_of(exam: Exam, probe: Probe, grid: Grid, speckle: Speckle) -> tuple[np.ndarray, np.ndarray]:
    """Grey values as uint8, and the lesion's mask as bool: both [side, side]."""
    envelope_HW, inside_HW = envelope_of(exam, probe, grid, speckle)
    grey_HW = display.grey_of(display.decibels(envelope_HW), exam.device)
    grey_HW = grid.shown(display.finished(grey_HW, exam.device, grid.cell_mm))
    mask_HW = display.area_mean(grid.shown(inside_HW).astype(np.float32), grid.side) >= 0.5
    # Clipped before the reduction as well: a scanner shows nothing beyond white.
    return display.pixels_of(display.area_mean(np.clip(grey_HW, 0, 1), grid.side)), mask_HW


def envelope_of(exam: Exam, probe: Probe, grid: Grid, speckle: Speckle) -> tuple[np.ndarray, np.ndarray]:
    """The compounded envelope before compression, fat at the focus being about 1, and what is lesion: [H, W]."""
    z_H = grid.z_H * (1 + probe.squeeze)
    tissue = tissue_of(exam.breast, z_H, grid.x_W + probe.along_mm, probe.off_plane_mm)
    points = np.zeros((0, 2), np.int64)
    inside_HW = np.zeros(grid.shape, bool)
    if exam.lesion is not None:
        outline = _outline(exam, exam.lesion, probe, grid, z_H)
        tissue = with_lesion(tissue, exam, probe, grid, outline)
        inside_HW = outline.inwards_HW > 0
        points = _calcified_cells(exam.lesion, outline, exam.lesion_size, grid)
    gain_db_HW = _gain_db(exam, tissue, points, grid)
    pulse = acoustics.pulse_of(exam.device, grid.z_H, grid.cell_mm)
    thinned_HW = acoustics.scatterer_density(tissue.scatterers_HW, pulse, speckle.uniform_HW)
    amplitude_HW = _amplitude(tissue.echo_db_HW + gain_db_HW) * thinned_HW
    amplitude_HW = _with_unwanted(amplitude_HW, exam, grid)
    calcified = _amplitude(gain_db_HW[points[:, 0], points[:, 1]] + np.float32(_CALCIFICATION_DB))
    looks = (_look(amplitude_HW, gaussian_HW, points, calcified) for gaussian_HW in speckle.looks)
    return acoustics.compounded_envelope(acoustics.blur(look_HW, pulse) for look_HW in looks), inside_HW


def with_lesion(tissue: Tissue, exam: Exam, probe: Probe, grid: Grid, outline: Outline) -> Tissue:
    """The tissue with the exam's lesion in it."""
    lesion = exam.lesion
    assert lesion is not None, "a normal breast has no outline"
    parts_HW = lesion.parts.at(outline.z_HW[:, 0], outline.x_HW[0], probe.off_plane_mm)
    share_HW, duct_HW = soft_inside(lesion, outline), duct_share(lesion, outline, exam.lesion_size)
    echo_HW = tissue.echo_db_HW + surroundings_db(lesion, outline)
    echo_HW += duct_HW * (np.float32(_DUCT_DB) - echo_HW)
    echo_HW += share_HW * (lesion_echo_db(lesion, parts_HW) - echo_HW)
    alpha_HW = tissue.alpha_HW + share_HW * (lesion_alpha(lesion, outline) - tissue.alpha_HW)
    frequency = acoustics.attenuation_frequency(exam.device)
    alpha_HW += edge_shadow_alpha(lesion, outline, grid.cell_mm, frequency)
    scatterers_HW = tissue.scatterers_HW + share_HW * (np.float32(_LESION_SCATTERERS) - tissue.scatterers_HW)
    return Tissue(tissue.labels_HW, echo_HW, alpha_HW, scatterers_HW)


def _outline(exam: Exam, lesion: Lesion, probe: Probe, grid: Grid, z_H: np.ndarray) -> Outline:
    """A plane beside the lesion's middle cuts it smaller, as it would an ellipsoid, though never below 0.8 of it."""
    off = probe.off_plane_mm / (lesion.reach_mm * exam.lesion_size)
    size = exam.lesion_size * max(math.sqrt(max(1 - off**2, 0.0)), 0.8)
    return outline_on(lesion, grid.x_W + probe.along_mm - exam.lesion_x_mm, z_H - exam.lesion_z_mm, size)


def _calcified_cells(lesion: Lesion, outline: Outline, size: float, grid: Grid) -> np.ndarray:
    """The cells that are calcified and in the grid, each once: [cells, 2], row and column."""
    x_W, z_H = outline.x_HW[0], outline.z_HW[:, 0]
    reach = max(lesion.calcification_mm / 2 / grid.cell_mm, 0.5)
    offsets = np.arange(-math.floor(reach), math.floor(reach) + 1)
    around = np.array([(down, along) for down in offsets for along in offsets if math.hypot(down, along) <= reach])
    columns = np.rint((lesion.calcifications_P2[:, 0] * size - x_W[0]) / (x_W[1] - x_W[0]))
    rows = np.rint((lesion.calcifications_P2[:, 1] * size - z_H[0]) / (z_H[1] - z_H[0]))
    cells = (np.stack([rows, columns], axis=1)[:, None] + around).reshape(-1, 2).astype(np.int64)
    fits = ((cells >= 0) & (cells < grid.shape)).all(axis=1)
    return np.unique(cells[fits], axis=0)


def _gain_db(exam: Exam, tissue: Tissue, points: np.ndarray, grid: Grid) -> np.ndarray:
    """What travelling, the compensation and the knobs do to an echo's level, in dB: [H, W]."""
    frequency = acoustics.attenuation_frequency(exam.device)
    alpha_HW = tissue.alpha_HW.copy()
    alpha_HW[points[:, 0], points[:, 1]] += _CALCIFICATION_SHADOW_DB / (2 * frequency * grid.cell_mm / 10)
    loss_HW = acoustics.loss_db(alpha_HW, grid.cell_mm, frequency)
    loss_HW = gaussian_filter1d(loss_HW, _APERTURE_MM / grid.cell_mm, axis=1, mode="nearest", truncate=2.5)
    curve_H = 1.5 * exam.tgc_curve.at(np.zeros(1), grid.z_H)[0]
    knobs_H = exam.gain_db + curve_H + 2 * frequency * exam.tgc_error * (grid.z_H - exam.device.focus_mm) / 10
    return knobs_H.astype(np.float32)[:, None] - loss_HW


def _with_unwanted(amplitude_HW: np.ndarray, exam: Exam, grid: Grid) -> np.ndarray:
    """Amplitudes with the skin's reverberations, clutter and the receiver's noise: their powers add. [H, W]."""
    power_HW = amplitude_HW**2
    skin = round((exam.breast.gel_mm + exam.breast.skin_mm + 0.3) / grid.cell_mm)
    for times, db in enumerate(_REVERBERATION_DB, start=1):
        power_HW[times * skin : (times + 1) * skin] += amplitude_HW[:skin] ** 2 * np.float32(10 ** (db / 10))
    frequency = acoustics.attenuation_frequency(exam.device)
    lifted_db = exam.device.noise_db + 2 * frequency * acoustics.TGC_DB_PER_CM_MHZ * grid.z_H / 10
    near = 10 ** (_NEAR_CLUTTER_DB / 10) * np.exp(-2 * grid.z_H / _NEAR_CLUTTER_MM)
    unwanted_H = near + 10 ** (_SIDE_LOBES_DB / 10) + 10 ** (lifted_db / 10)
    return np.sqrt(power_HW + (unwanted_H * 10 ** (exam.gain_db / 10)).astype(np.float32)[:, None])


def _amplitude(db: np.ndarray) -> np.ndarray:
    return np.exp(db * np.float32(math.log(10) / 20))


def _look(amplitude_HW: np.ndarray, gaussian_HW: np.ndarray, points: np.ndarray, calcified: np.ndarray) -> np.ndarray:
    """The scatterers of one look; a calcification is one strong echo, of which the look sets the phase only."""
    look_HW = amplitude_HW * gaussian_HW
    rows, columns = points[:, 0], points[:, 1]
    phase = gaussian_HW[rows, columns] / (np.abs(gaussian_HW[rows, columns]) + np.float32(1e-12))
    look_HW[rows, columns] += calcified * phase
    return look_HW
