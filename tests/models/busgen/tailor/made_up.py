"""Images of lesions with boxes, masks and descriptors that have to do with each other."""

import numpy as np

from models.busgen.images.boxes import box_mask
from models.busgen.images.cases import Box, Case
from models.busgen.images.dataset import Images
from models.busgen.tailor.outlines import ellipse_mask

SIDE = 24
MARGINS = ("circumscribed", "spiculated", "circumscribed", "circumscribed", "indistinct", "circumscribed")


def images(count: int = 60, seed: int = 4, *, ellipses: bool = True, side: int = SIDE) -> Images:
    """Every third is a DCIS, another normal, the rest benign. Large lesions lie low; a DCIS is spiculated or not."""
    generator = np.random.default_rng(seed)
    cases, masks = [], []
    for number in range(count):
        size = generator.uniform(0.15, 0.35)
        across, down = generator.normal(0.5, 0.08), 0.3 + size + generator.normal(0.0, 0.03)
        aspect = generator.uniform(0.8, 1.6)
        box = Box(
            across - size * aspect**0.5 / 2,
            down - size / aspect**0.5 / 2,
            across + size * aspect**0.5 / 2,
            down + size / aspect**0.5 / 2,
        )
        label = ("benign", "dcis", "normal")[number % 3]
        masks.append(ellipse_mask(box, side) if ellipses else (255 * box_mask([box], side)).astype(np.uint8))
        cases.append(_case(number, label, box))
    return Images(np.zeros((count, side, side), np.uint8), np.stack(masks), tuple(cases), {})


def _case(number: int, label: str, box: Box) -> Case:
    margin = MARGINS[number // 3 % len(MARGINS)]
    suspicious = margin != "circumscribed"
    descriptors = {"margin": margin, "halo": "present" if suspicious else "none"}
    return Case(
        name=f"{number}",
        source="made up",
        patient=f"{number}",
        pathology="malignant" if label == "dcis" else label,
        subtype=label if label == "dcis" else "",
        device="a" if label == "benign" else "b",
        boxes=() if label == "normal" else (box,),
        descriptors={} if label == "normal" else descriptors,
    )
