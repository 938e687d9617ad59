"""Extractors: what each makes of images, how steadily, and that it sees what it should."""

import numpy as np
import pytest
import torch

from models.busgen.images.dataset import as_network_input
from models.busgen.statistics import classical
from models.busgen.statistics.classical import Classical
from models.busgen.statistics.comparison import standardised
from models.busgen.statistics.extractors import Encoder, Extractor
from models.busgen.statistics.random_network import RandomNetwork
from models.busgen.statistics.speckle import lesion_contrast
from models.busgen.statistics_config import ClassicalConfig, RandomNetworkConfig
from models.common.errors import DataError


def speckle(seed: int, images: int = 12, side: int = 32) -> np.ndarray:
    rng = np.random.default_rng(seed)
    envelope = np.abs(rng.standard_normal((images, side, side)) + 1j * rng.standard_normal((images, side, side)))
    return np.clip(255 * (0.8 + 20 * np.log10(envelope + 1e-9) / 60), 0, 255).astype(np.uint8)


def masks(images: int = 12, side: int = 32) -> np.ndarray:
    found = np.zeros((images, side, side), dtype=np.uint8)
    found[:, 8:16, 10:20] = 255
    return found


def all_extractors() -> list[Extractor]:
    return [
        Classical(ClassicalConfig()),
        RandomNetwork(RandomNetworkConfig(channels=(4, 8)), "cpu"),
        Encoder("encoder", lambda pixels: pixels.mean(axis=1), 5),
    ]


@pytest.mark.parametrize("which", range(3))
def test_features_of_an_image_do_not_depend_on_the_others(which: int, monkeypatch):
    monkeypatch.setattr(classical, "_IMAGES", 5)
    extractor, pixels = all_extractors()[which], speckle(0)
    whole = extractor.features(pixels, masks())
    assert whole.dtype == np.float64
    assert np.isfinite(whole).all()
    one_by_one = [extractor.features(pixels[row : row + 1], masks()[row : row + 1]) for row in range(12)]
    assert np.concatenate(one_by_one) == pytest.approx(whole, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("which", range(3))
def test_images_of_one_grey_have_features_too(which: int):
    extractor = all_extractors()[which]
    for grey in (0, 100, 255):
        assert np.isfinite(extractor.features(np.full((2, 32, 32), grey, dtype=np.uint8), masks(2))).all()


def test_classical_features_have_a_name_each():
    extractor = Classical(ClassicalConfig(spectrum_bins=3))
    assert extractor.features(speckle(0), masks()).shape[1] == len(extractor.names(with_masks=True))
    assert extractor.features(speckle(0), None).shape[1] == len(extractor.names(with_masks=False))


def test_the_lesion_features_are_in_decibels_of_the_configs_range():
    config = ClassicalConfig(dynamic_range_db=50.0, ring=0.25)
    extractor = Classical(config)
    column = extractor.names(with_masks=True).index("lesion_contrast_db")
    found = extractor.features(speckle(0), masks())[:, column]
    assert found == pytest.approx(lesion_contrast(speckle(0), masks(), 8, 50.0))


def test_smoothing_shows_in_the_features_that_are_about_it():
    extractor, pixels = Classical(ClassicalConfig()), speckle(1)
    rows = pixels.astype(float)
    smooth = ((rows + np.roll(rows, 1, axis=1) + np.roll(rows, 1, axis=2)) / 3).astype(np.uint8)
    moved = dict(
        zip(
            extractor.names(with_masks=False),
            standardised(extractor.features(pixels, None), extractor.features(smooth, None))[1].mean(axis=0),
            strict=True,
        )
    )
    assert moved["speckle_snr"] > 2
    assert moved["nakagami_m"] > 2
    assert moved["contrast"] < -2
    assert moved["correlation"] > 2
    assert moved["spectrum_7"] < -2 < 2 < moved["spectrum_1"]


def test_the_random_network_is_the_same_whatever_torch_drew_before():
    config = RandomNetworkConfig(channels=(4, 8))
    torch.manual_seed(1)
    first = RandomNetwork(config, "cpu")
    torch.manual_seed(2)
    second = RandomNetwork(config, "cpu")
    pixels = speckle(2)
    assert np.array_equal(first.features(pixels, None), second.features(pixels, None))
    other = RandomNetwork(config.but(seed=3), "cpu")
    assert other.name != first.name
    assert not np.allclose(other.features(pixels, None), first.features(pixels, None))


def test_the_random_networks_first_layer_is_a_sum_over_neighbours():
    network = RandomNetwork(RandomNetworkConfig(channels=(3,)), "cpu")
    pixels = speckle(3, images=1, side=6)
    image = np.pad(as_network_input(pixels)[0, 0].astype(float), 1, mode="edge")
    weight = network.layers[0].double().numpy()
    for channel in range(3):
        found = [
            max(0.0, float((weight[channel, 0] * image[row : row + 3, column : column + 3]).sum()))
            for row in range(6)
            for column in range(6)
        ]
        ours = network.features(pixels, None)[0, [channel, 3 + channel]]
        assert ours == pytest.approx([np.mean(found), np.std(found)], rel=1e-5)


def test_the_random_networks_weights_keep_the_size_of_what_passes():
    deep = RandomNetwork(RandomNetworkConfig(channels=(64, 64, 64)), "cpu")
    for layer in deep.layers:
        fan = layer[0].numel()
        assert float(layer.var()) == pytest.approx(2 / fan, rel=0.15)


def test_images_too_small_for_the_network_are_refused():
    with pytest.raises(DataError, match="8 pixels or more"):
        RandomNetwork(RandomNetworkConfig(channels=(2, 2, 2)), "cpu").features(np.zeros((1, 4, 4), np.uint8), None)


def test_an_encoder_is_shown_so_many_images_at_once():
    shown = []

    def encode(images: np.ndarray) -> np.ndarray:
        shown.append(images)
        return images[:, 0, :2]

    pixels = speckle(4)
    found = Encoder("seen", encode, 5).features(pixels, None)
    assert [len(batch) for batch in shown] == [5, 5, 2]
    assert np.array_equal(np.concatenate(shown), pixels)
    assert np.array_equal(found, pixels[:, 0, :2])


def test_an_encoder_that_does_not_make_rows_is_refused():
    with pytest.raises(DataError, match="a row for each image"):
        Encoder("flat", lambda images: images.mean(axis=(1, 2)), 5).features(speckle(0), None)
