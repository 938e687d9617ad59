"""A lesion with the signs that its descriptors name: its outline, and what it does to the tissue."""

# A angles   H depths   W places along the probe   P calcifications

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from models.busgen.phantom.acoustics import TGC_DB_PER_CM_MHZ
from models.busgen.phantom.fields import RandomField, draw_field

ANGLES = 1024
SMALLEST_MM, LARGEST_MM = 6.0, 20.0

ECHO_DB = {"anechoic": -50.0, "hypoechoic": -13.0, "isoechoic": -1.0, "hyperechoic": 10.0, "complex": -9.0}
_HALF_WIDTHS_MM = {"circumscribed": 0.12, "indistinct": 1.1, "microlobulated": 0.2, "angular": 0.2, "spiculated": 0.45}
# What the whole lesion takes beyond ordinary tissue, there and back at _AT_MHZ, in dB.
_LOSS_DB = {"none": (-1.0, 1.0), "enhancement": (-14.0, -8.0), "shadowing": (15.0, 26.0)}
_AT_MHZ = 8.0
_LEAST_ALPHA, _MOST_ALPHA = 0.0022, 3.0  # dB / (cm MHz): a cyst's, and dense fibrosis


@dataclass(frozen=True)
class Duct:
    """A widened duct that leaves the lesion; lengths in mm from its centre."""

    angle: float
    from_mm: float
    to_mm: float
    half_width_mm: float


@dataclass(frozen=True)
class Lesion:
    """A lesion in its own coordinates: mm from its centre, x along the probe and z down.

    radius_A: the outline's distance from the centre, by angle from the probe's direction downwards.
    rays_A: -1 to 1 by angle, where dark and bright spicules leave the outline.
    """

    descriptors: Mapping[str, str]
    radius_A: np.ndarray
    rays_A: np.ndarray
    half_width_mm: float  # of the blurred border
    echo_db: float
    alpha_first: float  # dB / (cm MHz) on one side,
    alpha_second: float  # and on the other
    parts: RandomField  # of the inside
    calcifications_P2: np.ndarray  # x, z
    calcification_mm: float
    ducts: tuple[Duct, ...]

    @property
    def reach_mm(self) -> float:
        """The longest radius."""
        return float(self.radius_A.max())


@dataclass(frozen=True)
class Outline:
    """Where the cells of a grid lie with respect to a lesion; all [H, W], float32."""

    x_HW: np.ndarray  # mm from its centre
    z_HW: np.ndarray
    angle_HW: np.ndarray  # index of the angle, int
    inwards_HW: np.ndarray  # mm from the outline, along the radius; negative outside


def outline_on(lesion: Lesion, x_W: np.ndarray, z_H: np.ndarray, size: float = 1.0) -> Outline:
    """The lesion, its size multiplied, on a grid that is given from its centre."""
    x_HW, z_HW = np.broadcast_arrays(x_W.astype(np.float32)[None, :], z_H.astype(np.float32)[:, None])
    turns_HW = np.arctan2(z_HW, x_HW) * np.float32(ANGLES / (2 * math.pi))
    angle_HW = np.rint(turns_HW).astype(np.int32) % ANGLES
    radius_HW = (lesion.radius_A * size).astype(np.float32)[angle_HW]
    return Outline(x_HW, z_HW, angle_HW, radius_HW - np.hypot(x_HW, z_HW))


