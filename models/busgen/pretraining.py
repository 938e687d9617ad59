"""Pretraining: a generator from scratch, on all images whose split says so."""

from __future__ import annotations

from models.busgen.batches import PRETRAINING
from models.busgen.diffusion.denoiser import make_denoiser
from models.busgen.diffusion.generator import read_images
from models.busgen.diffusion.training import DenoisingLearner
from models.busgen.diffusion_config import PretrainingStage
from models.busgen.optimal.curve import OptimalCurve
from models.busgen.optimal.schedule import AdaptiveSchedule
from models.common.contract import World
from models.common.errors import ConfigError, DataError


class PretrainingLearner(DenoisingLearner):
    """Trains a generator on the split "pretrain"."""

    def __init__(self, config: PretrainingStage, world: World) -> None:
        images = read_images(world, config.generator)
        rows = images.rows(split="pretrain")
        if not len(rows):
            raise DataError("none of the images is in split 'pretrain'\nprepare the data with a split that has it")
        super().__init__(
            config,
            world,
            make_denoiser(config.generator),
            images,
            rows,
            PRETRAINING,
            config.generator.diffusion,
            _schedule(config, world),
        )


def _schedule(config: PretrainingStage, world: World) -> AdaptiveSchedule | None:
    """What the optimal loss says of levels and weight, where they go by it."""
    diffusion = config.generator.diffusion
    if not diffusion.needs_optimal_loss:
        return None
    if "optimal_loss" not in world.inputs:
        given = ", ".join(sorted(world.inputs)) or "nothing"
        raise ConfigError(
            "levels or weight go by the optimal loss, and the stage was given no input 'optimal_loss'\n"
            f"given: {given}\ngive the folder of an optimal loss stage, or set diffusion.levels and diffusion.weight"
        )
    curve = OptimalCurve.read(world.inputs["optimal_loss"])
    numbers = config.generator.channels * config.generator.side**2
    if curve.pixels != numbers:
        raise DataError(
            f"the optimal loss is of images of {curve.pixels} numbers, and the generator's have {numbers}\n"
            "measure it on the images that are trained on, with channels=1"
        )
    return AdaptiveSchedule(curve, diffusion.schedule)
