"""Descent at a learning rate that goes up over the warm-up, then stays, or falls along a cosine."""

from __future__ import annotations

import math

from torch import nn

from models.common import descent
from models.common.contract import World
from models.common.optimizer_config import OptimizerConfig


def learning_rate(config: OptimizerConfig, step: int, max_steps: int) -> float:
    """The rate of this step, the first one being 0, of a training of `max_steps`.

    The warm-up goes up in a line and reaches the full rate with its last step. A cosine (Loshchilov and Hutter 2017,
    eq. 5) then goes down to `final_rate`, which it reaches after the last step.
    """
    warmup = round(config.warmup_share * max_steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    if config.schedule == "constant":
        return config.learning_rate
    done = min(1.0, (step - warmup) / max(1, max_steps - warmup))
    return config.learning_rate * (
        config.final_rate + (1.0 - config.final_rate) * 0.5 * (1.0 + math.cos(math.pi * done))
    )


class Descent(descent.Descent):
    """A network's updates over `max_steps`."""

    def __init__(self, network: nn.Module, config: OptimizerConfig, max_steps: int, world: World) -> None:
        super().__init__(network, config, lambda step: learning_rate(config, step, max_steps), world)
