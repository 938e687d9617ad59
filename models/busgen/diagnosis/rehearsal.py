"""Made-up images that are large enough to try the classifier alone: a bright blob is positive."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.busgen.diagnosis_config import ClassifierStage
from models.busgen.images.cases import PATHOLOGIES, Box, Case
from models.busgen.images.dataset import Images
from models.busgen.images.descriptors import DESCRIPTORS
from models.common.contract import Inputs

_IMAGES, _SIDE, _SEED = 64, 16, 5


def rehearse_classifier(stage: ClassifierStage, folder: Path) -> Inputs:
    """The inputs that the stage's `train_on` asks for."""
    wanted = {"real": ("images",), "generated": ("generated",), "both": ("images", "generated")}[stage.train_on]
    count = max(_IMAGES, 2 * max(stage.shots or 0, stage.negative_shots or 0))
    for place, name in enumerate(wanted):
        (folder / name).mkdir()
        split = stage.split if name == "images" else ""
        made_up_images(count, _SIDE, stage.positive, stage.negative, split, _SEED + place).write(folder / name)
    return Inputs({name: folder / name for name in wanted})


def made_up_images(count: int, side: int, positive: str, negative: str, split: str, seed: int) -> Images:
    """Noise with a blob somewhere, dark or, in every second image, bright: that one is positive. One patient each.

    Descriptors are made up too: margin and calcifications go with the label, and every third image lacks them.
    """
    generator = np.random.default_rng([seed, 1])
    rows_HW, columns_HW = np.mgrid[:side, :side]
    pixels, masks, cases = [], [], []
    for number in range(count):
        bright = number % 2 == 1
        middle = generator.uniform(0.35, 0.65, 2) * side
        radius = generator.uniform(0.12, 0.2) * side
        inside_HW = (rows_HW - middle[0]) ** 2 + (columns_HW - middle[1]) ** 2 < radius**2
        grey_HW = generator.normal(100.0, 25.0, (side, side)) + inside_HW * (90.0 if bright else -60.0)
        pixels.append(np.clip(grey_HW, 0, 255).astype(np.uint8))
        masks.append((255 * inside_HW).astype(np.uint8))
        edges = np.array([middle[1] - radius, middle[0] - radius, middle[1] + radius, middle[0] + radius]) / side
        box = Box(*(float(edge) for edge in edges))
        cases.append(_case(number, positive if bright else negative, split, box, suspicious=bright))
    return Images(np.stack(pixels), np.stack(masks), tuple(cases), {"quarantined": []})


def _case(number: int, label: str, split: str, box: Box, *, suspicious: bool) -> Case:
    is_pathology = label in PATHOLOGIES
    known = number % 3 < 2
    margin = DESCRIPTORS["margin"][1 + number % 4 if suspicious else 0]
    calcifications = DESCRIPTORS["calcifications"][1 if suspicious else 0]
    return Case(
        name=f"image {number}",
        source="made up",
        patient=f"patient {number}",
        pathology=label if is_pathology else "malignant" if suspicious else "benign",
        subtype="" if is_pathology else label,
        boxes=(box,),
        descriptors={"margin": margin, "calcifications": calcifications} if known else {},
        split=split,
    )
