"""Where the lesion lies, as channels beside the image."""

# B images   C channels   H height   W width

from __future__ import annotations

import torch
from torch import Tensor

from models.busgen.networks.conditions import Conditions
from models.busgen.networks.conditions_config import ConditionsConfig


def mask_channels(config: ConditionsConfig, *, said: bool = True) -> int:
    """How many: the mask and whether one is given, or without `said` the mask alone; none where no place is given."""
    return 0 if config.mask == "none" else 1 + said


def with_mask(x_BCHW: Tensor, conditions: Conditions, count: int) -> Tensor:
    """The image, and `count` channels of `mask_channels`: so "no lesion" is another input than "nothing said"."""
    if count == 0:
        return x_BCHW
    mask_B1HW = conditions.mask_B1HW.to(x_BCHW.dtype)
    if count == 1:
        return torch.cat([x_BCHW, mask_B1HW], dim=1)
    given_B1HW = conditions.mask_given_B.to(x_BCHW.dtype)[:, None, None, None].expand_as(mask_B1HW)
    return torch.cat([x_BCHW, mask_B1HW, given_B1HW], dim=1)
