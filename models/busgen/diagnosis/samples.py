"""Which images a classifier learns from, real and generated, and which of them each step takes. Ranks draw alike."""

# N images of a pool   B images of a batch   A descriptors   H height   W width

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.busgen.batches import few_shot_rows
from models.busgen.diagnosis_config import ClassifierStage
from models.busgen.images.cases import PATHOLOGIES
from models.busgen.images.dataset import Images, as_network_input
from models.busgen.images.descriptors import numbers_of
from models.common.contract import World
from models.common.errors import ConfigError, DataError
from models.common.rows import draw_rows

UNKNOWN = -1  # the target of a head that has nothing to learn from an image
_CLASSIFIER = 30  # what a random stream is for


@dataclass(frozen=True)
class Targets:
    """What each head should say of each image, from 0; `UNKNOWN` where nobody knows."""

    label_N: np.ndarray
    pathology_N: np.ndarray
    descriptors_NA: np.ndarray

    def take(self, rows: np.ndarray) -> Targets:
        return Targets(self.label_N[rows], self.pathology_N[rows], self.descriptors_NA[rows])


@dataclass(frozen=True)
class Pool:
    """Images to draw from in groups, each of which has its number in every batch."""

    images: Images
    targets: Targets
    groups: tuple[np.ndarray, ...]  # rows of the images
    counts: tuple[int, ...]  # of a batch, one for each group
    stream: int  # of its random numbers

    def draw(self, step: int, seed: int) -> np.ndarray:
        """The rows of this step, in the order of the groups; each group is passed through before it starts anew."""
        chosen = [
            group[draw_rows(len(group), count, step, (seed, _CLASSIFIER, self.stream, place))]
            for place, (group, count) in enumerate(zip(self.groups, self.counts, strict=True))
        ]
        return np.concatenate(chosen)


@dataclass(frozen=True)
class Batch:
    """The global batch: this rank's images, and the targets of all."""

    image_B1HW: Tensor
    targets: Targets


def targets_of(images: Images, positive: str, negative: str, descriptors: Sequence[str]) -> Targets:
    """The targets of all heads: the label is 1 for positive, 0 for negative."""
    labels = {positive: 1, negative: 0}
    return Targets(
        np.array([labels.get(case.label((positive, negative)), UNKNOWN) for case in images.cases], np.int64),
        np.array([PATHOLOGIES.index(case.pathology) for case in images.cases], np.int64),
        np.array([numbers_of(case.descriptors, descriptors) for case in images.cases], np.int64).reshape(
            len(images), len(descriptors)
        )
        - 1,
    )


def make_pools(config: ClassifierStage, world: World) -> tuple[Pool, ...]:
    """The real and the generated images, as far as the config trains on them."""
    pools = []
    real = {"real": config.batch_size, "generated": 0, "both": round(config.real_share * config.batch_size)}
    if count := real[config.train_on]:
        images = _read(world, "images")
        pools.append(_pool(config, images, _real_rows(config, images), count, stream=0))
    if count := config.batch_size - real[config.train_on]:
        images = _read(world, "generated")
        pools.append(_pool(config, images, np.arange(len(images)), count, stream=1))
    if len({pool.images.side for pool in pools}) > 1:
        sides = " and ".join(str(pool.images.side) for pool in pools)
        raise DataError(f"real and generated images have sides of {sides} pixels\nprepare and generate them alike")
    return tuple(pools)


def draw_batch(pools: Sequence[Pool], step: int, seed: int, share: slice) -> Batch:
    """The targets of the step's global batch, and the images of this share of it."""
    rows = [pool.draw(step, seed) for pool in pools]
    targets = [pool.targets.take(chosen) for pool, chosen in zip(pools, rows, strict=True)]
    together = Targets(
        np.concatenate([one.label_N for one in targets]),
        np.concatenate([one.pathology_N for one in targets]),
        np.concatenate([one.descriptors_NA for one in targets]),
    )
    of_batch = [(place, row) for place, chosen in enumerate(rows) for row in chosen][share]
    pixels = np.stack([pools[place].images.pixels_NHW[row] for place, row in of_batch])
    return Batch(torch.from_numpy(as_network_input(pixels)), together)


def _real_rows(config: ClassifierStage, images: Images) -> np.ndarray:
    if config.split == "few_shot" and not config.other_labels:
        return few_shot_rows(images, config)
    return images.rows(split=config.split, labels=None if config.other_labels else config.labels)


def _pool(config: ClassifierStage, images: Images, rows: np.ndarray, count: int, stream: int) -> Pool:
    targets = targets_of(images, config.positive, config.negative, config.descriptors)
    label_R = targets.label_N[rows]
    where = "generated" if stream else f"real images of split '{config.split}'"
    for label, name in ((1, config.positive), (0, config.negative)):
        if config.label_weight and not (label_R == label).any():
            raise DataError(
                f"none of the {len(rows)} {where} is '{name}'\nname the labels that the images have, or add such images"
            )
    if config.balanced:
        groups = (rows[label_R == 1], rows[label_R == 0])
        counts = (count // 2, count - count // 2)
    else:
        groups = (rows if config.other_labels else rows[label_R != UNKNOWN],)
        counts = (count,)
    return Pool(images, targets, groups, counts, stream)


def _read(world: World, name: str) -> Images:
    if name not in world.inputs:
        given = ", ".join(sorted(world.inputs)) or "nothing"
        raise ConfigError(
            f"the classifier was given no input '{name}'\ngiven: {given}\ngive the folder, or set train_on"
        )
    return Images.read(world.inputs[name])
