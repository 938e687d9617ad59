"""Which images a step takes, and what happens to them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from models.busgen.diagnosis.augmentation import augment, draw_alterations
from models.busgen.diagnosis.rehearsal import made_up_images
from models.busgen.diagnosis.samples import draw_batch, make_pools, targets_of
from models.busgen.diagnosis_config import AugmentationConfig, ClassifierStage
from models.busgen.images.dataset import Images, as_network_input
from models.common.errors import DataError
from tests.fixtures.worlds import world_of

STAGE = ClassifierStage(batch_size=8, positive="malignant", negative="benign", split="few_shot")
OFF = AugmentationConfig(flip=False, shift=0.0, zoom=0.0, gain=0.0, gamma=0.0, noise=0.0)
ALL = slice(0, 8)


def _real(count: int = 20, seed: int = 1) -> Images:
    """The first six are of the test split."""
    images = made_up_images(count, 16, "malignant", "benign", "few_shot", seed)
    return replace(images, cases=tuple(replace(c, split="test") if n < 6 else c for n, c in enumerate(images.cases)))


def _pools(folder: Path, stage: ClassifierStage, real: Images, generated: Images):
    inputs = {"images": folder / "images", "generated": folder / "generated"}
    for name, images in (("images", real), ("generated", generated)):
        inputs[name].mkdir()
        images.write(inputs[name])
    return make_pools(stage, world_of(inputs))


def test_each_pass_takes_each_row_of_the_split_once_and_labels_are_even(tmp_path: Path) -> None:
    (pool,) = _pools(tmp_path, STAGE, _real(), _real())
    rows = np.concatenate([pool.draw(step, seed=4) for step in range(7)])  # 28 of each label, of which there are 7
    assert sorted(rows) == sorted(list(range(6, 20)) * 4)
    for step in range(7):
        assert sum(pool.images.cases[row].pathology == "malignant" for row in pool.draw(step, seed=4)) == 4
    assert not np.array_equal(pool.draw(0, seed=4), pool.draw(0, seed=5))


def test_a_batch_of_both_has_its_share_of_real_images_of_the_split(tmp_path: Path) -> None:
    stage = STAGE.but(train_on="both", real_share=0.25)
    real, generated = _real(), _real(seed=2)
    pools = _pools(tmp_path, stage, real, generated)
    batch = draw_batch(pools, 3, 4, ALL)
    values_NV = as_network_input(np.concatenate([real.pixels_NHW[6:], generated.pixels_NHW])).reshape(34, -1)
    found = [int(np.flatnonzero((values_NV == image.numpy().ravel()).all(axis=1))[0]) for image in batch.image_B1HW]
    assert sum(place < 14 for place in found) == 2
    assert batch.targets.label_N.sum() == 4
    part = draw_batch(pools, 3, 4, slice(2, 5))
    assert torch.equal(part.image_B1HW, batch.image_B1HW[2:5])


def test_real_and_generated_images_of_two_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="16 and 20"):
        _pools(tmp_path, STAGE.but(train_on="both"), _real(), made_up_images(8, 20, "malignant", "benign", "", seed=1))


def test_targets_are_the_places_of_the_values_and_less_than_none_where_not_known() -> None:
    cases = list(made_up_images(3, 16, "malignant", "benign", "", seed=1).cases)
    cases[0] = replace(cases[0], pathology="normal", descriptors={})
    cases[1] = replace(cases[1], descriptors={"margin": "spiculated", "halo": "none"})
    cases[2] = replace(cases[2], descriptors={"halo": "present"})
    images = replace(made_up_images(3, 16, "malignant", "benign", "", seed=1), cases=tuple(cases))
    targets = targets_of(images, "malignant", "benign", ("halo", "margin"))
    assert targets.label_N.tolist() == [-1, 1, 0]
    assert targets.pathology_N.tolist() == [0, 2, 1]
    assert targets.descriptors_NA.tolist() == [[-1, -1], [0, 4], [1, -1]]


def test_augmentation_that_is_off_changes_nothing() -> None:
    image = torch.rand(8, 1, 16, 16) * 2 - 1
    altered = draw_alterations(OFF, 8, 16, np.random.default_rng(0))
    assert torch.equal(augment(image, altered, OFF), image)


def test_a_crop_is_what_scipy_cuts_out() -> None:
    config = OFF.but(shift=0.1, zoom=0.3)
    image = torch.rand(4, 1, 24, 24) * 2 - 1
    altered = draw_alterations(config, 4, 24, np.random.default_rng(2))
    found = augment(image, altered, config)
    for number in range(4):
        size, (across, down) = float(altered.size_B[number]), altered.shift_B2[number].tolist()

        # the middle of pixel i is at i + 1/2; the kept part lies around the image's middle, moved by the shift
        def places(shift: float, size: float = size) -> np.ndarray:
            return 24 * (0.5 + shift + size * ((np.arange(24) + 0.5) / 24 - 0.5)) - 0.5

        grid = np.meshgrid(places(down), places(across), indexing="ij")
        by_hand = ndimage.map_coordinates(image[number, 0].double().numpy(), grid, order=1, mode="reflect")
        assert found[number, 0].numpy() == pytest.approx(by_hand, abs=1e-4)


def test_gain_and_gamma_are_those_of_the_grey_value_and_noise_has_its_deviation() -> None:
    config = OFF.but(gain=0.3, gamma=0.4)
    image = torch.full((8, 1, 16, 16), -0.4)  # a grey of 0.3
    altered = draw_alterations(config, 8, 16, np.random.default_rng(3))
    by_hand = [
        2 * (0.3 * gain) ** gamma - 1
        for gain, gamma in zip(altered.gain_B.tolist(), altered.gamma_B.tolist(), strict=True)
    ]
    assert augment(image, altered, config)[:, 0, 4, 4].tolist() == pytest.approx(by_hand, abs=1e-5)
    assert len(set(by_hand)) == 8
    noisy = augment(
        torch.zeros(8, 1, 64, 64), draw_alterations(OFF, 8, 64, np.random.default_rng(1)), OFF.but(noise=0.05)
    )
    assert noisy.std().item() == pytest.approx(2 * 0.05, rel=0.02)


def test_arms_that_differ_in_one_part_share_the_other_random_numbers() -> None:
    some, more = (
        draw_alterations(AugmentationConfig(gain=gain), 8, 16, np.random.default_rng(5)) for gain in (0.0, 0.5)
    )
    assert torch.equal(some.shift_B2, more.shift_B2)
    assert torch.equal(some.noise_B1HW, more.noise_B1HW)
    assert torch.equal(some.flipped_B, more.flipped_B)
    assert not torch.equal(some.gain_B, more.gain_B)
