"""Plain augmentation: flip, shift, crop, gain, gamma and noise, drawn for the global batch from the step alone."""

# B images   H height   W width

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models.busgen.diagnosis_config import AugmentationConfig


@dataclass(frozen=True)
class Alterations:
    """What happens to each image of a batch; noise has a standard deviation of 1 and is scaled when applied."""

    flipped_B: Tensor  # bool
    shift_B2: Tensor  # across and down, as shares of the side
    size_B: Tensor  # of the part that is kept, as a share of the side
    gain_B: Tensor
    gamma_B: Tensor
    noise_B1HW: Tensor

    def take(self, rows: slice) -> Alterations:
        return Alterations(*(value[rows] for value in self._values()))

    def to(self, device: torch.device) -> Alterations:
        return Alterations(*(value.to(device) for value in self._values()))

    def _values(self) -> tuple[Tensor, ...]:
        return self.flipped_B, self.shift_B2, self.size_B, self.gain_B, self.gamma_B, self.noise_B1HW


def draw_alterations(config: AugmentationConfig, batch: int, side: int, generator: np.random.Generator) -> Alterations:
    """The same numbers are drawn whatever is switched off, so that arms which differ in one part share the others."""
    flipped = generator.random(batch) < 0.5
    shift = generator.uniform(-1.0, 1.0, (batch, 2)) * config.shift
    size = 1.0 - generator.random(batch) * config.zoom
    gain = np.exp(generator.uniform(-1.0, 1.0, batch) * config.gain)
    gamma = np.exp(generator.uniform(-1.0, 1.0, batch) * config.gamma)
    noise = generator.standard_normal((batch, 1, side, side), dtype=np.float32)
    shift_B2, size_B, gain_B, gamma_B = (
        torch.from_numpy(values.astype(np.float32)) for values in (shift, size, gain, gamma)
    )
    return Alterations(
        torch.from_numpy(flipped & config.flip), shift_B2, size_B, gain_B, gamma_B, torch.from_numpy(noise)
    )


def augment(image_B1HW: Tensor, altered: Alterations, config: AugmentationConfig) -> Tensor:
    """The images altered; with everything switched off, exactly as they were."""
    image = torch.where(altered.flipped_B[:, None, None, None], image_B1HW.flip(-1), image_B1HW)
    if config.shift or config.zoom:
        image = _crop(image, altered)
    if config.gain or config.gamma or config.noise:
        grey = ((image + 1.0) / 2.0 * altered.gain_B[:, None, None, None]).clamp(0.0, 1.0)
        grey = grey ** altered.gamma_B[:, None, None, None]
        image = (grey + config.noise * altered.noise_B1HW).clamp(0.0, 1.0) * 2.0 - 1.0
    return image


def _crop(image_B1HW: Tensor, altered: Alterations) -> Tensor:
    """The kept part of each image, moved, at the full size; beyond its edge an image is mirrored."""
    theta = torch.zeros(len(image_B1HW), 2, 3, device=image_B1HW.device)
    theta[:, 0, 0] = theta[:, 1, 1] = altered.size_B
    theta[:, :, 2] = 2.0 * altered.shift_B2  # the grid goes from -1 to 1
    grid = functional.affine_grid(theta, list(image_B1HW.shape), align_corners=False)
    return functional.grid_sample(image_B1HW, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
