"""The whole pipeline in this process: every stage reads what the earlier ones wrote."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from models.busgen.batches import few_shot_rows
from models.busgen.config import BusgenConfig
from models.busgen.images.dataset import Images
from models.common.contract import MapConfig, World
from models.common.in_process import train_in_process
from tests.fixtures.worlds import world_of


@dataclass(frozen=True)
class Run:
    """A run that ended. world: with all folders among its inputs."""

    config: BusgenConfig
    world: World

    @property
    def images(self) -> Images:
        return Images.read(self.world.inputs["images"])

    @property
    def generated(self) -> Images:
        return Images.read(self.world.inputs["generated"])

    def few(self, draw: int = 0) -> np.ndarray:
        """The rows of the few lesions of a draw."""
        return few_shot_rows(self.images, self.config.draw_stage(draw).classifier)

    def but(self, **inputs: Path) -> World:
        """The world with other folders in place of some."""
        return replace(self.world, inputs={**self.world.inputs, **inputs})


def spread(stage: MapConfig, world: World, folder: Path) -> Path:
    """The folder of a stage whose shards are processed one after the other."""
    folder.mkdir()
    stage.collect([stage.process(shard, world) for shard in stage.shards(world.inputs)], world.inputs, folder)
    return folder


def run_pipeline(config: BusgenConfig, folder: Path) -> Run:
    """As the flow does it, on one worker."""
    world = world_of({})
    images = {"images": folder / "images"}
    images["images"].mkdir()
    config.data.prepare(images["images"])
    optimum = {
        "optimal_loss": spread(config.optimal_loss_stage, replace(world, inputs=images), folder / "optimal_loss")
    }
    probes = train_in_process(config.probes_stage, world, folder / "probes", images).folder
    base = train_in_process(config.pretraining_stage, world, folder / "pretraining", images | optimum).folder
    models = images | {"probes": probes, "pretraining": base}
    adapter = train_in_process(config.adaptation_stage, world, folder / "adaptation", images, base).folder
    adapted = replace(world, inputs=models | {"adaptation": adapter})
    generated = {"generated": spread(config.generation_stage, adapted, folder / "generated")}
    classifier = train_in_process(config.classifier_stage, world, folder / "classifier", images | generated).folder
    draws = {}
    for draw in range(config.study.draws):
        given = replace(world, inputs=models | (generated if draw == 0 else {}))
        draws[f"draw_{draw}"] = spread(config.draw_stage(draw), given, folder / f"draw_{draw}")
    found = {**adapted.inputs, **optimum, **generated, "classifier": classifier, **draws}
    return Run(config, replace(world, inputs=found))
