"""Views: the lesion stays in, its boxes and millimetres follow, and what is made smaller does not alias."""

from dataclasses import replace

import numpy as np
import pytest

from models.busgen.images.boxes import box_mask, mask_boxes
from models.busgen.images.cases import Box
from models.busgen.images.crops import (
    Square,
    boxes_within,
    centre_square,
    lesion_square,
    mask_shares,
    reduced,
    viewed,
    whole_square,
)
from tests.models.busgen.images.scans import scan


@pytest.mark.parametrize("seed", range(20))
def test_a_lesion_square_holds_all_boxes_and_lies_in_the_image_where_it_can(seed: int) -> None:
    random = np.random.default_rng(seed)
    height, width = random.integers(40, 400, size=2).tolist()
    boxes = []
    for _ in range(random.integers(1, 4)):
        (left, right), (top, bottom) = (np.sort(random.uniform(size=2)) for _ in range(2))
        boxes.append(Box(left, top, right, bottom))
    square = lesion_square(boxes, height, width, margin=random.uniform(0, 2))
    for box in boxes:
        assert square.left <= box.left * width + 1e-9
        assert box.right * width <= square.left + square.edge + 1e-9
        assert square.top <= box.top * height + 1e-9
        assert box.bottom * height <= square.top + square.edge + 1e-9
    if square.edge <= min(height, width):
        assert -1e-9 <= square.left <= width - square.edge + 1e-9
        assert -1e-9 <= square.top <= height - square.edge + 1e-9


def test_a_lesion_has_its_margin_in_the_middle_of_a_large_image() -> None:
    square = lesion_square([Box(0.45, 0.5, 0.55, 0.55)], 1000, 1000, margin=0.5)
    assert (square.left, square.top, square.edge) == pytest.approx((400, 425, 200))


def test_squares_of_the_whole_and_of_the_centre() -> None:
    assert whole_square(40, 100) == Square(0, -30, 100)
    assert centre_square(40, 100) == Square(30, 0, 40)


def test_a_whole_image_stands_between_black_bands_with_its_boxes_and_its_scale() -> None:
    one = scan("a", "p", pixels=np.full((32, 64), 200, np.uint8), mask=None, mm_per_pixel=0.1)
    one = replace(one, case=replace(one.case, boxes=(Box(0.5, 0.0, 1.0, 1.0),)))
    view = viewed(one, 16, "whole", 0.5)
    assert (view.pixels_SS[:3] <= 2).all()
    assert (view.pixels_SS[-3:] <= 2).all()
    assert (np.abs(view.pixels_SS[6:10] - 200.0) <= 6).all()
    assert view.case.boxes == (Box(0.5, 0.25, 1.0, 0.75),)
    assert view.case.mm_per_pixel == pytest.approx(0.1 * 64 / 16)
    expected = np.zeros((16, 16))
    expected[4:12, 8:] = 255
    np.testing.assert_array_equal(view.mask_SS, expected)


def test_a_mask_keeps_its_share_of_each_pixel() -> None:
    mask = np.random.default_rng(0).uniform(size=(48, 48)) < 0.4
    shares = mask_shares(mask, Square(0, 0, 48), 12)
    exact = mask.reshape(12, 4, 12, 4).mean(axis=(1, 3)) * 255
    assert np.abs(shares - exact).max() <= 0.5 + 1e-5


def test_shares_are_exact_where_pixels_do_not_line_up() -> None:
    mask = np.random.default_rng(1).uniform(size=(7, 7)) < 0.5
    fine = np.kron(mask, np.ones((30, 30)))  # 210 fine pixels: 42 for each of five, from a corner at 1.5, 0.5
    square = Square(1.5, 0.5, 5.5)
    exact = fine[15 : 15 + 165, 45 : 45 + 165].reshape(5, 33, 5, 33).mean(axis=(1, 3)) * 255
    assert np.abs(mask_shares(mask, square, 5) - exact).max() <= 0.5 + 1e-5


def test_a_box_covers_what_its_mask_would() -> None:
    mask = np.zeros((40, 40), bool)
    mask[5:23, 11:34] = True
    [box] = mask_boxes(mask)
    assert box == Box(11 / 40, 5 / 40, 34 / 40, 23 / 40)
    square = Square(4, 2, 32)
    [inside] = boxes_within([box], square, 40, 40)
    np.testing.assert_allclose(255 * box_mask([inside], 8), mask_shares(mask, square, 8), atol=0.5 + 1e-5)


def test_a_box_beyond_the_square_is_left_out_and_one_at_its_edge_cut_off() -> None:
    boxes = [Box(0.0, 0.0, 0.1, 0.1), Box(0.4, 0.4, 0.9, 0.6)]
    assert boxes_within(boxes, Square(25, 25, 50), 100, 100) == (Box(0.3, 0.3, 1.0, 0.7),)


@pytest.mark.parametrize(("cycles", "kept"), [(4, 1.0), (45, 0.0), (60, 0.0)])
def test_waves_finer_than_the_new_pixels_vanish_and_coarse_ones_stay(cycles: int, kept: float) -> None:
    x = np.arange(256) + 0.5
    wave = np.cos(2 * np.pi * cycles * x / 256)
    image = np.rint(127.5 + 100 * np.tile(wave, (256, 1))).astype(np.uint8)
    small = reduced(image, Square(0, 0, 256), 32).astype(float)
    amplitude = np.sqrt(2 * np.mean((small[16, 4:28] - 127.5) ** 2)) / 100
    assert amplitude == pytest.approx(kept, abs=0.06)
    picked = image[4::8, 4::8].astype(float)
    assert np.abs(picked - 127.5).max() > 50, "every eighth pixel would show a wave that is not there"


def test_a_crop_shows_what_it_cuts_out() -> None:
    image = np.random.default_rng(2).integers(0, 255, size=(50, 70), dtype=np.uint8)
    np.testing.assert_array_equal(reduced(image, Square(20, 10, 32), 32), image[10:42, 20:52])


def test_a_scan_without_any_place_of_its_lesion_has_an_empty_mask() -> None:
    view = viewed(scan("a", "p", "malignant", mask=None), 16, "lesion", 0.5)
    assert view.case.boxes == ()
    assert not view.mask_SS.any()
    assert view.pixels_SS.shape == (16, 16)
