"""Which images a step takes, and what chance does to them."""

from collections import Counter

import numpy as np
import pytest
import torch

from models.busgen.batches import RowDraw, draw_choices, few_shot_rows, make_batch
from models.busgen.diffusion_config import DropoutConfig
from models.busgen.few_shots import FewShots
from models.busgen.images.dataset import as_network_input
from models.common.errors import DataError
from tests.models.busgen.generators import GENERATOR, images_of

LABELS = ("dcis", "benign")
MIXED = images_of({"p": ("benign", 5), "q": ("benign", 1), "r": ("malignant", 2), "s": ("normal", 1)}, "pretrain")
ROWS = np.arange(len(MIXED))
OF_EACH = [case.label(GENERATOR.conditions.classes) for case in MIXED.cases]
NEVER = DropoutConfig(everything=0.0, label=0.0, device=0.0, descriptors=0.0, mask=0.0)


def few(shots: int, draw: int = 0, seed: int = 0) -> FewShots:
    return FewShots(shots=shots, negative_shots=shots, draw=draw, draw_seed=seed)


def drawn(draw: RowDraw, steps: int, batch_size: int) -> list[int]:
    return [int(row) for step in range(steps) for row in draw.draw(step, batch_size, (3, 1))]


def test_every_image_comes_equally_often() -> None:
    counts = Counter(drawn(RowDraw(MIXED, ROWS, None, one_of_patient=False), steps=9, batch_size=6))
    assert set(counts) == set(ROWS)
    assert set(counts.values()) == {6}


def test_balanced_classes_come_equally_often_and_their_images_too() -> None:
    counts = Counter(drawn(RowDraw(MIXED, ROWS, OF_EACH, one_of_patient=False), steps=18, batch_size=10))
    of_class = Counter(dict.fromkeys(OF_EACH, 0))
    for row, count in counts.items():
        of_class[OF_EACH[row]] += count
    assert set(of_class.values()) == {60}
    assert [counts[row] for row in range(6)] == [10] * 6
    assert [counts[row] for row in (6, 7, 8)] == [30, 30, 60]


def test_patients_come_equally_often_and_all_their_images_in_turn() -> None:
    rows = drawn(RowDraw(MIXED, ROWS, None, one_of_patient=True), steps=10, batch_size=4)
    assert set(Counter(MIXED.cases[row].patient for row in rows).values()) == {10}
    assert all(len({MIXED.cases[row].patient for row in rows[at : at + 4]}) == 4 for at in range(0, 40, 4))
    frames = [row for row in rows if MIXED.cases[row].patient == "p"]
    assert sorted(frames[:5]) == sorted(frames[5:]) == list(range(5))


def test_conditions_are_left_open_sample_by_sample_as_often_as_asked() -> None:
    dropout = DropoutConfig(everything=0.1, label=0.0, device=0.3, descriptors=0.2, mask=0.5)
    choices = [draw_choices(dropout, 100, flips=True, seed=1, stream=2, step=step) for step in range(100)]
    shares = {
        "label": (np.concatenate([each.label_open_B for each in choices]), 0.1),
        "device": (np.concatenate([each.device_open_B for each in choices]), 1 - 0.9 * 0.7),
        "descriptors": (np.concatenate([each.descriptors_open_B for each in choices]), 1 - 0.9 * 0.8),
        "mask": (np.concatenate([each.mask_open_B for each in choices]), 1 - 0.9 * 0.5),
        "mirrored": (np.concatenate([each.mirrored_B for each in choices]), 0.5),
    }
    for found, share in shares.values():
        assert abs(found.mean() - share) < 4 * (share * (1 - share) / 10_000) ** 0.5
    label, device = shares["label"][0], shares["device"][0]
    assert device[label].all()  # the label is open only where everything is
    assert sum(each.label_open_B.any() and not each.label_open_B.all() for each in choices) > 0  # not batch by batch


