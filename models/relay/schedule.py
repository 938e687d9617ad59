"""The learning rate: up over the warm-up, level, then down in a line, from convergence on or near the end."""

from typing import Any

import torch

from models.relay.config import OptimizerConfig


def learning_rate(config: OptimizerConfig, step: int, decay_from: int) -> float:
    """The rate of this step, the first one being 0, where the decay begins at step `decay_from`."""
    warmed_up = min(1.0, (step + 1) / (config.warmup_steps + 1))
    fallen = min(1.0, max(0, step - decay_from + 1) / config.decay_steps) if config.decay_steps else 0.0
    return config.learning_rate * warmed_up * (1.0 - (1.0 - config.final_rate) * fallen)


class Convergence:
    """When the learning rate begins to fall: once the longest training problems are learnt, or near the end.

    Students learn to copy by a sudden drop of the loss, at some seeds twice as late as at others, so that one count
    of steps is too short for these and too long for those.
    """

    def __init__(self, config: OptimizerConfig, max_steps: int) -> None:
        self.loss = config.converged_loss
        self.window = config.converged_window
        self.decay_steps = config.decay_steps
        self.decay_from = max(0, max_steps - config.decay_steps)
        self.recent: list[float] = []

    def take(self, loss: float, steps_done: int) -> None:
        """Takes in the loss of one more batch of the longest training problems."""
        self.recent = [*self.recent, loss][-self.window :]
        enough = len(self.recent) == self.window
        if self.loss is not None and enough and sum(self.recent) / self.window < self.loss:
            self.decay_from = min(self.decay_from, steps_done)

    def over(self, steps_done: int) -> bool:
        """Whether the learning rate has fallen to its end."""
        return steps_done >= self.decay_from + self.decay_steps

    def state_dict(self) -> dict[str, Any]:
        return {"decay_from": self.decay_from, "recent": list(self.recent)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.decay_from = state["decay_from"]
        self.recent = list(state["recent"])


def make_optimizer(config: OptimizerConfig, parameters: Any) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019) on these parameters."""
    return torch.optim.AdamW(
        parameters,
        lr=config.learning_rate,
        betas=(config.beta_1, config.beta_2),
        weight_decay=config.weight_decay,
    )
