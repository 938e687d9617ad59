"""Copies are found whatever their brightness, size and compression, and near pairs are all that brute force finds."""

import io
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from scipy.fft import dctn

from models.busgen.images.hashing import BITS, correlations, near_pairs, perceptual_hash, pixel_digest, thumbnail
from tests.models.busgen.images.scans import speckle


def _hash(image: np.ndarray) -> int:
    return int(perceptual_hash(thumbnail(image)))


def _distance(one: np.ndarray, other: np.ndarray) -> int:
    return (_hash(one) ^ _hash(other)).bit_count()


def _compressed(image: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=60)
    return np.asarray(Image.open(file))


COPIES = {
    "darker": lambda image: (0.5 * image + 3).astype(np.uint8),
    "brighter": lambda image: np.clip(1.1 * image + 20, 0, 255).astype(np.uint8),
    "compressed": _compressed,
    "half as large": lambda image: np.asarray(Image.fromarray(image).resize((120, 90), Image.Resampling.LANCZOS)),
    "of another shape": lambda image: np.asarray(Image.fromarray(image).resize((200, 200))),
    "noisy": lambda image: np.clip(image + np.random.default_rng(0).normal(0, 6, image.shape), 0, 255).astype(np.uint8),
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("seed", range(4))
def test_a_copy_is_found_however_it_was_changed(how: str, seed: int) -> None:
    image = speckle(seed, 180, 240)
    copy = COPIES[how](image)
    assert _distance(image, copy) <= 6
    both = np.stack([thumbnail(image), thumbnail(copy)])
    assert correlations(both, np.array([0]), np.array([1]))[0] > 0.97


def test_hashes_of_unlike_images_differ_in_half_their_bits() -> None:
    images = [speckle(seed) for seed in range(60)]
    distances = [_distance(one, other) for one, other in pairwise(images)]
    assert np.mean(distances) == pytest.approx(BITS / 2, abs=2)
    assert min(distances) > 12


def test_bits_are_the_signs_of_the_lowest_waves() -> None:
    small = thumbnail(speckle(5))
    waves = np.asarray(dctn(small.astype(float), norm="ortho"))
    first = [waves[0, 1], waves[1, 0], waves[0, 2], waves[1, 1], waves[2, 0]]
    assert int(perceptual_hash(small)) >> 59 == sum((wave > 0) << (4 - place) for place, wave in enumerate(first))


@pytest.mark.parametrize("distance", [0, 1, 3, 6, 10, 15])
def test_near_pairs_are_those_of_brute_force_each_once(distance: int) -> None:
    random = np.random.default_rng(distance)
    centres = random.integers(0, 2**64, size=8, dtype=np.uint64)
    flips = random.random((160, 64)) < random.uniform(0, 0.15, size=(160, 1))
    hashes = centres[random.integers(0, 8, 160)] ^ np.packbits(flips, axis=1).view(np.uint64).ravel()
    brute = {
        (one, other)
        for one in range(160)
        for other in range(one + 1, 160)
        if (int(hashes[one]) ^ int(hashes[other])).bit_count() <= distance
    }
    found = [pair for first, second in near_pairs(hashes, distance) for pair in zip(first, second, strict=True)]
    assert len(found) == len(set(found))
    assert set(found) == brute
    assert brute


def test_correlations_are_numpy_s_and_0_without_contrast() -> None:
    images = np.stack([thumbnail(speckle(0)), thumbnail(speckle(1)), np.full((32, 32), 9, np.uint8)])
    expected = np.corrcoef(images[0].ravel(), images[1].ravel())[0, 1]
    found = correlations(images, np.array([0, 0]), np.array([1, 2]))
    assert found == pytest.approx([expected, 0.0])


def test_equal_pixels_in_another_shape_are_another_image() -> None:
    image = speckle(0)
    assert pixel_digest(image) == pixel_digest(image.copy(order="F"))
    assert pixel_digest(image) != pixel_digest(image.reshape(image.shape[::-1]))