def test_what_is_left_open_says_nothing_and_what_is_not_says_what_the_case_says() -> None:
    images = images_of({"p": ("benign", 8)}, "pretrain")
    choices = draw_choices(DropoutConfig(everything=0.5, mask=0.0), 8, flips=False, seed=0, stream=1, step=0)
    everything = choices.label_open_B
    assert 0 < everything.sum() < 8
    conditions = make_batch(
        images, GENERATOR, np.arange(8), choices, np.arange(8), (0, 1, 0), torch.device("cpu")
    ).conditions
    for row in range(8):
        if everything[row]:
            assert not any(bool(value[row].any()) for value in vars(conditions).values())
        else:
            assert conditions.labels_B[row] == 2
            assert conditions.mask_given_B[row] == 1
            assert conditions.mask_B1HW[row].sum() == 8  # the box covers 2 x 4 pixels


def test_a_mirrored_image_takes_its_mask_with_it() -> None:
    images = images_of({"p": ("benign", 16)}, "pretrain")
    choices = draw_choices(NEVER, 16, flips=True, seed=0, stream=1, step=0)
    assert 0 < choices.mirrored_B.sum() < 16
    batch = make_batch(images, GENERATOR, np.arange(16), choices, np.arange(16), (0, 1, 0), torch.device("cpu"))
    straight = as_network_input(images.pixels_NHW)
    for row, mirrored in enumerate(choices.mirrored_B):
        expected = straight[row, :, :, ::-1] if mirrored else straight[row]
        np.testing.assert_array_equal(batch.images_BCHW[row].numpy(), expected)
        columns = batch.conditions.mask_B1HW[row, 0].sum(dim=0).nonzero().flatten().tolist()
        assert columns == ([6, 7] if mirrored else [0, 1])


def test_a_piece_of_a_batch_is_that_piece_of_the_whole() -> None:
    rows, where = np.array([3, 0, 1, 2, 8, 7]), (0, 1, 0)
    choices = draw_choices(DropoutConfig(everything=0.3), 6, flips=True, seed=0, stream=1, step=0)
    device = torch.device("cpu")
    whole = make_batch(MIXED, GENERATOR, rows, choices, np.arange(6), where, device)
    piece = make_batch(MIXED, GENERATOR, rows, choices, np.array([2, 3, 4]), where, device)
    assert torch.equal(piece.images_BCHW, whole.images_BCHW[2:5])
    assert torch.equal(piece.noise_BCHW, whole.noise_BCHW[2:5])
    for name, value in vars(piece.conditions).items():
        assert torch.equal(value, getattr(whole.conditions, name)[2:5])


def test_draws_hold_as_many_of_each_label_are_disjoint_and_of_different_patients() -> None:
    patients = {f"d{number}": ("dcis", 2) for number in range(12)} | {
        f"b{number}": ("benign", 1) for number in range(9)
    }
    images = images_of(patients)
    draws = [few_shot_rows(images, few(3, draw, seed=5)) for draw in range(3)]
    for rows in draws:
        assert [images.cases[row].label(LABELS) for row in rows] == ["dcis"] * 3 + ["benign"] * 3
        assert len({images.cases[row].patient for row in rows}) == 6
    assert len({int(row) for rows in draws for row in rows}) == 18
    assert len({images.cases[row].patient for rows in draws for row in rows}) == 18
    np.testing.assert_array_equal(draws[1], few_shot_rows(images, few(3, 1, seed=5)))
    assert set(few_shot_rows(images, few(3, 1, seed=6))) != set(draws[1])


def test_draws_share_images_only_where_there_are_too_few_and_more_shots_than_images_are_refused() -> None:
    images = images_of({"d": ("dcis", 3), "e": ("dcis", 1), "b": ("benign", 4)})
    both = [few_shot_rows(images, few(3, draw)) for draw in range(2)]
    assert len(set(both[0])) == 6
    assert len(set(both[0]) & set(both[1])) > 0
    with pytest.raises(DataError, match="has 4 images of 'dcis', and 5 shots"):
        few_shot_rows(images, few(5))
    elsewhere = images_of({"d": ("dcis", 9)}, "test")
    with pytest.raises(DataError, match="has 0 images"):
        few_shot_rows(elsewhere, few(1))


def test_all_images_of_a_label_are_known_where_no_shots_are_asked_for() -> None:
    images = images_of({"d": ("dcis", 3), "e": ("dcis", 3), "b": ("benign", 4), "c": ("benign", 3)})
    rows = few_shot_rows(images, FewShots(shots=2))
    assert [images.cases[row].label(LABELS) for row in rows] == ["dcis"] * 2 + ["benign"] * 7
    assert len(set(rows)) == 9
