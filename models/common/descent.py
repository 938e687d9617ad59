"""Descent: AdamW updates of a network at a learning rate that a workload's own schedule gives for each step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from models.common.contract import LearnerState, World


class AdamWSettings(Protocol):
    """What a workload's config says of AdamW; the learning rate comes from its schedule."""

    @property
    def learning_rate(self) -> float: ...

    @property
    def weight_decay(self) -> float: ...

    @property
    def beta_1(self) -> float: ...

    @property
    def beta_2(self) -> float: ...

    @property
    def clip_norm(self) -> float: ...


class Descent:
    """A network's updates and how far they have come.

    learning_rate: of a step, the first one being 0.
    """

    def __init__(
        self, network: nn.Module, settings: AdamWSettings, learning_rate: Callable[[int], float], world: World
    ) -> None:
        self.engine = world.make_engine(
            network, lambda parameters: _make_optimizer(settings, parameters), clip_norm=settings.clip_norm
        )
        self.learning_rate = learning_rate
        self.steps_done = 0

    def update(self, losses: Tensor | Iterable[Tensor], pieces: int = 1) -> tuple[float, float]:
        """Takes one step down this loss, or down the sum of its pieces; returns the learning rate and gradient's norm.

        losses: where the batch is too large at once, an iterator that computes the loss of a piece when it is asked
        for it; each piece's activations are gone before the next one's are made. It is run to its end.
        pieces: how many there are, the same on every rank.
        """
        rate = self.learning_rate(self.steps_done)
        self.engine.set_learning_rate(rate)
        taken = 0
        for loss in [losses] if isinstance(losses, Tensor) else losses:
            taken += 1
            self.engine.backward(loss, last=taken == pieces)
        assert taken == pieces, f"{taken} pieces of a batch came, where {pieces} were announced"
        gradient_norm = self.engine.step()
        self.steps_done += 1
        return rate, gradient_norm

    def state_dict(self, **more: Any) -> LearnerState:
        """The state, with what else the learner keeps by name."""
        return LearnerState.joined({"engine": self.engine.state_dict()}, steps_done=self.steps_done, **more)

    def load_state_dict(self, state: LearnerState) -> None:
        self.engine.load_state_dict(state.part("engine"))
        self.steps_done = state.shared["steps_done"]


def _make_optimizer(settings: AdamWSettings, parameters: Any) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019) on these parameters, each in one pass over memory."""
    return torch.optim.AdamW(
        parameters,
        lr=settings.learning_rate,
        betas=(settings.beta_1, settings.beta_2),
        weight_decay=settings.weight_decay,
        fused=True,
    )
