"""Networks out of their configs."""

from __future__ import annotations

import torch
from torch import nn

from models.busgen.network_config import NetworkConfig, UNetConfig
from models.busgen.networks.conditions_config import ConditionsConfig
from models.busgen.networks.dit import DiT
from models.busgen.networks.unet import UNet


def make_network(config: NetworkConfig, conditions: ConditionsConfig, side: int, channels: int = 1) -> nn.Module:
    """A network(x_BCHW, level_B, conditions) -> [B, C, H, W] for images of this side, with fresh weights.

    Raises ConfigError for a side that the network cannot take.
    """
    if isinstance(config, UNetConfig):
        return UNet(config, conditions, side, channels)
    return DiT(config, conditions, side, channels)


def parameter_count(config: NetworkConfig, conditions: ConditionsConfig, side: int, channels: int = 1) -> int:
    """How many numbers a network of this config learns; takes no memory for them."""
    with torch.device("meta"):
        network = make_network(config, conditions, side, channels)
    return sum(parameter.numel() for parameter in network.parameters())
