import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.busgen.readers.pictures import colour_flags, luma, read_coloured_mask, read_mask, read_picture, spread
from models.common.errors import DataError
from tests.models.busgen.readers.making import patch, save, speckle


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_a_grey_picture_comes_back_pixel_for_pixel(tmp_path: Path, suffix: str):
    pixels = speckle(0)
    path = save(tmp_path / f"a.{suffix}", pixels)
    picture = read_picture(path)
    np.testing.assert_array_equal(picture.pixels_HW, pixels)
    assert picture.pixels_HW.dtype == np.uint8
    assert picture.flags == ()
    assert picture.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_grey_in_three_or_four_channels_or_a_palette_is_the_same_grey(tmp_path: Path):
    pixels = speckle(1)
    grey = Image.fromarray(pixels)
    for mode in ("RGB", "RGBA", "LA", "P"):
        grey.convert(mode).save(tmp_path / f"{mode}.png")
        picture = read_picture(tmp_path / f"{mode}.png")
        np.testing.assert_array_equal(picture.pixels_HW, pixels)
        assert picture.flags == ()


def test_luma_weighs_the_channels_as_bt_601_does():
    colours = np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8)
    np.testing.assert_allclose(luma(colours), colours @ np.array([0.299, 0.587, 0.114]), atol=0.51)


def test_transparent_parts_are_black(tmp_path: Path):
    pixels = np.full((4, 4, 4), 200, dtype=np.uint8)
    pixels[..., 3] = 255
    pixels[0, :, 3] = 0
    found = read_picture(save(tmp_path / "a.png", pixels)).pixels_HW
    assert (found[0] == 0).all()
    assert (found[1:] == 200).all()


def test_sixteen_bits_are_spread_over_their_own_range(tmp_path: Path):
    pixels = np.array([[1000, 2000], [3000, 5000]], dtype=np.uint16)
    np.testing.assert_array_equal(read_picture(save(tmp_path / "a.png", pixels)).pixels_HW, [[0, 64], [128, 255]])
    np.testing.assert_array_equal(read_picture(save(tmp_path / "a.tif", pixels)).pixels_HW, [[0, 64], [128, 255]])


def test_sixteen_bits_that_hold_eight_are_taken_as_they_are(tmp_path: Path):
    pixels = np.array([[10, 20], [30, 255]], dtype=np.uint16)
    np.testing.assert_array_equal(read_picture(save(tmp_path / "a.png", pixels)).pixels_HW, pixels)


def test_fractions_are_spread_and_what_is_not_finite_is_refused():
    np.testing.assert_array_equal(spread(np.array([[0.0, 0.5], [0.25, 1.0]], dtype=np.float32)), [[0, 128], [64, 255]])
    with pytest.raises(DataError, match="not finite"):
        spread(np.array([[0.0, np.nan]]))


def test_a_flow_map_is_doppler_and_a_coloured_tick_is_an_overlay():
    frame = np.repeat(speckle(2, 100, 100)[..., None], 3, axis=-1)
    assert colour_flags(frame) == ()
    tick = frame.copy()
    tick[0, :5] = (255, 255, 0)
    assert colour_flags(tick) == ("overlay",)
    flow = frame.copy()
    flow[20:40, 20:40] = (255, 80, 0)
    assert colour_flags(flow) == ("doppler",)


def test_the_noise_of_jpeg_is_no_colour(tmp_path: Path):
    Image.fromarray(np.repeat(speckle(3, 64, 64)[..., None], 3, axis=-1)).save(tmp_path / "a.jpg", quality=60)
    assert read_picture(tmp_path / "a.jpg").flags == ()


def test_a_mask_is_read_whatever_it_is_stored_as(tmp_path: Path):
    mask = patch(3, 5, 9, 12)
    grey = mask.astype(np.uint8) * 255
    opaque = np.full_like(grey, 255)
    indexed = Image.fromarray(mask.astype(np.uint8), mode="P")
    indexed.putpalette([0, 0, 0, 128, 0, 0])
    stored = {
        "grey": Image.fromarray(grey),
        "labels": Image.fromarray(mask.astype(np.uint8)),
        "bits": Image.fromarray(grey).convert("1"),
        "half": Image.fromarray(mask.astype(np.uint8) * 128),
        "wide": Image.fromarray(mask.astype(np.uint16) * 65535),
        "palette": indexed,
        "with alpha": Image.fromarray(np.stack([grey, grey, grey, opaque], axis=-1)),
        "white in alpha": Image.fromarray(np.stack([opaque, opaque, opaque, grey], axis=-1)),
        "black in alpha": Image.fromarray(np.stack([0 * grey, 0 * grey, 0 * grey, grey], axis=-1)),
    }
    for name, image in stored.items():
        image.save(tmp_path / f"{name}.png")
        np.testing.assert_array_equal(read_mask(tmp_path / f"{name}.png"), mask, err_msg=name)


def test_an_empty_mask_is_empty(tmp_path: Path):
    assert not read_mask(save(tmp_path / "a.png", np.zeros((4, 4), dtype=bool))).any()


def test_green_and_red_of_a_mask_are_told_apart(tmp_path: Path):
    colours = np.zeros((4, 6, 3), dtype=np.uint8)
    colours[1, 1], colours[2, 4], colours[3, 5] = (0, 255, 0), (255, 0, 0), (255, 255, 255)
    green, red = read_coloured_mask(save(tmp_path / "a.png", colours))
    assert np.argwhere(green).tolist() == [[1, 1]]
    assert np.argwhere(red).tolist() == [[2, 4]]


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif"])
def test_a_damaged_picture_is_refused_whereever_it_is_cut(tmp_path: Path, suffix: str):
    path = save(tmp_path / f"a.{suffix}", speckle(4, 64, 64))
    data = path.read_bytes()
    for length in (0, 3, len(data) // 3, len(data) // 2):
        path.write_bytes(data[:length])
        with pytest.raises(DataError, match="does not decode"):
            read_picture(path)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's own word on damaged TIFF
def test_any_changed_byte_gives_a_picture_or_a_refusal(tmp_path: Path):
    rng = np.random.default_rng(0)
    seen = {"read": 0, "refused": 0}
    for suffix in ("png", "jpg", "bmp", "tif", "gif"):
        path = save(tmp_path / f"a.{suffix}", speckle(5))
        data = path.read_bytes()
        for _ in range(60):
            changed = bytearray(data)
            changed[rng.integers(len(data))] ^= int(rng.integers(1, 256))
            path.write_bytes(changed)
            try:
                assert read_picture(path).pixels_HW.ndim == 2
                seen["read"] += 1
            except DataError:
                seen["refused"] += 1
    assert min(seen.values()) > 10


def test_text_and_moving_pictures_are_no_pictures(tmp_path: Path):
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(DataError, match="does not decode"):
        read_picture(tmp_path / "a.png")
    frames = [Image.fromarray(speckle(seed)) for seed in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="holds 3 frames"):
        read_picture(tmp_path / "a.gif")
    with pytest.raises(DataError, match="missing"):
        read_picture(tmp_path / "none.png")
