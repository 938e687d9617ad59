"""Which generated images are copies of training images: a threshold from real images, and planted copies as a proof."""

# N images   H height   W width

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from models.busgen.images.dataset import Images, joined
from models.busgen.privacy.neighbours import Embed, FeatureIndex, Index, Neighbours, PixelIndex, patient_names
from models.busgen.privacy_config import PlantConfig, PrivacyConfig
from models.busgen.statistics.estimate import Estimate, normal_quantile
from models.common.metrics import wilson_interval

NEAREST = 0.05  # share of images whose distance is gated: who is copied is among the nearest
_CONFIDENCE = 0.95
_PLANT, _THRESHOLD, _MATCH = 41, 42, 43  # what random streams are for


@dataclass(frozen=True)
class Share:
    """So many of so many, with Wilson's interval."""

    found: int
    of: int
    low: float
    high: float

    @property
    def value(self) -> float:
        return self.found / self.of


@dataclass(frozen=True)
class NearPair:
    """A generated image and the training image that it is nearest to, to be shown side by side."""

    generated: int
    train: int
    distance: float
    ratio: float  # of the nearest to the second nearest distance


@dataclass(frozen=True)
class CopySearch:
    """What one measure of distance says.

    threshold: below it an image is called a copy. false_alarms: of held-out images, which are copies of nothing.
    copies: the generated images that are called so. pairs: the nearest ones, nearest first.
    planted_found: those that are called copies, and of the image that they were made of.
    nearer: the generated images that are nearer to the training than to as many held-out images; one half is what a
    generator has that remembers none. None where the two have no class in common.
    """

    measure: str
    threshold: float
    asked_false_alarms: float
    false_alarms: Share
    generated: Neighbours
    held_out: Neighbours
    copies: tuple[int, ...]
    copied: Share
    planted: int
    planted_found: int
    nearer: Estimate | None
    pairs: tuple[NearPair, ...]

    @property
    def distance_of_nearest(self) -> float:
        """The distance that the nearest generated images come below, in units of that of as large a share of held-out.

        1 and more: even those that are nearest to the training are no nearer to it than fresh images of other people.
        """
        generated, held_out = (np.quantile(one.distance_N, NEAREST) for one in (self.generated, self.held_out))
        return float(generated / held_out)


@dataclass(frozen=True)
class Privacy:
    """How near generated images are to training images, by pixels, and by features where there is an embedding."""

    by_pixels: CopySearch
    by_features: CopySearch | None


def measure_privacy(
    train: Images,
    held_out: Images,
    generated: Images,
    config: PrivacyConfig,
    seed: int,
    device: torch.device,
    embed: Embed | None = None,
) -> Privacy:
    """train: all that the generator learnt from. held_out: of other patients, seen by nothing.

    embed: features of pixels, such as the classifier's; it should not have learnt from the generated images.
    """
    planted, sources = plant_copies(train.pixels_NHW, config.plant, seed)
    by_pixels = PixelIndex(train, config, device)
    parts = (train, held_out, generated, planted, sources)
    found = search_copies("pixels", by_pixels, *parts, config, seed)
    if embed is None:
        return Privacy(found, None)
    by_features = FeatureIndex(train, embed, config, device)
    return Privacy(found, search_copies("features", by_features, *parts, config, seed))


def search_copies(
    measure: str,
    index: Index,
    train: Images,
    held_out: Images,
    generated: Images,
    planted_NHW: np.ndarray,
    sources_N: np.ndarray,
    config: PrivacyConfig,
    seed: int,
) -> CopySearch:
    """The search among the generated and the planted images together: nothing tells it which is which."""
    threshold = copy_threshold(index, train, config, seed)
    of_held_out = index.nearest(held_out.pixels_NHW, patient_names(held_out))
    together = index.nearest(np.concatenate([generated.pixels_NHW, planted_NHW]))
    count = len(generated)
    called_N = together.distance_N < threshold
    found = called_N[count:] & (together.nearest_N[count:] == sources_N)
    of_generated = Neighbours(together.distance_N[:count], together.nearest_N[:count], together.second_N[:count])
    return CopySearch(
        measure=measure,
        threshold=threshold,
        asked_false_alarms=config.false_alarms,
        false_alarms=_share(of_held_out.distance_N < threshold),
        generated=of_generated,
        held_out=of_held_out,
        copies=tuple(int(row) for row in np.flatnonzero(called_N[:count])),
        copied=_share(called_N[:count]),
        planted=len(planted_NHW),
        planted_found=int(found.sum()),
        nearer=nearer_to_training(index, train, held_out, generated, seed),
        pairs=nearest_pairs(of_generated, config.shown),
    )


