"""Speckle against the theory of Rayleigh and Nakagami envelopes, and lesions of known contrast."""

import math

import numpy as np
import pytest

from models.busgen.statistics.speckle import (
    envelope_of,
    lesion_contrast,
    nakagami_m,
    patches_of,
    posterior_contrast,
    speckle_snr,
)
from models.common.errors import DataError


def test_developed_speckle_has_snr_1_91_and_m_1():
    rng = np.random.default_rng(0)
    envelope = np.abs(rng.standard_normal((4, 3, 20_000)) + 1j * rng.standard_normal((4, 3, 20_000)))
    assert speckle_snr(envelope) == pytest.approx(math.sqrt(math.pi / (4 - math.pi)), rel=0.02)
    assert nakagami_m(envelope) == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize("m", [0.6, 2.5])
def test_the_shape_of_a_nakagami_envelope_is_found(m: float):
    envelope = np.sqrt(np.random.default_rng(1).gamma(m, size=(1, 1, 100_000)))
    assert nakagami_m(envelope) == pytest.approx(m, rel=0.03)


def test_linearised_greys_are_the_envelope_that_was_compressed():
    rng = np.random.default_rng(2)
    envelope = np.abs(rng.standard_normal((1, 64, 64)) + 1j * rng.standard_normal((1, 64, 64)))
    envelope /= envelope.max()
    pixels = np.rint(255 * np.clip(1 + 20 * np.log10(envelope) / 60, 0, 1)).astype(np.uint8)
    assert envelope_of(pixels, 60.0) == pytest.approx(envelope, rel=0.02, abs=1.1e-3)
    assert nakagami_m(patches_of(envelope_of(pixels, 60.0), 64)) == pytest.approx(1.0, rel=0.1)


def test_a_patch_of_one_grey_is_as_smooth_as_can_be_told():
    flat = envelope_of(np.full((1, 8, 8), 40, dtype=np.uint8), 60.0).reshape(1, 1, 64)
    assert speckle_snr(flat) == pytest.approx(10.0)
    assert nakagami_m(flat) == pytest.approx(10.0)


def test_patches_lie_side_by_side():
    image = np.arange(35.0).reshape(1, 5, 7)
    patches = patches_of(image, 2)
    assert patches.shape == (1, 6, 4)
    assert patches[0, 4].tolist() == [16.0, 17.0, 23.0, 24.0]
    with pytest.raises(DataError, match="no patch of 6 pixels"):
        patches_of(image, 6)


def scene() -> tuple[np.ndarray, np.ndarray]:
    """Grey 102, a lesion of 51 that casts a shadow of 0 below it; and the same without."""
    pixels, masks = np.full((2, 20, 20), 102, dtype=np.uint8), np.zeros((2, 20, 20), dtype=np.uint8)
    masks[0, 5:10, 6:12] = 255
    pixels[0, 5:10, 6:12] = 51
    pixels[0, 10:, 6:12] = 0
    return pixels, masks


def test_contrast_is_lesion_less_ring():
    pixels, masks = scene()
    found = lesion_contrast(pixels, masks, 2, 60.0)
    ring = [
        pixels[0, row, column]
        for row in range(3, 12)
        for column in range(4, 14)
        if not (5 <= row < 10 and 6 <= column < 12)
    ]
    assert found == pytest.approx([(51 - np.mean(ring)) * 60 / 255, 0.0])


def test_what_lies_below_is_compared_with_what_lies_beside_at_the_same_depth():
    pixels, masks = scene()
    assert posterior_contrast(pixels, masks, 3, 60.0) == pytest.approx([-102 * 60 / 255, 0.0])
    pixels[0, 10:, 6:12] = 153
    assert posterior_contrast(pixels, masks, 3, 60.0)[0] == pytest.approx(51 * 60 / 255)


def test_a_lesion_at_the_bottom_or_over_the_full_width_has_nothing_to_compare():
    pixels, masks = scene()
    masks[:] = 0
    masks[0, 15:, 6:12], masks[1, 5:10] = 255, 255
    assert posterior_contrast(pixels, masks, 3, 60.0).tolist() == [0.0, 0.0]
