"""How much memory a training of the generator needs on a worker: what its config tells before anything is loaded.

The sum of what stays (weights, gradients, the optimizer, the running mean and what is copied to take it) and of a
piece's activations. The images are memory maps. What the libraries keep for themselves is not in it.
"""

from __future__ import annotations

import torch

from models.busgen.diffusion_config import AdaptationStage, GeneratorConfig, PretrainingStage
from models.busgen.networks.lora import add_lora
from models.busgen.networks.memory import activation_bytes
from models.busgen.networks.network import make_network, parameter_count
from models.common.contract import WorkerGroup
from models.common.memory import trained_bytes

_AVERAGE = 2 * 4  # bytes of a trained number: the mean, and the float32 copy that enters it


def pretraining_bytes(stage: PretrainingStage, group: WorkerGroup) -> int:
    """Bytes of a worker that pretrains."""
    of = stage.generator
    parameters = parameter_count(of.network, of.conditions, of.side, of.channels)
    return _bytes(stage, group, parameters, parameters)


def adaptation_bytes(stage: AdaptationStage, group: WorkerGroup) -> int:
    """Bytes of a worker that adapts; adapters keep few activations of their own, which are not counted."""
    total, trained = _with_adapter(stage.generator, stage)
    return _bytes(stage, group, total, trained)


def _bytes(stage: PretrainingStage | AdaptationStage, group: WorkerGroup, parameters: int, trained: int) -> int:
    share = -(-stage.batch_size // group.workers)
    at_once = min(share, stage.micro_batch or share)
    of = stage.generator
    comes = activation_bytes(of.network, of.side, at_once, of.channels, group.precision)
    average = 0 if stage.ema is None else trained * _AVERAGE
    return trained_bytes(parameters, trained, group) + average + comes


def _with_adapter(config: GeneratorConfig, stage: AdaptationStage) -> tuple[int, int]:
    """All parameters of the adapted network, and those trained; takes no memory for them."""
    with torch.device("meta"):
        network = make_network(config.network, config.conditions, config.side, config.channels)
        add_lora(network, stage.lora)
    counts = [(parameter.numel(), parameter.requires_grad) for parameter in network.parameters()]
    return sum(count for count, _ in counts), sum(count for count, trained in counts if trained)
