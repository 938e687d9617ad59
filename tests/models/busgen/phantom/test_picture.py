"""What is behind and inside a lesion, in decibels, against what its tissue says."""

import math
from dataclasses import replace

import numpy as np
import pytest

from models.busgen.images.descriptors import DESCRIPTORS
from models.busgen.phantom import acoustics, display
from models.busgen.phantom.devices import DEVICES
from models.busgen.phantom.picture import Exam, Probe, draw_speckle, envelope_of, grid_of, moved_speckle, picture_of
from models.busgen.phantom.scans import draw_exam

FIELD_MM = 38.0
QUIET = replace(DEVICES["linear-10"], noise_db=-150.0)
GRID = grid_of(64, FIELD_MM)
SPECKLE = draw_speckle(GRID, QUIET.looks, np.random.default_rng(0))
PLAIN = {name: values[0] for name, values in DESCRIPTORS.items()} | {
    "shape": "round",
    "margin": "angular",  # nothing but the lesion itself: no capsule, no edge shadows
    "echo_pattern": "hypoechoic",
}


def exam(seed: int = 0) -> Exam:
    """A lesion in the middle of the field, the knobs where they belong."""
    drawn = draw_exam(PLAIN, QUIET, FIELD_MM, np.random.default_rng([4, seed]))
    return replace(drawn, lesion_x_mm=0.0, lesion_z_mm=15.0, gain_db=0.0, tgc_error=0.0)


def power_db(envelope: np.ndarray, where: np.ndarray) -> float:
    return 10 * math.log10(np.mean(envelope[where] ** 2))


def seen(which: Exam, **lesion: float) -> tuple[np.ndarray, np.ndarray]:
    assert which.lesion is not None
    return envelope_of(replace(which, lesion=replace(which.lesion, **lesion)), Probe(), GRID, SPECKLE)


@pytest.mark.parametrize("contrast_db", [-6.0, 9.0])
def test_a_lesions_contrast_is_recovered_in_decibels(contrast_db: float):
    one = exam()
    (first, inside), (second, _) = seen(one, echo_db=-3.0), seen(one, echo_db=-3.0 + contrast_db)
    core = inside & np.roll(inside, 6, 0) & np.roll(inside, -6, 0) & np.roll(inside, 6, 1) & np.roll(inside, -6, 1)
    assert core.sum() > 100
    assert power_db(second, core) - power_db(first, core) == pytest.approx(contrast_db, abs=0.5)


@pytest.mark.parametrize("alpha", [0.2, 1.2])
def test_the_level_behind_a_lesion_is_what_attenuation_along_the_beam_leaves(alpha: float):
    one = exam()
    assert one.lesion is not None
    (plain, inside), (other, _) = (seen(one, alpha_first=a, alpha_second=a) for a in (0.7, alpha))
    behind = np.zeros_like(inside)
    middle = int(np.argmin(np.abs(GRID.x_W)))
    last = int(np.flatnonzero(inside[:, middle]).max())
    behind[last + 8 : last + 40, middle - 2 : middle + 3] = True
    height_cm = inside[:, middle - 2 : middle + 3].sum(axis=0).mean() * GRID.cell_mm / 10
    expected = -2 * acoustics.attenuation_frequency(QUIET) * (alpha - 0.7) * height_cm
    measured = power_db(other, behind) - power_db(plain, behind)
    assert measured == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize(("posterior", "low", "high"), [("enhancement", 3.0, 30.0), ("shadowing", -60.0, -6.0)])
def test_the_posterior_feature_shows_behind_the_lesion(posterior: str, low: float, high: float):
    for seed in range(3):
        levels = []
        for value in ("none", posterior):
            rng = np.random.default_rng([4, seed])
            drawn = draw_exam({**PLAIN, "posterior": value}, QUIET, FIELD_MM, rng)
            one = replace(drawn, lesion_x_mm=0.0, lesion_z_mm=15.0)
            envelope, inside = envelope_of(one, Probe(), GRID, SPECKLE)
            rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
            behind = np.zeros_like(inside)
            behind[rows[-1] + 5 : rows[-1] + 25, columns[0] + len(columns) // 4 : columns[-1] - len(columns) // 4] = (
                True
            )
            levels.append(power_db(envelope, behind))
        assert low < levels[1] - levels[0] < high