def draw_lesion(descriptors: Mapping[str, str], rng: np.random.Generator) -> Lesion:
    """A lesion that shows these descriptors. All else, its size too, is drawn alike for all."""
    radius_A = _radii(descriptors, rng)
    echo = descriptors["echo_pattern"]
    alpha = {name: _alpha(rng.uniform(*ends), radius_A) for name, ends in _LOSS_DB.items()}
    sides = ("shadowing", "enhancement") if descriptors["posterior"] == "combined" else (descriptors["posterior"],) * 2
    if rng.random() < 0.5:
        sides = sides[::-1]
    angles = rng.uniform(0, 2 * math.pi) + np.cumsum(rng.uniform(0.5, 1.6, size=2))
    inner, outer = 0.2 * radius_A.min(), radius_A.mean() + rng.uniform(3.0, 5.0)
    ducts = tuple(Duct(float(angle), inner, outer, rng.uniform(0.45, 0.7)) for angle in angles)
    parts = (2.2, 2.2) if echo == "complex" else (1.5, 1.8)
    return Lesion(
        descriptors=dict(descriptors),
        radius_A=radius_A,
        rays_A=_rays(rng) if descriptors["margin"] == "spiculated" else np.zeros(ANGLES),
        half_width_mm=_HALF_WIDTHS_MM[descriptors["margin"]] * rng.uniform(0.8, 1.25),
        echo_db=ECHO_DB.get(echo, -9.0) + rng.normal(0.0, 1.5),
        alpha_first=alpha[sides[0]],
        alpha_second=alpha[sides[1]],
        parts=draw_field(rng, *parts),
        calcifications_P2=_calcifications(descriptors["calcifications"], radius_A, ducts, rng),
        calcification_mm=rng.uniform(0.3, 0.55),
        ducts=ducts if descriptors["calcifications"] == "intraductal" else (),
    )


def _alpha(loss_db: float, radius_A: np.ndarray) -> float:
    """Attenuation of a lesion of this height that takes so much more than what the compensation gives back."""
    depths_A = radius_A * np.sin(np.arange(ANGLES) * (2 * math.pi / ANGLES))
    height_cm = (depths_A.max() - depths_A.min()) / 10
    return float(np.clip(TGC_DB_PER_CM_MHZ + loss_db / (2 * _AT_MHZ * height_cm), _LEAST_ALPHA, _MOST_ALPHA))


