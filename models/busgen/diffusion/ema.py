"""The running mean of a training's weights, which denoises better than the last ones do."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from models.busgen.diffusion_config import EmaConfig


def power_exponent(relative_std: float) -> float:
    """gamma of the profile t^gamma whose standard deviation is this share of training (Karras et al. 2024, eq. 126).

    relative_std^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3))
    """
    inverse = relative_std**-2
    roots = np.roots([1.0, 7.0, 16.0 - inverse, 12.0 - inverse])
    return float(roots.real.max())


def kept_share(config: EmaConfig, step: int, steps: int, batch_size: int) -> float:
    """beta: the share of the mean that is kept when the weights after `step` steps enter it, `steps` after the last.

    power: prod (1 - 1/t)^(gamma+1) over these steps (Karras et al. 2024, eq. 127); the first weights are taken whole.
    half_life: 0.5^(images / half-life), with the half-life bounded by a share of the images seen so far, so that a
    short training is not a mean of its start (Karras et al. 2022, training code).
    """
    if config.profile == "power":
        return ((step - steps) / step) ** (power_exponent(config.relative_std) + 1.0)
    half_life = float(config.half_life_images)
    if config.ramp_up is not None:
        half_life = min(half_life, config.ramp_up * step * batch_size)
    return 0.5 ** (steps * batch_size / half_life)


class WeightAverage:
    """The mean of an engine's weights, kept in float32 on the CPU: the same on every rank, under any ZeRO stage."""

    def __init__(self, config: EmaConfig, first: Mapping[str, Tensor], batch_size: int) -> None:
        self.config = config
        self.batch_size = batch_size
        self.mean = {name: value.detach().to("cpu", torch.float32, copy=True) for name, value in first.items()}
        self.steps_done = 0

    def is_due(self, step: int, max_steps: int) -> bool:
        """Whether the weights after this many steps enter the mean; the last ones always do."""
        return step % self.config.every_steps == 0 or step == max_steps

    def take(self, weights: dict[str, Tensor], step: int) -> None:
        """Adds the weights after this many steps."""
        kept = kept_share(self.config, step, step - self.steps_done, self.batch_size)
        for name, mean in self.mean.items():
            mean.lerp_(weights[name], 1.0 - kept)
        self.steps_done = step

    def state_dict(self) -> dict[str, object]:
        return {"mean": self.mean, "steps_done": self.steps_done}

    def load_state_dict(self, state: dict[str, object]) -> None:
        mean, steps_done = state["mean"], state["steps_done"]
        assert isinstance(mean, dict)
        assert isinstance(steps_done, int)
        self.mean = {name: value.clone() for name, value in mean.items()}
        self.steps_done = steps_done
