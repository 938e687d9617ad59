"""Nearest training images against a loop over all, and against a tree of scipy's."""

# N queries   R references

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.spatial import KDTree

from models.busgen.privacy.neighbours import FeatureIndex, Neighbours, PixelIndex, patient_names
from models.busgen.privacy_config import PixelDistanceConfig, PrivacyConfig
from models.common.errors import DataError
from tests.models.busgen.privacy.made_up import images

CPU = torch.device("cpu")
CONFIG = PrivacyConfig(pixels=PixelDistanceConfig(side=20, blur=0.6, shift=1), at_once=3)


def _distance(a_HW: np.ndarray, b_HW: np.ndarray) -> float:
    """By the definition, one window after the other."""
    a, b = (ndimage.gaussian_filter(image.astype(float), 0.6, mode="nearest") for image in (a_HW, b_HW))
    middle = b[1:-1, 1:-1].ravel()
    tried = [
        np.corrcoef(view[down : down + 18, across : across + 18].ravel(), middle)[0, 1]
        for view in (a, a[:, ::-1])
        for down, across in product(range(3), range(3))
    ]
    return float(np.sqrt(2 - 2 * max(tried)))


def test_neighbours_by_pixels_are_those_of_a_loop_over_all_images() -> None:
    queries, references = images(7, 20, 1), images(8, 20, 2)
    found = PixelIndex(references, CONFIG, CPU).nearest(queries.pixels_NHW)
    by_hand = np.array([[_distance(a, b) for b in references.pixels_NHW] for a in queries.pixels_NHW])
    assert found.nearest_N.tolist() == by_hand.argmin(axis=1).tolist()
    assert found.distance_N == pytest.approx(np.sort(by_hand, axis=1)[:, 0], abs=1e-4)
    assert found.second_N == pytest.approx(np.sort(by_hand, axis=1)[:, 1], abs=1e-4)
    assert found.ratio_N == pytest.approx(found.distance_N / found.second_N)


def test_neighbours_by_features_are_those_of_a_tree_over_standardised_features() -> None:
    queries, references = images(11, 8, 1), images(10, 8, 2)

    def embed(pixels_NHW: np.ndarray) -> np.ndarray:
        return pixels_NHW.reshape(len(pixels_NHW), -1)[:, :5] * np.array([1.0, 10.0, 0.1, 3.0, 1e4])

    found = FeatureIndex(references, embed, CONFIG, CPU).nearest(queries.pixels_NHW)
    of_references = embed(references.pixels_NHW)
    mean, deviation = of_references.mean(axis=0), of_references.std(axis=0)
    tree = KDTree((of_references - mean) / deviation)
    distance_N2, nearest_N2 = map(np.asarray, tree.query((embed(queries.pixels_NHW) - mean) / deviation, k=2))
    assert found.nearest_N.tolist() == nearest_N2[:, 0].tolist()
    assert found.distance_N == pytest.approx(distance_N2[:, 0], rel=1e-12)
    assert found.second_N == pytest.approx(distance_N2[:, 1], rel=1e-12)


@pytest.mark.parametrize("at_once", [1, 2, 5, 100])
def test_pieces_of_any_size_find_the_same(at_once: int) -> None:
    queries, references = images(7, 20, 1), images(5, 20, 2)
    whole = PixelIndex(references, CONFIG, CPU).nearest(queries.pixels_NHW)
    parts = PixelIndex(references, CONFIG.but(at_once=at_once), CPU).nearest(queries.pixels_NHW)
    assert parts.nearest_N.tolist() == whole.nearest_N.tolist()
    assert parts.distance_N == pytest.approx(whole.distance_N, abs=1e-4)


def test_images_of_the_same_patient_do_not_count() -> None:
    train = images(6, 20, 1, of_patient=2)
    index = PixelIndex(train, CONFIG, CPU)
    itself = index.nearest(train.pixels_NHW)
    assert itself.nearest_N.tolist() == list(range(6))
    assert itself.distance_N.max() < 2e-3
    others = index.nearest(train.pixels_NHW, patient_names(train))
    assert all(found // 2 != row // 2 for row, found in enumerate(others.nearest_N))
    assert others.distance_N.min() > 0.3
    alone = replace(train, cases=tuple(replace(case, patient="one") for case in train.cases))
    with pytest.raises(DataError, match="two patients"):
        PixelIndex(alone, CONFIG, CPU).nearest(alone.pixels_NHW, patient_names(alone))


def test_brightness_contrast_side_and_a_small_shift_make_no_difference() -> None:
    train = images(5, 20, 1)
    index = PixelIndex(train, CONFIG, CPU)
    plain = train.pixels_NHW.astype(float)
    for altered in (0.5 * plain + 60, plain[:, :, ::-1], np.roll(plain, (1, -1), axis=(1, 2))):
        found = index.nearest(np.rint(altered))
        assert found.nearest_N.tolist() == list(range(5))
        assert found.distance_N.max() < 0.06
    assert index.nearest(np.roll(plain, 5, axis=1)).distance_N.min() > 0.3


def test_an_image_without_contrast_is_like_no_other() -> None:
    train = images(4, 20, 1)
    index = PixelIndex(replace(train, pixels_NHW=np.full((4, 20, 20), 7, np.uint8)), CONFIG, CPU)
    assert index.nearest(np.full((1, 20, 20), 7, np.uint8)).distance_N == pytest.approx([np.sqrt(2.0)])


def test_a_large_image_is_compared_at_the_smaller_side() -> None:
    train = images(5, 20, 1)
    large = np.repeat(np.repeat(train.pixels_NHW, 3, axis=1), 3, axis=2)
    assert PixelIndex(train, CONFIG, CPU).nearest(large).distance_N.max() < 2e-3


def test_a_shift_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="try shift=2 or less"):
        PixelIndex(images(3, 8, 1), CONFIG.with_overrides({"pixels.shift": 3}), CPU)


def test_a_single_training_image_has_no_second() -> None:
    found = PixelIndex(images(1, 20, 1), CONFIG, CPU).nearest(images(2, 20, 2).pixels_NHW)
    assert np.isinf(found.second_N).all()
    assert found.ratio_N.tolist() == [0.0, 0.0]
    nothing = Neighbours(np.zeros(1), np.zeros(1, int), np.zeros(1))
    assert nothing.ratio_N.tolist() == [1.0]