def _radii(descriptors: Mapping[str, str], rng: np.random.Generator) -> np.ndarray:
    """r(angle) = ellipse(angle) x (1 + bulges of the shape) x (1 + details of the margin): [A], mm."""
    a = np.arange(ANGLES) * (2 * math.pi / ANGLES)
    diameter = SMALLEST_MM + (LARGEST_MM - SMALLEST_MM) * rng.beta(1.6, 2.4)
    shape, parallel = descriptors["shape"], descriptors["orientation"] == "parallel"
    aspect = {"round": (1.03, 1.12), "oval": (1.4, 2.0), "irregular": (1.25, 1.8)}[shape]
    stretch = math.sqrt(rng.uniform(*aspect))
    wide, tall = (stretch, 1 / stretch) if parallel else (1 / stretch, stretch)
    tilt = rng.normal(0.0, 0.12)
    ellipse_A = diameter / 2 / np.hypot(np.cos(a - tilt) / wide, np.sin(a - tilt) / tall)
    strength = {"round": 0.02, "oval": 0.04, "irregular": 0.3}[shape]
    orders = range(2, 4) if shape != "irregular" else range(2, 10)
    # Falling as 1 / n, and of random phases: unruly, and not a star of n points.
    bulges_A = sum(strength / n * rng.normal(0, 1.2) * np.cos(n * a + rng.uniform(0, 2 * math.pi)) for n in orders)
    radius_A = ellipse_A * np.clip(1 + bulges_A, 0.6, 1.4) * (1 + _margin(descriptors["margin"], a, rng))
    # The longest diameter is the one drawn, whatever the shape: size says nothing of the descriptors.
    longest = (radius_A + np.roll(radius_A, ANGLES // 2)).max()
    return radius_A * (diameter / longest)


def _margin(margin: str, a: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What the margin adds to the radius, as a share of it: [A]."""
    if margin == "microlobulated":
        lobes, start = 2 * int(rng.integers(5, 8)), rng.uniform(0, 2 * math.pi, 4)
        uneven = a + 0.12 * np.sin(2 * a + start[0]) + 0.10 * np.sin(3 * a + start[1])
        depth = 0.17 * (1 + 0.5 * np.cos(2 * a + start[2]) + 0.4 * np.cos(3 * a + start[3]))
        return depth * (np.abs(np.sin(lobes * uneven / 2 + start[0])) - 0.6)
    if margin == "angular":
        return _peaks(a, rng, count=int(rng.integers(3, 6)), half_width=0.42, height=(0.15, 0.42))
    if margin == "spiculated":
        return _peaks(a, rng, count=int(rng.integers(7, 12)), half_width=0.13, height=(0.12, 0.38))
    return np.zeros(ANGLES)


def _peaks(
    a: np.ndarray, rng: np.random.Generator, *, count: int, half_width: float, height: tuple[float, float]
) -> np.ndarray:
    """Pointed peaks around the circle, roughly evenly: [A]."""
    centres = 2 * math.pi * (np.arange(count) + rng.uniform(-0.3, 0.3, count)) / count + rng.uniform(0, 2 * math.pi)
    away = np.abs((a[:, None] - centres + math.pi) % (2 * math.pi) - math.pi)
    return (np.clip(1 - away / half_width, 0, None) * rng.uniform(*height, count)).max(axis=1)


def _rays(rng: np.random.Generator) -> np.ndarray:
    a = np.arange(ANGLES) * (2 * math.pi / ANGLES)
    bright = _peaks(a, rng, count=int(rng.integers(12, 18)), half_width=0.10, height=(0.5, 1.0))
    dark = _peaks(a, rng, count=int(rng.integers(9, 14)), half_width=0.12, height=(0.5, 1.0))
    return bright - dark


def _calcifications(where: str, radius_A: np.ndarray, ducts: tuple[Duct, ...], rng: np.random.Generator) -> np.ndarray:
    """Places of the calcifications: [P, 2], x and z in mm."""
    count = 0 if where == "none" else int(rng.integers(5, 13))
    if where == "intraductal":
        chosen = [ducts[number] for number in rng.integers(0, len(ducts), count)]
        angle = np.array([duct.angle for duct in chosen])
        along = np.array([rng.uniform(duct.from_mm, duct.to_mm) for duct in chosen])
        beside = np.array([rng.uniform(-0.5, 0.5) * duct.half_width_mm for duct in chosen])
        x = along * np.cos(angle) - beside * np.sin(angle)
        return np.stack([x, along * np.sin(angle) + beside * np.cos(angle)], axis=1)
    # A cluster about one direction; the share of the radius there is where it lies.
    low, high = (0.1, 0.75) if where == "in_mass" else (1.15, 1.6)
    angle = rng.uniform(0, 2 * math.pi) + rng.uniform(-1.2, 1.2, count)
    reach = radius_A[np.rint(angle * ANGLES / (2 * math.pi)).astype(int) % ANGLES] * rng.uniform(low, high, count)
    return np.stack([reach * np.cos(angle), reach * np.sin(angle)], axis=1)


def soft_inside(lesion: Lesion, outline: Outline) -> np.ndarray:
    """The share that is lesion: 1 inside, 1/2 on the outline, 0 outside, over the margin's width: [H, W]."""
    steps_HW = np.clip(outline.inwards_HW / np.float32(lesion.half_width_mm), -8, 8)
    return 1 / (1 + np.exp(-2 * steps_HW))


def lesion_echo_db(lesion: Lesion, parts_HW: np.ndarray) -> np.ndarray:
    """Echogenicity inside, fat being 0 dB, by the echo pattern: [H, W]. parts_HW: `lesion.parts` on the grid."""
    echo = lesion.descriptors["echo_pattern"]
    if echo == "complex":  # cysts where the field is low, solid elsewhere
        return np.where(parts_HW < -0.1, np.float32(ECHO_DB["anechoic"]), np.float32(lesion.echo_db + 3))
    swing = {"heterogeneous": 7.0, "anechoic": 0.0, "hypoechoic": 1.3}.get(echo, 1.0)
    return np.float32(lesion.echo_db) + np.float32(swing) * parts_HW


def surroundings_db(lesion: Lesion, outline: Outline) -> np.ndarray:
    """What halo, capsule and spicules add to the tissue about the outline, in dB: [H, W]."""
    inwards_HW = outline.inwards_HW
    added_HW = np.zeros_like(inwards_HW)
    if lesion.descriptors["margin"] == "circumscribed":
        # A smooth wall mirrors where it faces the probe.
        facing_HW = (outline.z_HW / (np.hypot(outline.x_HW, outline.z_HW) + np.float32(1e-3))) ** 2
        added_HW += 9 * facing_HW**2 * np.exp(-((inwards_HW / np.float32(0.22)) ** 2))
    if lesion.descriptors["halo"] == "present":
        added_HW += 11 * np.exp(-(((inwards_HW + np.float32(1.1)) / np.float32(0.9)) ** 2)) * (inwards_HW < 0)
    if lesion.descriptors["margin"] == "spiculated":
        fading_HW = np.exp(inwards_HW / np.float32(0.35 * lesion.reach_mm)) * (inwards_HW < 0)
        added_HW += 15 * lesion.rays_A.astype(np.float32)[outline.angle_HW] * fading_HW
    return added_HW


def duct_share(lesion: Lesion, outline: Outline, size: float) -> np.ndarray:
    """1 in the lumen of a widened duct, 0 elsewhere: [H, W]. size: factor of the lesion's lengths."""
    inside_HW = np.zeros_like(outline.x_HW)
    for duct in lesion.ducts:
        c, s = np.float32(math.cos(duct.angle)), np.float32(math.sin(duct.angle))
        along_HW, beside_HW = outline.x_HW * c + outline.z_HW * s, outline.z_HW * c - outline.x_HW * s
        tube_HW = np.exp(-((beside_HW / np.float32(duct.half_width_mm * size)) ** 4))
        reached_HW = (along_HW > duct.from_mm * size) & (along_HW < duct.to_mm * size)
        inside_HW = np.maximum(inside_HW, tube_HW * reached_HW)
    return inside_HW


def lesion_alpha(lesion: Lesion, outline: Outline) -> np.ndarray:
    """Attenuation inside, in dB / (cm MHz), one side of the centre and the other: [H, W]."""
    return np.where(outline.x_HW < 0, np.float32(lesion.alpha_first), np.float32(lesion.alpha_second))


def edge_shadow_alpha(lesion: Lesion, outline: Outline, cell_mm: float, frequency_mhz: float) -> np.ndarray:
    """Attenuation that stands for the beam's refraction at the flanks of a smooth lesion: [H, W].

    Two narrow streaks below the leftmost and the rightmost point, 5 dB deep.
    """
    if lesion.descriptors["margin"] != "circumscribed" or lesion.descriptors["shape"] == "irregular":
        return np.zeros_like(outline.x_HW)
    x_W, z_H = outline.x_HW[0], outline.z_HW[:, 0]
    inside_HW = outline.inwards_HW > 0
    columns = np.flatnonzero(inside_HW.any(axis=0))
    if not len(columns):
        return np.zeros_like(outline.x_HW)
    streak_W = sum(np.exp(-(((x_W - x_W[edge]) / 0.5) ** 2)) for edge in (columns[0], columns[-1]))
    # Spread over 4 mm of depth, so that the streaks fade in.
    ramp_H = (z_H > 0) & (z_H < 4.0)
    cells = max(int(ramp_H.sum()), 1)
    alpha = 5.0 / (2 * frequency_mhz * cells * cell_mm / 10)
    return (alpha * ramp_H[:, None] * streak_W).astype(np.float32)
