"""Small generators, and images to train them on."""

from pathlib import Path

import numpy as np

from models.busgen.diffusion_config import AdaptationStage, GeneratorConfig, PretrainingStage
from models.busgen.images.cases import Box, Case
from models.busgen.images.dataset import Images
from models.busgen.network_config import DiTConfig, LoraConfig
from models.busgen.networks.conditions_config import ConditionsConfig
from models.common.optimizer_config import OptimizerConfig

RATE = OptimizerConfig(learning_rate=5e-3, schedule="constant", warmup_share=0.0, beta_2=0.99)
GENERATOR = GeneratorConfig(
    network=DiTConfig(patch=4, width=16, layers=1, heads=2, feed_forward=2),
    conditions=ConditionsConfig(classes=("normal", "benign", "malignant", "dcis"), devices=("a", "b")),
    side=8,
)
PRETRAINING = PretrainingStage(generator=GENERATOR, max_steps=12, batch_size=8, optimizer=RATE)
ADAPTATION = AdaptationStage(
    generator=GENERATOR, max_steps=12, batch_size=8, optimizer=RATE, shots=4, negative_shots=4, lora=LoraConfig(rank=2)
)


def images_of(patients: dict[str, tuple[str, int]], split: str = "few_shot", side: int = 8) -> Images:
    """Images of these patients, each with its label and number of images; every one has pixels of its own."""
    cases = [
        Case(
            name=f"{patient}-{number}",
            source="made_up",
            patient=patient,
            pathology="malignant" if label == "dcis" else label,
            subtype="dcis" if label == "dcis" else "",
            device="a",
            boxes=() if label == "normal" else (Box(0.0, 0.25, 0.25, 0.75),),
            descriptors={} if label == "normal" else {"shape": "oval"},
            split=split,
        )
        for patient, (label, count) in patients.items()
        for number in range(count)
    ]
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (len(cases), side, side), dtype=np.uint8)
    return Images(pixels, np.zeros_like(pixels), tuple(cases), {})


def written(images: Images, folder: Path) -> Path:
    folder.mkdir(parents=True)
    images.write(folder)
    return folder
