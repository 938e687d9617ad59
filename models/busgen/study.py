"""Draws of the few lesions: for each an adaptation, its images, and the classifiers of all arms on the same test."""

# N test images

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from models.busgen.arms import ARMS, FROM_PROBES
from models.busgen.config import DrawStage
from models.busgen.diagnosis.classifier import predict, read_classifier
from models.busgen.diagnosis_config import ClassifierStage
from models.busgen.generation import images_of, make_maker
from models.busgen.generation import shards as generation_shards
from models.busgen.images.dataset import Images
from models.common.contract import World
from models.common.in_process import train_in_process

DRAW_FILE = "draw.json"


@dataclass(frozen=True)
class Draw:
    """What one draw of the few lesions gave.

    logits: of the positive label for each test image, by arm. sizes: the same of "both" with so many generated images.
    """

    draw: int
    logits: dict[str, list[float]]
    sizes: dict[int, list[float]]
    generated: int
    dropped: int

    @classmethod
    def read(cls, folder: Path) -> Draw:
        """What a draw's stage wrote."""
        values = json.loads((folder / DRAW_FILE).read_text())
        return cls(**{**values, "sizes": {int(size): logits for size, logits in values["sizes"].items()}})


def process(config: DrawStage, world: World) -> Draw:
    """Adaptation, images and classifiers of this draw, one after the other in this process."""
    draw = config.classifier.draw
    world = replace(world, seed=world.seed + draw)
    with TemporaryDirectory(prefix="orchard-draw-") as place:
        folder = Path(place)
        generated = world.inputs["generated"] if "generated" in world.inputs else _generated(config, world, folder)
        images, test_NHW = Images.read(generated), _test_pixels(config, world)
        arms = {name: _logits(name, stage, world, generated, test_NHW) for name, stage in arms_of(config)}
        sizes = {
            size: _both_with(config, images, size, world, folder, test_NHW)
            for size in config.sizes
            if size < config.generation.images
        }
    return Draw(
        draw=draw,
        logits={name: logits.tolist() for name, logits in arms.items()},
        sizes={size: logits.tolist() for size, logits in sizes.items()}
        | {config.generation.images: arms["both"].tolist()},
        generated=len(images),
        dropped=images.audit["dropped"],
    )


def collect(draw: Draw, folder: Path) -> None:
    """Writes what the draw gave."""
    (folder / DRAW_FILE).write_text(json.dumps(asdict(draw)) + "\n")


def arms_of(config: DrawStage) -> Iterator[tuple[str, ClassifierStage]]:
    """Each arm and its classifier."""
    for name in config.arms:
        yield name, config.classifier.with_overrides(ARMS[name])


def test_rows(images: Images, positive: str, negative: str) -> np.ndarray:
    """The rows of the task's test."""
    return images.rows(split="test", labels=(positive, negative), classes=(positive, negative))


def _generated(config: DrawStage, world: World, folder: Path) -> Path:
    """A folder of images by an adaptation of this draw."""
    stage, images = config.generation, {"images": world.inputs["images"]}
    base = world.inputs["pretraining"]
    adapter = train_in_process(stage.adaptation, world, folder / "adapter", images, base).folder
    maker = make_maker(stage, world, base, adapter)
    parts = [maker.make(shard["first"], shard["count"]) for shard in generation_shards(stage)]
    (folder / "generated").mkdir()
    images_of(stage, parts).write(folder / "generated")
    return folder / "generated"


def _test_pixels(config: DrawStage, world: World) -> np.ndarray:
    """What all classifiers are tested on, [N, H, W]."""
    images, task = Images.read(world.inputs["images"]), config.classifier
    return images.pixels_NHW[test_rows(images, task.positive, task.negative)]


def _both_with(
    config: DrawStage, images: Images, size: int, world: World, folder: Path, test_NHW: np.ndarray
) -> np.ndarray:
    """The logits of "both" with so many generated images, the first ones."""
    few = folder / f"first-{size}"
    few.mkdir()
    images.take(np.arange(size)).write(few)
    return _logits("both", config.classifier.with_overrides(ARMS["both"]), world, few, test_NHW)


def _logits(name: str, stage: ClassifierStage, world: World, generated: Path, test_NHW: np.ndarray) -> np.ndarray:
    """The logits of an arm's classifier for all test images, [N]."""
    inputs = {"images": world.inputs["images"], "generated": generated}
    start = world.inputs["probes"] if name in FROM_PROBES else None
    with TemporaryDirectory(prefix="orchard-arm-") as place:
        trained = train_in_process(stage, world, Path(place) / "classifier", inputs, start)
        return predict(read_classifier(trained.folder, world.device), test_NHW)["label"]
