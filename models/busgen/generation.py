"""Images of a task: asked for by TAILOR, sampled, and drawn anew where they are too near to real ones."""

# N images

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.busgen.batches import few_shot_rows, training_rows
from models.busgen.config import GenerationStage
from models.busgen.diagnosis.classifier import predict, read_classifier
from models.busgen.diffusion.denoiser import Denoiser, sample_images
from models.busgen.diffusion.generator import begin_classes, read_generator
from models.busgen.diffusion_config import AdaptationStage
from models.busgen.images.cases import Case
from models.busgen.images.dataset import Images, as_pixels
from models.busgen.privacy.copies import copy_threshold
from models.busgen.privacy.neighbours import PixelIndex
from models.busgen.privacy.rejection import draw_unlike
from models.busgen.tailor.wishes import Knowledge, Wishes, draw_wishes, learn_knowledge
from models.common.contract import World

_WISHES, _NOISE = 50, 51  # what random streams are for


@dataclass(frozen=True)
class Part:
    """The images of a shard."""

    pixels_NHW: np.ndarray
    masks_NHW: np.ndarray
    cases: tuple[Case, ...]
    dropped: int  # drawn in vain, being too near to a real image


def shards(config: GenerationStage) -> list[dict[str, Any]]:
    """So many images each, by their numbers."""
    at_once = config.images_at_once
    return [
        {"first": first, "count": min(at_once, config.images - first)} for first in range(0, config.images, at_once)
    ]


def process(config: GenerationStage, shard: dict[str, Any], world: World) -> Part:
    maker = make_maker(config, world, world.inputs["pretraining"], world.inputs.get("adaptation"))
    return maker.make(shard["first"], shard["count"])


def collect(config: GenerationStage, parts: Sequence[Part], folder: Path) -> None:
    """Writes the images as a dataset; its audit says how many were dropped."""
    images_of(config, parts).write(folder)


def images_of(config: GenerationStage, parts: Sequence[Part]) -> Images:
    cases = tuple(case for part in parts for case in part.cases)
    dropped = sum(part.dropped for part in parts)
    return Images(
        np.concatenate([part.pixels_NHW for part in parts]),
        np.concatenate([part.masks_NHW for part in parts]),
        cases,
        {"asked": config.images, "kept": len(cases), "dropped": dropped, "draw": config.adaptation.draw},
    )


@dataclass(frozen=True)
class Maker:
    """Everything that images are made with."""

    config: GenerationStage
    denoiser: Denoiser
    knowledge: Knowledge
    index: PixelIndex
    threshold: float
    seed: int

    def make(self, first: int, count: int) -> Part:
        """The images of these numbers, positive and negative in turn; those that stay too near are left out."""
        config, task = self.config, self.config.adaptation
        labels = [task.labels[number % 2] for number in range(first, first + count)]
        random = np.random.default_rng([self.seed, _WISHES, task.draw, first])
        wishes = draw_wishes(self.knowledge, labels, config.generator.conditions, random)

        def draw(rows: np.ndarray, time_round: int) -> np.ndarray:
            return self._sampled(wishes, rows, first, time_round)

        kept = draw_unlike(draw, count, self.index, self.threshold, 1 + config.most_redrawn)
        cases = [replace(wishes.cases[row], name=f"{first + row:08d}") for row in kept.rows]
        cases = [replace(case, patient=f"generated {case.name}") for case in cases]
        return Part(kept.pixels_NHW, wishes.masks_NHW[kept.rows], tuple(cases), kept.dropped)

    def _sampled(self, wishes: Wishes, rows: np.ndarray, first: int, time_round: int) -> np.ndarray:
        generator = self.config.generator
        images_BCHW = sample_images(
            self.denoiser,
            wishes.conditions.take(rows.tolist()),
            first + rows,
            self.config.sampler,
            shape=(generator.channels, generator.side, generator.side),
            seed=(self.seed, _NOISE, self.config.adaptation.draw, time_round),
        )
        return as_pixels(images_BCHW.float().mean(dim=1, keepdim=True).cpu().numpy())


def make_maker(config: GenerationStage, world: World, base: Path, adapter: Path | None) -> Maker:
    """What makes images of this draw's knowledge; without an adapter a new class is taken for its parent."""
    task = config.adaptation
    images = Images.read(world.inputs["images"])
    few = images.take(few_shot_rows(images, task))
    denoiser = read_generator(config.generator, base, adapter, world.device)
    if adapter is None:
        begin_classes(denoiser, config.generator.conditions, task.parents)
    real = images.take(training_rows(images, task))
    index = PixelIndex(real, config.privacy, world.device)
    return Maker(
        config=config,
        denoiser=denoiser,
        knowledge=learn_knowledge(
            few, task.labels, config.tailor, wrong_about(few, config, world), kin_of(images, task)
        ),
        index=index,
        threshold=copy_threshold(index, real, config.privacy, world.seed),
        seed=world.seed,
    )


def kin_of(images: Images, task: AdaptationStage) -> dict[str, Images]:
    """Of each label of the task that is a kind of another class: that class's images of the pretraining."""
    kin = {}
    for label in task.labels:
        rows = images.rows(split="pretrain", labels=[task.parents[label]]) if label in task.parents else []
        if len(rows):
            kin[label] = images.take(rows)
    return kin


def wrong_about(few: Images, config: GenerationStage, world: World) -> np.ndarray:
    """Whether the probes, which have seen none of these images, take each for what it is, [N]."""
    task = config.adaptation
    logit_N = predict(read_classifier(world.inputs["probes"], world.device), few.pixels_NHW)["label"]
    return (logit_N > 0) != few.are(task.positive, task.labels)
