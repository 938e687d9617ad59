"""Texture features against loops over pixels, made-up waves, and scipy.stats."""

import math

import numpy as np
import pytest
from scipy.stats import kurtosis, skew

from models.busgen.statistics import texture
from models.busgen.statistics.texture import co_occurrence, grey_moments, radial_spectrum


def greys(seed: int, shape: tuple[int, int, int] = (3, 6, 7)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=shape, dtype=np.uint8)


def test_co_occurrence_is_what_loops_over_neighbours_count():
    pixels, levels = greys(0), 5
    found = co_occurrence(pixels, levels)
    for number, image in enumerate(pixels.astype(int) * levels // 256):
        properties = []
        for down, right in ((0, 1), (1, 1), (1, 0), (1, -1)):
            share = np.zeros((levels, levels))
            for row in range(6 - down):
                for column in range(7):
                    if 0 <= column + right < 7:
                        a, b = image[row, column], image[row + down, column + right]
                        share[a, b] += 1
                        share[b, a] += 1
            share /= share.sum()
            cells = [(a, b, share[a, b]) for a in range(levels) for b in range(levels)]
            mean = sum(p * a for a, _, p in cells)
            variance = sum(p * (a - mean) ** 2 for a, _, p in cells)
            properties.append(
                [
                    sum(p * (a - b) ** 2 for a, b, p in cells),
                    sum(p / (1 + (a - b) ** 2) for a, b, p in cells),
                    math.sqrt(sum(p * p for _, _, p in cells)),
                    sum(p * (a - mean) * (b - mean) for a, b, p in cells) / variance,
                ]
            )
        ours = [values[number] for values in (found.contrast, found.homogeneity, found.energy, found.correlation)]
        assert ours == pytest.approx(np.mean(properties, axis=0), rel=1e-10)


def test_one_grey_has_no_contrast_and_is_all_alike():
    found = co_occurrence(np.full((1, 5, 5), 130, dtype=np.uint8), 16)
    assert (found.contrast[0], found.homogeneity[0], found.energy[0], found.correlation[0]) == (0, 1, 1, 1)


def test_many_images_are_measured_in_parts_alike(monkeypatch):
    pixels = greys(1, (7, 8, 8))
    whole, spectrum = co_occurrence(pixels, 8), radial_spectrum(pixels, 4)
    monkeypatch.setattr(texture, "_IMAGES", 3)
    assert co_occurrence(pixels, 8).energy == pytest.approx(whole.energy, rel=1e-12)
    assert radial_spectrum(pixels, 4) == pytest.approx(spectrum, rel=1e-10)


@pytest.mark.parametrize(("cycles", "ring"), [(3, 1), (9, 4), (15, 7)])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_wave_has_its_power_in_the_ring_of_its_frequency(cycles: int, ring: int, axis: int):
    wave = np.cos(2 * np.pi * cycles * np.arange(32) / 32)
    image = 128 + 100 * np.broadcast_to(wave[:, None] if axis == 0 else wave, (32, 32))
    spectrum = radial_spectrum(np.rint(image).astype(np.uint8)[None], 8)[0]
    assert int(spectrum.argmax()) == ring
    assert 10 ** spectrum[ring] > 0.6  # the window spreads it over neighbours


def test_the_rings_share_all_the_power_and_brightness_plays_no_part():
    pixels = greys(2, (2, 24, 24)) // 2
    spectrum = radial_spectrum(pixels, 6)
    assert (10**spectrum).sum(axis=1) == pytest.approx(1.0, abs=1e-6)
    assert radial_spectrum(pixels + 100, 6) == pytest.approx(spectrum, rel=1e-9)
    assert radial_spectrum(2 * pixels, 6) == pytest.approx(spectrum, rel=1e-9)
    assert np.isfinite(radial_spectrum(np.full((1, 24, 24), 9, dtype=np.uint8), 6)).all()


def test_white_noise_has_power_as_rings_have_frequencies():
    frequencies = [math.hypot(down, across) / 32 for down in range(-16, 16) for across in range(-16, 16)]
    count = np.histogram([f for f in frequencies if 0 < f <= 0.5], bins=[0, 0.125, 0.25, 0.375, 0.5])[0]
    share = (10 ** radial_spectrum(greys(3, (400, 32, 32)), 4)).mean(axis=0)
    assert share[1:] / share[1:].sum() == pytest.approx(count[1:] / count[1:].sum(), rel=0.03)
    assert share[0] / share.sum() == pytest.approx(count[0] / count.sum(), rel=0.2)  # less: the mean is taken off


def test_moments_are_those_of_scipy():
    pixels = greys(4, (4, 9, 9)) // 3
    flat = pixels.reshape(4, -1) / 255
    expected = np.stack([flat.mean(axis=1), flat.std(axis=1), skew(flat, axis=1), kurtosis(flat, axis=1)], axis=1)
    assert grey_moments(pixels) == pytest.approx(expected, rel=1e-10)
    assert grey_moments(np.full((1, 4, 4), 51, dtype=np.uint8))[0] == pytest.approx([0.2, 0, 0, 0])
