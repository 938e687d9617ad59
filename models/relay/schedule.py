"""Descent: updates at a learning rate that goes up over the warm-up, is level, then falls from convergence on."""

from typing import Any

from torch import nn

from models.common import descent
from models.common.contract import LearnerState, World
from models.relay.network_config import OptimizerConfig


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


class Descent(descent.Descent):
    """A network's updates up to convergence: what teacher and student do alike."""

    def __init__(self, network: nn.Module, config: OptimizerConfig, max_steps: int, world: World) -> None:
        self.convergence = Convergence(config, max_steps)
        super().__init__(network, config, lambda step: learning_rate(config, step, self.convergence.decay_from), world)

    @property
    def over(self) -> bool:
        return self.convergence.over(self.steps_done)

    def state_dict(self, **more: Any) -> LearnerState:
        return super().state_dict(convergence=self.convergence.state_dict(), **more)

    def load_state_dict(self, state: LearnerState) -> None:
        super().load_state_dict(state)
        self.convergence.load_state_dict(state.shared["convergence"])
