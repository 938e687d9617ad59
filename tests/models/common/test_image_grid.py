"""A grid of images takes grey bytes of one size, gives them back, and says what does not fit."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from models.common.image_grid import ImageGrid
from models.common.report import Report

PIXELS = np.random.default_rng(0).integers(0, 256, size=(2, 3, 4, 5), dtype=np.uint8)


def test_an_array_s_images_are_given_back_byte_by_byte_after_json() -> None:
    grid = ImageGrid.of("speckle", PIXELS, row_labels=("a", "b"), notes=(("1",) * 3, ("2",) * 3), scale=4)
    report = Report(workload="w", title="t", summary="s", metrics={}, figures=(grid,))
    [read] = Report.model_validate_json(report.model_dump_json()).figures
    assert isinstance(read, ImageGrid)
    assert read == grid
    assert (read.shape, read.height, read.width) == ((2, 3), 4, 5)
    for row in range(2):
        for column in range(3):
            found = np.frombuffer(read.pixels(row, column) or b"", np.uint8).reshape(4, 5)
            np.testing.assert_array_equal(found, PIXELS[row, column])


def test_a_slice_of_a_larger_image_is_taken_as_it_looks() -> None:
    turned = PIXELS[0, 0].T[::2]
    [[image]] = ImageGrid.of("turned", [[turned]]).images
    assert image is not None
    assert ImageGrid.of("turned", [[turned]]).pixels(0, 0) == bytes(turned.ravel().tolist())


def test_a_place_may_be_empty() -> None:
    grid = ImageGrid.of("some", [[None, PIXELS[0, 0]]], column_labels=("real", "made"))
    assert grid.pixels(0, 0) is None
    assert grid.name(0, 1) == "row 1, made"


@pytest.mark.parametrize(
    "images",
    [
        PIXELS.astype(np.float32),
        PIXELS[..., None],
        [[PIXELS[0, 0], PIXELS[0, 0, :2]]],
        [[PIXELS[0, 0], PIXELS[0, 1].astype(bool)]],
    ],
)
def test_what_is_no_grey_image_of_the_first_one_s_size_is_refused(images: Any) -> None:
    with pytest.raises(ValueError, match=r"image grid 'wrong' has an image of \w+ and shape .*; give uint8"):
        ImageGrid.of("wrong", images)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"row_labels": ("a",)}, "image grid 'speckle' has 1 row_labels; give 2, or none"),
        ({"column_labels": ("a",)}, "has 1 column_labels; give 3"),
        ({"notes": (("a", "b"), ("c",))}, "notes of image grid 'speckle' have rows of 2, 1; give 2 of 3"),
        ({"images": ((None,), ())}, "images of image grid 'speckle' have rows of 1, 0; give 2 of 1"),
        ({"images": ()}, "image grid 'speckle' has no images"),
        ({"images": (("AAAA",),)}, "image in row 1, column 1 of image grid 'speckle' has 3 bytes; give 5 by 4 pixels"),
        ({"images": ((None, "not base64"),)}, "image in row 1, column 2 .* is not base64"),
        ({"scale": 0}, "scale"),
    ],
)
def test_parts_that_do_not_fit_together_are_named(fields: dict[str, Any], told: str) -> None:
    values = ImageGrid.of("speckle", PIXELS).model_dump() | fields
    with pytest.raises(ValidationError, match=told):
        ImageGrid.model_validate(values)


def test_a_grid_without_images_is_refused() -> None:
    for images in ([], [[]], [[None, None]]):
        with pytest.raises(ValueError, match="image grid 'none' has no images"):
            ImageGrid.of("none", images)
