"""The breast from skin to chest wall: which tissue lies where, how it echoes and what it takes from the beam."""

# H depths   W places along the probe

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from models.busgen.phantom.fields import RandomField, draw_curve, draw_field

GEL, SKIN, FAT, GLAND, MUSCLE, CHEST = range(6)
# Echogenicity in dB, fat being 0; attenuation in dB / (cm MHz); scatterers in a resolution cell. Attenuation of fat and
# gland after the acoustic table of PMC5087608.
ECHO_DB = np.array([-22.0, 5.0, 0.0, 9.0, -3.0, -16.0], np.float32)
ALPHA = np.array([0.3, 0.8, 0.60, 0.75, 0.72, 1.2], np.float32)
SCATTERERS = np.array([12.0, 12.0, 9.0, 5.0, 8.0, 8.0], np.float32)
GLAND_SHARE = {"a": 0.15, "b": 0.38, "c": 0.64, "d": 0.9}  # by the ACR's composition, of the gland's layer


@dataclass(frozen=True)
class Breast:
    """One patient's tissue, readable at any place. Depths in mm from the probe."""

    composition: str
    gel_mm: float
    skin_mm: float
    gland_from_mm: float
    gland_to_mm: float
    muscle_from_mm: float
    muscle_mm: float
    borders: tuple[RandomField, RandomField, RandomField]  # above and below the gland, above the muscle
    partition: RandomField  # gland where it is low, fat lobules where it is high
    septa: RandomField  # Cooper's ligaments where it passes 0,
    septa_gaps: RandomField  # and this is high
    grain: RandomField  # oriented texture of the gland
    ducts: RandomField
    lobules: RandomField  # uneven fat
    striae: RandomField
    ribs_mm: tuple[float, ...]  # their places along the probe


@dataclass(frozen=True)
class Tissue:
    """The maps that a picture is made of; [H, W], float32, labels int."""

    labels_HW: np.ndarray
    echo_db_HW: np.ndarray
    alpha_HW: np.ndarray
    scatterers_HW: np.ndarray


def draw_breast(rng: np.random.Generator) -> Breast:
    """A breast of one of the four compositions."""
    composition = str(rng.choice(list(GLAND_SHARE), p=[0.1, 0.4, 0.4, 0.1]))
    gland_from = rng.uniform(4.5, 8.0)
    gland_to = gland_from + rng.uniform(14.0, 20.0)
    ribs = rng.uniform(-10, 10) + 24.0 * np.arange(-3, 5) if rng.random() < 0.5 else np.zeros(0)
    return Breast(
        composition=composition,
        gel_mm=rng.uniform(0.3, 0.8),
        skin_mm=rng.uniform(1.2, 2.3),
        gland_from_mm=gland_from,
        gland_to_mm=gland_to,
        muscle_from_mm=gland_to + rng.uniform(1.5, 4.0),
        muscle_mm=rng.uniform(5.0, 8.0),
        borders=(draw_curve(rng, 6.0), draw_curve(rng, 9.0), draw_curve(rng, 18.0)),
        partition=draw_field(rng, 2.4, 5.0),
        septa=draw_field(rng, 2.0, 8.0),
        septa_gaps=draw_field(rng, 2.5, 4.0),
        grain=draw_field(rng, 0.45, 1.9),
        ducts=draw_field(rng, 0.9, 5.0),
        lobules=draw_field(rng, 0.9, 2.4),
        striae=draw_field(rng, 0.35, 9.0),
        ribs_mm=tuple(float(rib) for rib in ribs),
    )