def copy_threshold(index: Index, train: Images, config: PrivacyConfig, seed: int) -> float:
    """The distance that so small a share of training images come below, each to the nearest of another patient.

    Told by all of them, or at random by as many as the config allows, each beside all others. These are real images
    which are no copies of each other; so that is also the share of fresh images which the detector takes for copies.
    The quantile is the lower one of two: the share is not exceeded.
    """
    if len(train) > config.threshold_images:
        generator = np.random.default_rng([seed, _THRESHOLD])
        train = train.take(np.sort(generator.choice(len(train), config.threshold_images, replace=False)))
    between = index.nearest(train.pixels_NHW, patient_names(train)).distance_N
    return float(np.quantile(between, config.false_alarms, method="lower"))


def plant_copies(pixels_NHW: np.ndarray, config: PlantConfig, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Altered copies of images drawn at random, and the rows that they were made of.

    Mirrored or not, moved, with another contrast and brightness, blurred, with noise.
    """
    generator = np.random.default_rng([seed, _PLANT])
    sources = generator.choice(len(pixels_NHW), size=min(config.copies, len(pixels_NHW)), replace=False)
    copies = [_altered(np.asarray(pixels_NHW[row], np.float64), config, generator) for row in sources]
    return np.array(copies, np.uint8).reshape(len(sources), *pixels_NHW.shape[1:]), sources


def nearest_pairs(found: Neighbours, count: int) -> tuple[NearPair, ...]:
    """The nearest so many pairs, nearest first."""
    ratio_N = found.ratio_N
    return tuple(
        NearPair(int(row), int(found.nearest_N[row]), float(found.distance_N[row]), float(ratio_N[row]))
        for row in np.argsort(found.distance_N, kind="stable")[:count]
    )


def _altered(image_HW: np.ndarray, config: PlantConfig, generator: np.random.Generator) -> np.ndarray:
    image_HW = image_HW[:, ::-1] if generator.random() < 0.5 else image_HW
    moved_HW = ndimage.shift(image_HW, generator.integers(-config.shift, config.shift, 2, endpoint=True), mode="mirror")
    blurred_HW = ndimage.gaussian_filter(moved_HW, generator.uniform(0.0, config.blur))
    contrast = 1.0 + generator.uniform(-config.contrast, config.contrast)
    middle = blurred_HW.mean()
    other_HW = middle + contrast * (blurred_HW - middle) + generator.uniform(-config.brightness, config.brightness)
    return np.clip(np.rint(other_HW + generator.normal(0.0, config.noise, other_HW.shape)), 0, 255).astype(np.uint8)


def nearer_to_training(index: Index, train: Images, held_out: Images, generated: Images, seed: int) -> Estimate | None:
    """The share of generated images whose nearest real image is of the training, and not a held-out one.

    Of either as many of each pathology and subtype, drawn at random: an image that is like all images of its kind, as
    a smooth one is, is then as often nearest to one as to the other. The interval is of what chance does where the R
    real images could change places. Real image r is the nearest one of c_r of the N generated images:

        error^2 = R / (R - 1) (sum_r c_r^2 - N^2 / R) / 4 N^2
    """
    train_rows, held_out_rows = _matched(train, held_out, seed)
    if not len(train_rows):
        return None
    real = joined(train.take(train_rows), held_out.take(held_out_rows))
    nearest_N = index.over(real).nearest(generated.pixels_NHW).nearest_N
    value = float((nearest_N < len(train_rows)).mean())
    count_R = np.bincount(nearest_N, minlength=len(real))
    error = float(count_R.std(ddof=1) * np.sqrt(len(real))) / (2 * len(generated))
    half = normal_quantile(_CONFIDENCE) * error
    return Estimate(value, value - half, value + half)


def _matched(first: Images, second: Images, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of either, equally many of each pathology and subtype: as many as the one has that has fewer."""
    generator = np.random.default_rng([seed, _MATCH])
    kinds = [[(case.pathology, case.subtype) for case in images.cases] for images in (first, second)]
    drawn: tuple[list[int], list[int]] = ([], [])
    for kind in sorted(set(kinds[0]) & set(kinds[1])):
        rows = [np.flatnonzero([one == kind for one in of]) for of in kinds]
        count = min(len(of) for of in rows)
        for place, of in zip(drawn, rows, strict=True):
            place += generator.choice(of, count, replace=False).tolist()
    return np.array(drawn[0], np.int64), np.array(drawn[1], np.int64)


def _share(called_N: np.ndarray) -> Share:
    found, count = int(called_N.sum()), len(called_N)
    return Share(found, count, *wilson_interval(found, count))
