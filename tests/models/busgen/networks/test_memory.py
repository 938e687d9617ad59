from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models.busgen.network_config import DiTConfig, NetworkConfig, UNetConfig
from models.busgen.networks.conditions_config import ConditionsConfig
from models.busgen.networks.memory import activation_bytes
from models.busgen.networks.network import make_network
from tests.models.busgen.networks.made_up import conditions

PLAIN = ConditionsConfig(descriptors=())
WITHIN = 1.3  # a factor; what is counted is not what an allocator rounds it up to


def kept_bytes(config: NetworkConfig, side: int, batch: int, channels: int = 1) -> int:
    """Bytes that torch saves for a backward pass, each storage once and no parameter."""
    network = make_network(config, PLAIN, side, channels)
    own = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, int] = {}
    alive: list[Tensor] = []

    def pack(saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(saved)  # so that no other tensor gets its place
        return saved

    said = replace(conditions(batch, PLAIN), mask_B1HW=torch.zeros(batch, 1, side, side))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        network(torch.randn(batch, channels, side, side), torch.randn(batch), said)
    return sum(kept.values())


@pytest.mark.parametrize(
    ("config", "side"),
    [
        (UNetConfig(width=16, dropout=0.0), 32),
        (UNetConfig(width=16, dropout=0.1), 32),
        (UNetConfig(width=16, multipliers=(1, 2), blocks=(2, 3), most_attention_side=32), 32),
        (UNetConfig(layout="official", width=16, multipliers=(1, 2), blocks=(2, 2), most_attention_side=32), 32),
        (DiTConfig(), 32),
        (DiTConfig(width=64, layers=6, heads=2, dropout=0.1), 32),
    ],
    ids=["unet", "dropout", "attention", "official", "dit", "dit with dropout"],
)
def test_activations_are_about_as_many_bytes_as_torch_saves(config: NetworkConfig, side: int):
    torch.manual_seed(0)
    found, estimated = kept_bytes(config, side, 8), activation_bytes(config, side, 8)
    assert found / WITHIN < estimated < found * WITHIN


@pytest.mark.parametrize("config", [UNetConfig(width=16), DiTConfig(width=64, layers=8, heads=2)], ids=["unet", "dit"])
def test_activations_computed_anew_are_fewer_than_kept_ones(config: NetworkConfig):
    anew = config.but(recompute=True)
    assert activation_bytes(anew, 32, 8) < 0.6 * activation_bytes(config, 32, 8)
    assert kept_bytes(anew, 32, 8) < activation_bytes(anew, 32, 8)


@pytest.mark.parametrize("config", [UNetConfig(width=16), DiTConfig()], ids=["unet", "dit"])
def test_the_estimate_holds_under_autocast_too(config: NetworkConfig):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = kept_bytes(config, 32, 8)
    assert found / WITHIN < activation_bytes(config, 32, 8, precision="bf16") < found * WITHIN


def test_configs_and_their_memory_are_read_without_torch():
    asked = "import models.busgen.networks.memory, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", asked]).returncode == 0