def tissue_of(breast: Breast, z_H: np.ndarray, x_W: np.ndarray, off_plane_mm: float = 0.0) -> Tissue:
    """The breast without a lesion on a grid of depths and places."""
    zero = np.zeros(1)
    top_W, bottom_W, wall_W = (border.at(zero, x_W, off_plane_mm)[0] for border in breast.borders)
    z = z_H.astype(np.float32)[:, None]
    gland_from_W = np.maximum(breast.gland_from_mm + 1.3 * top_W, breast.gel_mm + breast.skin_mm + 1.2)
    muscle_from_W = breast.muscle_from_mm + 0.9 * wall_W
    gland_to_W = np.minimum(breast.gland_to_mm + 1.2 * bottom_W, muscle_from_W - 0.8)
    chest_from_W = muscle_from_W + breast.muscle_mm
    lobes_HW = breast.partition.at(z_H, x_W, off_plane_mm)
    in_gland_HW = (z > gland_from_W) & (z < gland_to_W) & (lobes_HW < float(ndtri(GLAND_SHARE[breast.composition])))
    labels_HW = np.where(in_gland_HW, GLAND, FAT)
    labels_HW[z_H < breast.gel_mm + breast.skin_mm] = SKIN
    labels_HW[z_H < breast.gel_mm] = GEL
    labels_HW[z > muscle_from_W] = MUSCLE
    labels_HW[z > chest_from_W] = CHEST

    echo_HW = ECHO_DB[labels_HW] + _texture_db(breast, labels_HW, z_H, x_W, off_plane_mm)
    echo_HW += _bright_line(z, breast.gel_mm + 0.15, 0.18, 12.0)
    echo_HW += _bright_line(z, breast.gel_mm + breast.skin_mm, 0.2, 10.0)
    echo_HW += _bright_line(z, muscle_from_W, 0.25, 13.0)  # fascia
    echo_HW += _bright_line(z, chest_from_W, 0.3, 24.0)  # pleura
    alpha_HW = ALPHA[labels_HW]
    _add_ribs(breast, echo_HW, alpha_HW, z, chest_from_W, x_W)
    return Tissue(labels_HW, echo_HW, alpha_HW, SCATTERERS[labels_HW])


def _texture_db(
    breast: Breast, labels_HW: np.ndarray, z_H: np.ndarray, x_W: np.ndarray, off_plane_mm: float
) -> np.ndarray:
    """What the inside of each tissue adds to its mean echogenicity, in dB: [H, W]."""
    septa_HW = np.exp(-((breast.septa.at(z_H, x_W, off_plane_mm) / np.float32(0.07)) ** 2))
    septa_HW *= np.clip(breast.septa_gaps.at(z_H, x_W, off_plane_mm) + 0.5, 0, 1)
    fat_HW = 10 * septa_HW + 2.0 * breast.lobules.at(z_H, x_W, off_plane_mm)
    ducts_HW = np.exp(-((breast.ducts.at(z_H, x_W, off_plane_mm) / np.float32(0.16)) ** 2))
    gland_HW = 2.6 * breast.grain.at(z_H, x_W, off_plane_mm) - 5 * ducts_HW
    muscle_HW = 7 * np.clip(breast.striae.at(z_H, x_W, off_plane_mm) - 0.3, -0.6, 2)
    zero_HW = np.float32(0)
    return np.select(
        [labels_HW == FAT, labels_HW == GLAND, labels_HW == MUSCLE], [fat_HW, gland_HW, muscle_HW], zero_HW
    )


def _bright_line(z: np.ndarray, depth: float | np.ndarray, half_width_mm: float, db: float) -> np.ndarray:
    steps = np.minimum(np.abs(z - depth) / np.float32(half_width_mm), 5)  # beyond, exp would underflow, slowly
    return np.float32(db) * np.exp(-(steps**2))


def _add_ribs(
    breast: Breast, echo_HW: np.ndarray, alpha_HW: np.ndarray, z: np.ndarray, chest_from_W: np.ndarray, x_W: np.ndarray
) -> None:
    """Ribs in the chest wall, in place: a bright face, and bone that lets little through."""
    for rib in breast.ribs_mm:
        aside_W = ((x_W - rib) / 6.0).astype(np.float32)
        if np.abs(aside_W).min() > 1:
            continue
        face_W = chest_from_W + 0.5 - 2.2 * np.sqrt(np.clip(1 - aside_W**2, 0, None))
        under_HW = (z > face_W) & (np.abs(aside_W) < 1)
        echo_HW[:] = np.where(under_HW, -14 + _bright_line(z, face_W + 0.3, 0.35, 30.0), echo_HW)
        alpha_HW[under_HW] = 5.0
