"""A trained generator out of the folders that its stages wrote."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from models.busgen.diffusion.denoiser import Denoiser, make_denoiser
from models.busgen.diffusion_config import GeneratorConfig
from models.busgen.images.dataset import Images
from models.busgen.network_config import LoraConfig
from models.busgen.networks.conditions_config import ConditionsConfig
from models.busgen.networks.lora import add_lora, merge
from models.common.contract import World
from models.common.errors import CheckpointError, ConfigError, DataError
from models.common.weights import load_stage_config, load_weights

ADAPTER = "adapted"  # the name of the one adapter that a generator has


def read_generator(config: GeneratorConfig, base: Path, adapter: Path | None, device: torch.device) -> Denoiser:
    """The generator of a pretraining's folder, or as an adaptation's folder changes it; ready to sample, not to train.

    The adapter is merged into the weights.
    """
    denoiser = make_denoiser(config)
    load_base(denoiser, base)
    if adapter is not None:
        _load_adapter(denoiser, config.conditions, adapter)
        merge(denoiser.network)
    for parameter in denoiser.parameters():
        parameter.requires_grad_(False)  # noqa: FBT003 -- torch's own
    return denoiser.to(device).eval()


def load_base(denoiser: Denoiser, folder: Path) -> None:
    """Copies the weights of a pretraining; raises CheckpointError where they are another network's."""
    _copy(dict(denoiser.named_parameters()), load_weights(folder), folder)


def begin_classes(denoiser: Denoiser, conditions: ConditionsConfig, parents: Mapping[str, str]) -> None:
    """Gives each of these classes the embedding of its parent: what was not trained begins as what it is a kind of."""
    with torch.no_grad():
        for table in _label_tables(denoiser, conditions):
            for name, parent in parents.items():
                table.weight[conditions.classes.index(name) + 1] = table.weight[conditions.classes.index(parent) + 1]


def read_images(world: World, config: GeneratorConfig) -> Images:
    """The input "images"; raises where there is none, or of another size."""
    if "images" not in world.inputs:
        given = ", ".join(sorted(world.inputs)) or "nothing"
        raise ConfigError(f"the stage was given no input 'images'\ngiven: {given}\ngive a folder of prepared images")
    images = Images.read(world.inputs["images"])
    if images.side != config.side:
        raise DataError(
            f"the images have {images.side} pixels a side, and the generator {config.side}\n"
            f"try generator.side={images.side}, or prepare the images with side {config.side}"
        )
    return images


def _load_adapter(denoiser: Denoiser, conditions: ConditionsConfig, folder: Path) -> None:
    told = load_stage_config(folder)
    try:
        lora = LoraConfig.model_validate(told["lora"])
    except (KeyError, ValidationError):
        raise CheckpointError(f"{folder} is no adaptation: its config has no 'lora' that fits") from None
    begin_classes(denoiser, conditions, told["parents"])
    add_lora(denoiser.network, lora, ADAPTER)
    trained = {name: value for name, value in denoiser.named_parameters() if value.requires_grad}
    _copy(trained, load_weights(folder), folder)


@torch.no_grad()
def _copy(parameters: Mapping[str, Tensor], weights: Mapping[str, Tensor], folder: Path) -> None:
    ours = {name: tuple(value.shape) for name, value in parameters.items()}
    theirs = {name: tuple(value.shape) for name, value in weights.items()}
    if ours != theirs:
        name = min(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
        raise CheckpointError(
            f"{folder} holds other weights than this generator's: of {name} it has {theirs.get(name, 'none')}\n"
            f"fits: {ours.get(name, 'no such weight')}\nread it with the generator's config that it was trained with"
        )
    for name, value in parameters.items():
        value.copy_(weights[name])


def _label_tables(denoiser: Denoiser, conditions: ConditionsConfig) -> list[nn.Embedding]:
    found = [
        module
        for name, module in denoiser.named_modules()
        if isinstance(module, nn.Embedding) and name.rsplit(".", 1)[-1] == "labels"
    ]
    assert found, "the network has no table called 'labels'"
    assert all(table.num_embeddings == len(conditions.classes) + 1 for table in found)
    return found
