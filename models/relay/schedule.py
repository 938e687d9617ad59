"""Descent: updates at a learning rate that goes up over the warm-up, is level, then falls from convergence on."""

from typing import Any

import torch
from torch import Tensor, nn

from models.common.contract import LearnerState, World
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


class Descent:
    """A network's updates and how far they have come: what teacher and student do alike."""

    def __init__(self, network: nn.Module, config: OptimizerConfig, max_steps: int, world: World) -> None:
        self.config = config
        self.engine = world.make_engine(
            network, lambda parameters: _make_optimizer(config, parameters), clip_norm=config.clip_norm
        )
        self.convergence = Convergence(config, max_steps)
        self.steps_done = 0

    def update(self, loss: Tensor) -> tuple[float, float]:
        """Takes one step down this loss; returns its learning rate and the gradient's norm."""
        rate = learning_rate(self.config, self.steps_done, self.convergence.decay_from)
        self.engine.set_learning_rate(rate)
        self.engine.backward(loss)
        gradient_norm = self.engine.step()
        self.steps_done += 1
        return rate, gradient_norm

    @property
    def over(self) -> bool:
        return self.convergence.over(self.steps_done)

    def state_dict(self, **more: Any) -> LearnerState:
        """The state, with what else the learner keeps by name."""
        engine = self.engine.state_dict()
        own = {"engine": engine.shared, "steps_done": self.steps_done, "convergence": self.convergence.state_dict()}
        return LearnerState(shared={**own, **more}, own=engine.own)

    def load_state_dict(self, state: LearnerState) -> None:
        self.engine.load_state_dict(LearnerState(shared=state.shared["engine"], own=state.own))
        self.steps_done = state.shared["steps_done"]
        self.convergence.load_state_dict(state.shared["convergence"])


def _make_optimizer(config: OptimizerConfig, parameters: Any) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019) on these parameters."""
    return torch.optim.AdamW(
        parameters,
        lr=config.learning_rate,
        betas=(config.beta_1, config.beta_2),
        weight_decay=config.weight_decay,
    )
