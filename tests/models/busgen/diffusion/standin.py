"""A small network that hears every condition, in place of a real one."""

import torch
from torch import Tensor, nn

from models.busgen.networks.conditions import Conditions


class StandIn(nn.Module):
    """A convolution of the image and the mask, shifted by label, device, descriptors and noise level."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 1, 3, padding=1)
        self.labels = nn.Embedding(4, 1)
        self.devices = nn.Embedding(3, 1)
        self.descriptors = nn.Embedding(8, 1)

    def forward(self, x_BCHW: Tensor, level_B: Tensor, conditions: Conditions) -> Tensor:
        told_B1 = self.labels(conditions.labels_B) + self.devices(conditions.devices_B)
        told_B1 = told_B1 + self.descriptors(conditions.descriptors_BA).sum(dim=1) + level_B[:, None]
        given_B1HW = conditions.mask_given_B[:, None, None, None].expand_as(conditions.mask_B1HW)
        seen = torch.cat([x_BCHW, conditions.mask_B1HW, given_B1HW], dim=1)
        return self.convolution(seen) + told_B1[:, :, None, None]


def some_conditions(count: int, side: int = 4) -> Conditions:
    random = torch.Generator().manual_seed(7)
    return Conditions(
        torch.randint(1, 4, (count,), generator=random),
        torch.randint(1, 3, (count,), generator=random),
        torch.randint(1, 8, (count, 2), generator=random),
        torch.rand(count, 1, side, side, generator=random),
        torch.ones(count),
    )
