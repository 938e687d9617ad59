"""The copy detector finds what is planted whatever was done to it, and lets unrelated images be."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from models.busgen.images.dataset import Images, joined
from models.busgen.privacy.copies import (
    copy_threshold,
    measure_privacy,
    nearer_to_training,
    nearest_pairs,
    plant_copies,
)
from models.busgen.privacy.membership import infer_membership
from models.busgen.privacy.neighbours import Neighbours, PixelIndex, patient_names
from models.busgen.privacy.rejection import draw_unlike, reject
from models.busgen.privacy_config import PlantConfig, PrivacyConfig
from models.common.metrics import wilson_interval
from tests.models.busgen.privacy.made_up import images

CPU = torch.device("cpu")
CONFIG = PrivacyConfig(false_alarms=0.05)
TRAIN, HELD_OUT = images(60, 32, 1), images(40, 32, 2)


def _with(generated: Images, copies_NHW: np.ndarray) -> Images:
    """These images, the last ones of them replaced by copies."""
    pixels = generated.pixels_NHW.copy()
    pixels[len(pixels) - len(copies_NHW) :] = copies_NHW
    return replace(generated, pixels_NHW=pixels)


def test_all_planted_copies_are_found_and_unrelated_images_are_not_called_copies() -> None:
    found = measure_privacy(TRAIN, HELD_OUT, images(50, 32, 3), CONFIG, 0, CPU).by_pixels
    assert (found.planted, found.planted_found) == (20, 20)
    assert found.copied.value <= 0.2
    assert found.nearer is not None
    assert found.nearer.low < 0.5 < found.nearer.high


def test_smooth_images_are_nearer_to_any_real_image_and_no_nearer_to_the_training() -> None:
    """What fresh images lack in detail brings them nearer to the training than held-out ones are, and to those too."""
    fresh = images(200, 32, 3)
    smooth = replace(fresh, pixels_NHW=ndimage.gaussian_filter(fresh.pixels_NHW, (0, 3, 3)))
    found = measure_privacy(TRAIN, HELD_OUT, smooth, CONFIG, 0, CPU).by_pixels
    assert np.median(found.generated.distance_N) < np.median(found.held_out.distance_N)
    assert found.nearer is not None
    assert found.nearer.low < 0.5 < found.nearer.high


def test_noisy_memories_are_nearer_to_the_training_by_pixels_and_by_features() -> None:
    noise = np.random.default_rng(0).normal(0, 25, (60, 32, 32))
    remembered = replace(TRAIN, pixels_NHW=np.clip(TRAIN.pixels_NHW + noise, 0, 255).astype(np.uint8))
    privacy = measure_privacy(TRAIN, HELD_OUT, remembered, CONFIG, 0, CPU, embed=lambda one: one.reshape(len(one), -1))
    for found in (privacy.by_pixels, privacy.by_features):
        assert found is not None
        assert found.nearer is not None
        assert found.nearer.low > 0.5


def test_references_are_as_many_of_each_kind_and_nothing_is_told_where_no_kind_is_shared() -> None:
    def of(kinds: list[tuple[str, str]], images: Images) -> Images:
        pairs = zip(images.cases, kinds, strict=True)
        return replace(images, cases=tuple(replace(case, pathology=a, subtype=b) for case, (a, b) in pairs))

    train = of([("benign", "cyst")] * 50 + [("malignant", "idc")] * 10, TRAIN)
    held_out = of([("benign", "cyst")] * 20 + [("benign", "papilloma")] * 20, HELD_OUT)
    index = PixelIndex(train, CONFIG, CPU)
    seen: list[int] = []
    index.over = lambda images: seen.append(len(images)) or PixelIndex(images, CONFIG, CPU)  # pyright: ignore[reportAttributeAccessIssue] -- to look on
    assert nearer_to_training(index, train, held_out, images(5, 32, 3), 0) is not None
    assert seen == [40]
    others = of([("normal", "")] * 40, HELD_OUT)
    assert nearer_to_training(index, train, others, images(5, 32, 3), 0) is None


@pytest.mark.parametrize(
    "altered",
    [
        lambda image: image[:, ::-1],
        lambda image: ndimage.shift(image, (2, -1), mode="nearest"),
        lambda image: 0.6 * image + 70,
        lambda image: ndimage.gaussian_filter(image, 0.8),
        lambda image: image + np.random.default_rng(0).normal(0, 6, image.shape),
        lambda image: 255 * (image / 255) ** 0.8,
    ],
    ids=["mirrored", "moved", "brighter", "blurred", "noisy", "gamma"],
)
def test_a_copy_is_found_whatever_was_done_to_it(altered) -> None:
    copies = [np.clip(np.rint(altered(TRAIN.pixels_NHW[row].astype(float))), 0, 255) for row in (4, 9, 33)]
    found = measure_privacy(TRAIN, HELD_OUT, _with(images(20, 32, 3), np.array(copies)), CONFIG, 0, CPU).by_pixels
    assert {17, 18, 19} <= set(found.copies)
    assert {(pair.generated, pair.train) for pair in found.pairs[:3]} == {(17, 4), (18, 9), (19, 33)}


def test_copies_that_are_altered_too_far_are_missed_and_none_are_planted_where_none_are_asked_for() -> None:
    far = CONFIG.with_overrides({"plant.shift": 12, "plant.noise": 60.0})
    found = measure_privacy(TRAIN, HELD_OUT, HELD_OUT, far, 0, CPU).by_pixels
    assert found.planted_found < found.planted
    untried = CONFIG.with_overrides({"plant.copies": 0})
    assert measure_privacy(TRAIN, HELD_OUT, HELD_OUT, untried, 0, CPU).by_pixels.planted == 0


def test_features_that_see_the_image_find_the_copies_too() -> None:
    def embed(pixels_NHW: np.ndarray) -> np.ndarray:
        return pixels_NHW.reshape(len(pixels_NHW), 8, 4, 8, 4).mean(axis=(2, 4)).reshape(len(pixels_NHW), -1)

    mild = CONFIG.but(plant=PlantConfig(copies=5, shift=0, contrast=0.0, brightness=2.0, noise=1.0, blur=0.2))
    exact = _with(images(20, 32, 3), TRAIN.pixels_NHW[[7, 8]])
    found = measure_privacy(TRAIN, HELD_OUT, exact, mild, 0, CPU, embed).by_features
    assert found is not None
    assert {18, 19} <= set(found.copies)
    assert found.generated.nearest_N[18:].tolist() == [7, 8]
    assert found.generated.distance_N[18:] == pytest.approx([0.0, 0.0], abs=1e-9)


def test_the_threshold_is_the_quantile_of_distances_between_patients() -> None:
    train = images(30, 32, 5, of_patient=3)
    index = PixelIndex(train, CONFIG, CPU)
    patients = np.arange(30) // 3
    each = []
    for row in range(30):
        others = replace(train, pixels_NHW=train.pixels_NHW[patients != patients[row]], cases=train.cases[3:])
        each.append(PixelIndex(others, CONFIG, CPU).nearest(train.pixels_NHW[[row]]).distance_N[0])
    threshold = copy_threshold(index, train, CONFIG.but(false_alarms=0.1), 0)
    assert threshold == pytest.approx(np.sort(each)[2], abs=1e-4)  # (30 - 1) * 0.1 = 2.9, and the lower of 2 and 3
    assert np.mean(np.array(each) < threshold - 1e-4) <= 0.1


def test_a_part_of_the_images_tells_a_threshold_that_all_of_them_have() -> None:
    train = images(300, 16, 6)
    config = CONFIG.with_overrides({"false_alarms": 0.25, "pixels.shift": 1})
    index = PixelIndex(train, config, CPU)
    each = np.sort(index.nearest(train.pixels_NHW, patient_names(train)).distance_N)
    assert copy_threshold(index, train, config, 0) == pytest.approx(each[74])  # (300 - 1) / 4 = 74.75, the lower one
    told = [copy_threshold(index, train, config.but(threshold_images=60), seed) for seed in (0, 0, 1, 2, 3)]
    assert told[0] == told[1]
    assert len(set(told)) > 1
    assert all(each[30] < one < each[130] for one in told)  # a quarter of 60 by chance: 1/10 to 13/30


def test_the_false_alarms_told_are_those_of_held_out_images() -> None:
    found = measure_privacy(TRAIN, HELD_OUT, images(5, 32, 3), CONFIG, 0, CPU).by_pixels
    count = int((found.held_out.distance_N < found.threshold).sum())
    assert (found.false_alarms.found, found.false_alarms.of) == (count, 40)
    assert (found.false_alarms.low, found.false_alarms.high) == wilson_interval(count, 40)
    assert found.false_alarms.low <= found.asked_false_alarms


def test_planted_copies_are_the_same_again_and_others_for_another_seed() -> None:
    one, sources = plant_copies(TRAIN.pixels_NHW, PlantConfig(copies=8), 4)
    again, _ = plant_copies(TRAIN.pixels_NHW, PlantConfig(copies=8), 4)
    other, others = plant_copies(TRAIN.pixels_NHW, PlantConfig(copies=8), 5)
    assert np.array_equal(one, again)
    assert not np.array_equal(sources, others)
    assert one.shape == other.shape == (8, 32, 32)
    assert not any(np.array_equal(copy, TRAIN.pixels_NHW[source]) for copy, source in zip(one, sources, strict=True))
    assert len(plant_copies(TRAIN.pixels_NHW[:3], PlantConfig(copies=8), 4)[0]) == 3


def test_pairs_are_the_nearest_in_order() -> None:
    found = Neighbours(np.array([0.5, 0.1, 0.3]), np.array([7, 8, 9]), np.array([1.0, 0.2, 1.2]))
    first, second = nearest_pairs(found, 2)
    assert (first.generated, first.train, first.distance, first.ratio) == (1, 8, 0.1, 0.5)
    assert (second.generated, second.train, second.ratio) == (2, 9, 0.25)


def test_what_is_too_near_is_drawn_anew_and_left_out_in_the_end() -> None:
    index = PixelIndex(TRAIN, CONFIG, CPU)
    threshold = 0.3
    fresh = images(6, 32, 9).pixels_NHW
    assert not reject(fresh, index, threshold).any()
    asked: list[list[int]] = []

    def draw(rows: np.ndarray, number: int) -> np.ndarray:
        """Row 1 is a copy in the first round, row 4 in every round."""
        asked.append(rows.tolist())
        drawn = fresh[rows].copy()
        drawn[rows == 4] = TRAIN.pixels_NHW[0]
        if number == 0:
            drawn[rows == 1] = TRAIN.pixels_NHW[1][:, ::-1]
        return drawn

    kept = draw_unlike(draw, 6, index, threshold, rounds=3)
    assert asked == [[0, 1, 2, 3, 4, 5], [1, 4], [4]]
    assert kept.rows.tolist() == [0, 1, 2, 3, 5]
    assert np.array_equal(kept.pixels_NHW, fresh[[0, 1, 2, 3, 5]])
    assert kept.dropped == 4
    assert not reject(kept.pixels_NHW, index, threshold).any()
    none = draw_unlike(lambda rows, number: TRAIN.pixels_NHW[rows], 3, index, threshold, rounds=2)
    assert (none.pixels_NHW.shape, none.rows.tolist(), none.dropped) == ((0, 32, 32), [], 6)


def test_membership_is_a_coin_for_a_model_that_saw_neither_and_certain_for_one_that_memorised() -> None:
    generator = np.random.default_rng(3)
    patients = [f"{number // 4}" for number in range(400)]
    fair = infer_membership(generator.gamma(5, 1, 400), generator.gamma(5, 1, 400), patients, patients)
    for area in (fair.of_images, fair.of_patients):
        assert area.low < 0.5 < area.high
    assert fair.of_patients.high - fair.of_patients.low > fair.of_images.high - fair.of_images.low

    told = infer_membership(np.zeros(40), generator.gamma(5, 1, 40), patients[:40], patients[:40])
    assert told.of_images.value == told.of_patients.value == 1.0
    assert 0.7 < told.of_patients.low < told.of_images.low < 1.0


def test_membership_counts_pairs_of_images_and_of_patients() -> None:
    members, held_out = np.array([1.0, 3.0, 2.0, 6.0]), np.array([4.0, 2.0, 5.0])
    found = infer_membership(members, held_out, ["a", "a", "b", "b"], ["a", "c", "c"])
    pairs = [(m < h) + 0.5 * (m == h) for m in members for h in held_out]
    assert found.of_images.value == pytest.approx(np.mean(pairs))
    by_patient = [(m < h) + 0.5 * (m == h) for m in (2.0, 4.0) for h in (4.0, 3.5)]
    assert found.of_patients.value == pytest.approx(np.mean(by_patient))


def test_how_sure_the_nearness_is_is_how_often_it_comes_out_otherwise_when_images_change_places() -> None:
    """Many generated images share a few nearest ones: 2,000 random relabellings spread as the interval says."""
    generated = images(150, 32, 3)
    index = PixelIndex(TRAIN, CONFIG, CPU)
    pool = joined(TRAIN, HELD_OUT)
    random = np.random.default_rng(0)
    nearest_N = index.over(pool).nearest(generated.pixels_NHW).nearest_N
    shares = [(random.permutation(100) < 50)[nearest_N].mean() for _ in range(2000)]
    first, second = pool.take(np.arange(50)), pool.take(np.arange(50, 100))
    told = nearer_to_training(index, first, second, generated, 0)
    assert told is not None
    assert told.high - told.value == pytest.approx(1.96 * np.std(shares), rel=0.1)
