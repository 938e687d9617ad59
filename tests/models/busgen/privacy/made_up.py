"""Images that look as unlike each other as two patients' do: smooth random fields with noise on them."""

import numpy as np
from scipy import ndimage

from models.busgen.images.cases import Case
from models.busgen.images.dataset import Images


def images(count: int, side: int, seed: int, *, of_patient: int = 1) -> Images:
    """The first images are those of the first patient, and so on; each is another one."""
    generator = np.random.default_rng([seed, 77])
    fields = ndimage.gaussian_filter(generator.standard_normal((count, side, side)), (0, side / 12, side / 12))
    grey = 110 + 45 * fields / fields.std() + generator.normal(0, 6, fields.shape)
    cases = tuple(
        Case(name=f"{number}", source="made up", patient=f"{seed}-{number // of_patient}", pathology="benign")
        for number in range(count)
    )
    return Images(np.clip(grey, 0, 255).astype(np.uint8), np.zeros((count, side, side), np.uint8), cases, {})
