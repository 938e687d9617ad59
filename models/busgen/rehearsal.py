"""Inputs just large enough to try a training of the generator alone: a few made-up images, and a pretrained base."""

# N images   H height   W width

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from models.busgen.diffusion.denoiser import make_denoiser
from models.busgen.diffusion.levels import draw_levels
from models.busgen.diffusion.losses import denoising_loss, loss_weight
from models.busgen.diffusion_config import AdaptationStage, GeneratorConfig, LognormalLevels, PretrainingStage
from models.busgen.images.cases import PATHOLOGIES, Box, Case
from models.busgen.images.dataset import Images, as_network_input
from models.busgen.images.descriptors import DESCRIPTORS
from models.busgen.networks.conditions import conditions_of
from models.busgen.optimal.curve import OPTIMAL_LOSS_FILE, TRAINING
from models.common.contract import Inputs

_SEED = 5
_OF_EACH_CLASS = 24  # images; two of each patient
_PRETRAINING_STEPS, _RATE = 40, 3e-3
_PARENT = "malignant"  # the pathology of a class that is none itself


def rehearse_pretraining(stage: PretrainingStage, folder: Path) -> Inputs:
    """Images, and a made-up optimal loss where levels or weight go by one."""
    inputs = {"images": _write_images(stage.generator, folder / "images", "pretrain", _OF_EACH_CLASS)}
    if stage.generator.diffusion.needs_optimal_loss:
        inputs["optimal_loss"] = _write_optimal_loss(stage.generator, folder / "optimal_loss")
    return Inputs(inputs)


def rehearse_adaptation(stage: AdaptationStage, folder: Path) -> Inputs:
    """Images, and a generator as a pretraining leaves it, of darker ones."""
    images = _write_images(
        stage.generator, folder / "images", "few_shot", max(_OF_EACH_CLASS, stage.shots or 0, stage.negative_shots or 0)
    )
    start = folder / "start"
    start.mkdir()
    save_file(_pretrained(stage.generator), start / "weights.safetensors")
    told = PretrainingStage(generator=stage.generator).model_dump(mode="json")
    (start / "config.json").write_text(json.dumps(told, indent=1, sort_keys=True) + "\n")
    return Inputs({"images": images}, start_from=start)


def _pretrained(config: GeneratorConfig) -> dict[str, Tensor]:
    """The weights after a few steps, in which every layer has come to matter: fresh ones pass nothing on."""
    images = made_up_images(config, "pretrain", _OF_EACH_CLASS, grey=70.0)
    diffusion = config.diffusion
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        denoiser = make_denoiser(config)
        optimizer = torch.optim.AdamW(denoiser.parameters(), lr=_RATE)
        random = np.random.default_rng(_SEED)
        for _ in range(_PRETRAINING_STEPS):
            some = images.take(random.integers(len(images), size=16))
            image_BCHW = torch.from_numpy(as_network_input(some.pixels_NHW)).expand(-1, config.channels, -1, -1)
            s_B = torch.from_numpy(draw_levels(LognormalLevels(), random.random(16))).float()
            noisy_BCHW = image_BCHW + s_B[:, None, None, None] * torch.randn_like(image_BCHW)
            estimate_BCHW = denoiser(noisy_BCHW, s_B, conditions_of(some, config.conditions))
            weight_B = loss_weight("edm", s_B, diffusion.sigma_data)
            optimizer.zero_grad()
            denoising_loss(estimate_BCHW, image_BCHW, weight_B).mean().backward()
            optimizer.step()
    return {name: value.detach().clone() for name, value in denoiser.named_parameters()}


def made_up_images(config: GeneratorConfig, split: str, of_each_class: int, *, grey: float = 150.0) -> Images:
    """Speckle of this mean with a blot for a lesion, darker or brighter by class; two images of each patient."""
    random = np.random.default_rng(_SEED)
    conditions, side = config.conditions, config.side
    cases, pixels, masks = [], [], []
    for number in range(of_each_class * len(conditions.classes)):
        label = conditions.classes[number % len(conditions.classes)]
        box = _box(random)
        mask_HW = np.zeros((side, side)) if label == "normal" else _blot(box, side)
        shade = 60.0 if conditions.classes.index(label) % 2 else -60.0
        grey_HW = grey + 20.0 * random.standard_normal((side, side)) + shade * mask_HW
        pixels.append(np.clip(grey_HW, 0, 255).astype(np.uint8))
        masks.append((255 * mask_HW).astype(np.uint8))
        known = {name: str(random.choice(DESCRIPTORS[name])) for name in conditions.descriptors}
        cases.append(
            Case(
                name=f"{number}.png",
                source="rehearsal",
                patient=f"{label}-{number // len(conditions.classes) // 2}",
                pathology=label if label in PATHOLOGIES else _PARENT,
                subtype="" if label in PATHOLOGIES else label,
                device=str(random.choice(conditions.devices)) if conditions.devices else "",
                boxes=() if label == "normal" else (box,),
                descriptors={} if label == "normal" else known,
                split=split,
            )
        )
    return Images(np.stack(pixels), np.stack(masks), tuple(cases), {})


def _box(random: np.random.Generator) -> Box:
    left, top = random.uniform(0.05, 0.45, size=2)
    wide, high = random.uniform(0.3, 0.5, size=2)
    return Box(float(left), float(top), float(left + wide), float(top + high))


def _blot(box: Box, side: int) -> np.ndarray:
    """An ellipse in its box, [H, W], 0 to 1."""
    middle = (np.arange(side) + 0.5) / side
    across = (middle - (box.left + box.right) / 2) / (box.right - box.left)
    down = (middle - (box.top + box.bottom) / 2) / (box.bottom - box.top)
    return (across[None] ** 2 + down[:, None] ** 2 <= 0.25).astype(np.float64)


def _write_images(config: GeneratorConfig, folder: Path, split: str, of_each_class: int) -> Path:
    folder.mkdir()
    made_up_images(config, split, of_each_class).write(folder)
    return folder


def _write_optimal_loss(config: GeneratorConfig, folder: Path) -> Path:
    """Half the loss of the best linear denoiser of white images, as an optimal loss stage writes it."""
    folder.mkdir()
    pixels = config.channels * config.side**2
    variance = config.diffusion.sigma_data**2
    levels = np.geomspace(0.01, 80.0, 12)
    j_star = 0.5 * pixels * variance * levels**2 / (variance + levels**2)
    curve = {
        "j_star": j_star.tolist(),
        "error": [0.0] * len(levels),
        "total_variance": 0.5 * pixels * variance,
        "critical": 0.05,
    }
    told = {"levels": levels.tolist(), "pixels": pixels, "curves": {TRAINING: curve}}
    (folder / OPTIMAL_LOSS_FILE).write_text(json.dumps(told, sort_keys=True) + "\n")
    return folder
