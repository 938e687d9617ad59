"""What an image is generated for: pathology, device, descriptors, and where the lesion lies. Each may be left open."""

# B images   A descriptors   H height   W width

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.busgen.images.boxes import box_mask
from models.busgen.images.dataset import Images
from models.busgen.images.descriptors import numbers_of
from models.busgen.networks.conditions_config import ConditionsConfig
from models.common.errors import DataError

OPEN = 0  # the number of a label or device that is left open; it is no class of its own, "normal" is another


@dataclass(frozen=True)
class Conditions:
    """The conditions of a batch. 0 leaves a label, device or descriptor open.

    labels_B, devices_B, descriptors_BA: int64. mask_B1HW: share of each pixel that the lesion covers, in float32.
    mask_given_B: float32, 0 where nothing is said of a lesion's place, and then the mask is zero; 1 with a mask of
    zeros says that there is no lesion.
    """

    labels_B: Tensor
    devices_B: Tensor
    descriptors_BA: Tensor
    mask_B1HW: Tensor
    mask_given_B: Tensor

    def __len__(self) -> int:
        return len(self.labels_B)

    def take(self, rows: Tensor | slice | Sequence[int]) -> Conditions:
        """These rows."""
        return Conditions(*(value[rows] for value in self._values()))

    def to(self, device: torch.device) -> Conditions:
        return Conditions(*(value.to(device) for value in self._values()))

    def opened(self) -> Conditions:
        """The same number of rows with nothing said: what classifier-free guidance compares with."""
        return Conditions(*(torch.zeros_like(value) for value in self._values()))

    def without(self, label_B: Tensor, device_B: Tensor, descriptors_B: Tensor, mask_B: Tensor) -> Conditions:
        """These conditions with some left open: where a row's entry is True, its label, device and so on."""
        return Conditions(
            self.labels_B.masked_fill(label_B, OPEN),
            self.devices_B.masked_fill(device_B, OPEN),
            self.descriptors_BA.masked_fill(descriptors_B[:, None], OPEN),
            self.mask_B1HW.masked_fill(mask_B[:, None, None, None], 0.0),
            self.mask_given_B.masked_fill(mask_B, 0.0),
        )

    def _values(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        return self.labels_B, self.devices_B, self.descriptors_BA, self.mask_B1HW, self.mask_given_B


def conditions_of(images: Images, config: ConditionsConfig) -> Conditions:
    """The conditions of these images, as the config words them.

    Raises DataError for a label or a device that the config does not list; a device that is not known stays open.
    """
    cases = images.cases
    labels = [_number(case.label(config.classes), config.classes, "class", case.name) for case in cases]
    devices = [_number(case.device, config.devices, "device", case.name) if case.device else OPEN for case in cases]
    descriptors = [numbers_of(case.descriptors, config.descriptors) for case in cases]
    return Conditions(
        torch.tensor(labels, dtype=torch.int64),
        torch.tensor(devices, dtype=torch.int64),
        torch.tensor(descriptors, dtype=torch.int64).reshape(len(cases), len(config.descriptors)),
        torch.from_numpy(_masks(images, config)),
        torch.full((len(cases),), 0.0 if config.mask == "none" else 1.0),
    )


def _masks(images: Images, config: ConditionsConfig) -> np.ndarray:
    """[B, 1, H, W], float32."""
    if config.mask == "soft":
        return np.asarray(images.masks_NHW, np.float32)[:, None] / 255.0
    masks = np.zeros((len(images), 1, images.side, images.side), np.float32)
    if config.mask == "box":
        for number, case in enumerate(images.cases):
            masks[number, 0] = box_mask(case.boxes, images.side)
    return masks


def _number(found: str, fits: Sequence[str], what: str, whose: str) -> int:
    if found not in fits:
        raise DataError(f"{whose}: its {what} is '{found}'\nfits: {', '.join(fits)}\nlist it in the conditions' config")
    return fits.index(found) + 1
