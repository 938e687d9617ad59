"""Small networks and made-up conditions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.busgen.images.descriptors import DESCRIPTORS
from models.busgen.network_config import DiTConfig, NetworkConfig, UNetConfig
from models.busgen.networks.conditions import Conditions
from models.busgen.networks.conditions_config import ConditionsConfig
from models.busgen.networks.network import make_network

SIDE = 16
CONDITIONS = ConditionsConfig(classes=("normal", "benign", "malignant"), devices=("a", "b"))
UNET = UNetConfig(
    width=8, multipliers=(1, 2, 2), blocks=(1, 2, 1), most_attention_side=8, head_width=8, dropout=0.0
)  # fmt: skip
DIT = DiTConfig(patch=4, width=16, layers=2, heads=2)
OFFICIAL = UNetConfig(
    layout="official", width=8, multipliers=(1, 2), blocks=(1, 1), most_attention_side=SIDE, head_width=0, dropout=0.0
)
OFFICIAL_CONDITIONS = ConditionsConfig(classes=("benign", "malignant"), devices=("a", "b"), descriptors=())


def small(
    config: NetworkConfig, conditions: ConditionsConfig = CONDITIONS, seed: int = 0, channels: int = 1
) -> nn.Module:
    """A network whose zeroed layers are not zero any more, so that everything has an effect."""
    torch.manual_seed(seed)
    network = make_network(config, conditions, SIDE, channels)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return network


def conditions(batch: int, config: ConditionsConfig = CONDITIONS, seed: int = 0) -> Conditions:
    """Of each kind something said in each row, but for the first row's descriptors."""
    draw = torch.Generator().manual_seed(seed)

    def numbers(most: int) -> Tensor:
        return torch.randint(1, most + 1, (batch,), generator=draw) if most else torch.zeros(batch, dtype=torch.int64)

    columns = [numbers(len(DESCRIPTORS[name])) for name in config.descriptors]
    descriptors = torch.stack(columns, dim=1) if columns else torch.zeros(batch, 0, dtype=torch.int64)
    descriptors[:1] = 0
    mask = torch.zeros(batch, 1, SIDE, SIDE)
    mask[:, :, 4:9, 5:12] = 1.0
    return Conditions(numbers(len(config.classes)), numbers(len(config.devices)), descriptors, mask, torch.ones(batch))


def inputs(batch: int, channels: int = 1, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noisy images, and their levels."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, SIDE, SIDE, generator=draw), torch.randn(batch, generator=draw)