def test_calcifications_outshine_the_lesion_and_survive_the_reduction_to_32_pixels():
    gains = []
    coarse = grid_of(32, FIELD_MM)
    speckle = draw_speckle(coarse, QUIET.looks, np.random.default_rng(1))
    for seed in range(8):
        shown = []
        for value in ("none", "in_mass"):
            one = draw_exam({**PLAIN, "calcifications": value}, QUIET, FIELD_MM, np.random.default_rng([5, seed]))
            envelope, _ = envelope_of(one, Probe(), coarse, speckle)
            grey = display.grey_of(display.decibels(envelope), QUIET)
            shown.append(display.area_mean(coarse.shown(grey), 32))
        gains.append((shown[1] - shown[0]).max())
    assert np.mean(np.array(gains) > 0.2) >= 0.75


def test_the_mask_covers_the_area_of_the_lesions_outline():
    grid = grid_of(128, FIELD_MM)
    speckle = draw_speckle(grid, QUIET.looks, np.random.default_rng(6))
    for seed in range(3):
        one = exam(seed)
        assert one.lesion is not None
        _, mask = picture_of(one, Probe(), grid, speckle)
        outline = np.mean((one.lesion.radius_A * one.lesion_size) ** 2) * math.pi  # integral of r^2 / 2 over the angle
        assert mask.sum() * (FIELD_MM / 128) ** 2 == pytest.approx(outline, rel=0.03)


def test_speckle_of_a_plane_aside_keeps_the_share_that_the_beams_height_allows():
    grid, rng = grid_of(64, FIELD_MM), np.random.default_rng(2)
    moved = moved_speckle(SPECKLE, grid, Probe(off_plane_mm=1.2), rng)
    first, second = SPECKLE.looks[0].ravel(), moved.looks[0].ravel()
    correlation = abs(np.vdot(first, second)) / (np.linalg.norm(first) * np.linalg.norm(second))
    assert correlation == pytest.approx(math.exp(-0.5), abs=0.03)


def test_speckle_moves_along_with_the_tissue():
    moved = moved_speckle(SPECKLE, GRID, Probe(along_mm=3 * GRID.cell_mm), np.random.default_rng(3))
    assert np.array_equal(moved.looks[0][:, :-3], SPECKLE.looks[0][:, 3:])


@pytest.mark.parametrize(("side", "field_mm"), [(32, 28.0), (100, 38.0), (128, 80.0), (512, 38.0)])
def test_a_grid_divides_the_pixels_and_resolves_the_pulse(side: int, field_mm: float):
    grid = grid_of(side, field_mm)
    assert grid.size % side == 0
    assert grid.cell_mm * grid.size == pytest.approx(field_mm)
    assert grid.cell_mm <= 0.2 + 1e-9
    shown_x = grid.x_W[grid.aside : grid.aside + grid.size]
    assert shown_x.mean() == pytest.approx(0.0, abs=1e-9)


def test_the_grey_map_ends_at_black_and_white():
    device = DEVICES["linear-7"]
    top, bottom = device.brightest_db, device.brightest_db - device.dynamic_range_db
    grey = display.grey_of(np.array([bottom - 5, bottom, (top + bottom) / 2, top, top + 5]), device)
    assert grey == pytest.approx(np.array([0, 0, 0.5**device.gamma, 1, 1]), abs=1e-6)


def test_the_area_mean_is_the_mean_of_each_square():
    values = np.arange(36.0).reshape(6, 6)
    assert display.area_mean(values, 3)[0, 1] == values[0:2, 2:4].mean()
