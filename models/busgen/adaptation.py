"""Adaptation: low-rank adapters on a frozen generator learn a few images of two classes."""

from __future__ import annotations

import torch

from models.busgen.batches import ADAPTATION, few_shot_rows
from models.busgen.diffusion.denoiser import Denoiser, make_denoiser
from models.busgen.diffusion.generator import ADAPTER, begin_classes, load_base, read_images
from models.busgen.diffusion.noise import seed_of
from models.busgen.diffusion.training import DenoisingLearner
from models.busgen.diffusion_config import AdaptationStage
from models.busgen.networks.lora import add_lora
from models.common.contract import World
from models.common.errors import ConfigError


class AdaptationLearner(DenoisingLearner):
    """Trains the adapters, and publishes them alone."""

    def __init__(self, config: AdaptationStage, world: World) -> None:
        images = read_images(world, config.generator)
        rows = few_shot_rows(images, config)
        levels = {"levels": config.levels.model_dump(), "weight": config.weight}
        diffusion = config.generator.diffusion.but(**levels)
        super().__init__(config, world, _adapted(config, world), images, rows, ADAPTATION, diffusion)


def _adapted(config: AdaptationStage, world: World) -> Denoiser:
    """The pretrained denoiser with an adapter that changes nothing yet."""
    if world.start_from is None:
        raise ConfigError("an adaptation starts from a pretrained generator\ngive the folder of a pretraining")
    denoiser = make_denoiser(config.generator)
    load_base(denoiser, world.start_from)
    begin_classes(denoiser, config.generator.conditions, config.parents)
    random = torch.Generator().manual_seed(seed_of(world.seed, ADAPTATION))
    add_lora(denoiser.network, config.lora, ADAPTER, random)
    return denoiser
