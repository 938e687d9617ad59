"""The part of a natural gradient that is elementwise: metric, momentum and the length of the step.

As a `torch.optim.Optimizer` it holds its state wherever the parameters are, so that ZeRO can spread it.
"""

# P parameters, as many as one tensor has

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_METRIC_FLOOR = 1e-3


def normalised_variance(variance_P: Tensor, scale: float) -> Tensor:
    """v, scaled so that over all parameters its root mean square is 1, which keeps lambda's meaning.

    scale = sqrt(P) / |v|, over all parameters (bytedance/laqx, utils/march.py; not in the paper). There v starts at
    1e-3 everywhere and so is 1 once it is normalised.
    """
    return variance_P * scale


def march_metric(variance_P: Tensor) -> Tensor:
    """D = 1 / (sqrt(v) + 1e-3), the inverse metric by which O's columns count.

    Gu et al. 2025 (arXiv 2507.02644), S23 has diag(v)^(-1/2); the floor is that of their code, bytedance/laqx,
    utils/march.py. v is to be normalised.
    """
    return 1.0 / (variance_P.sqrt() + _METRIC_FLOOR)


def march_direction(gradient_P: Tensor, metric_P: Tensor, momentum_P: Tensor) -> Tensor:
    """d = D O^T x + phi, where x solves the samples' equations (Gu et al. 2025, S23).

    gradient_P is O^T x. With D = 1 that is SPRING (Goldshlager et al. 2024, arXiv 2401.10190), with phi = 0 as well
    MinSR (Chen and Heyl 2024, arXiv 2302.01941).
    """
    return metric_P * gradient_P + momentum_P


def updated_variance(variance_P: Tensor, direction_P: Tensor, momentum_P: Tensor, decay: float) -> Tensor:
    """v' = beta v + (d - phi)^2, where v is normalised.

    As the authors' code has it (bytedance/laqx, utils/march.py). Unlike Gu et al. 2025, where it is the difference to
    the last update: phi is mu times that.
    """
    return decay * variance_P + (direction_P - momentum_P).square()


def step_scale(direction_norm: float, length: float, largest_rate: float | None) -> float:
    """What d is multiplied with: length / |d|, or the largest rate where that is less.

    No rate is the authors' code (every step has the full length); a rate of 1 is the rule of arXiv 2607.14875. 0
    where d is 0.
    """
    full = length / direction_norm if direction_norm else 0.0
    return full if largest_rate is None else min(largest_rate, full)


class NaturalStep(torch.optim.Optimizer):
    """theta += scale * d, with d from the gradient O^T x that the backward pass left.

    lr: the length |scale * d| of a full step. State by parameter: `phi`, the momentum mu * d, and `v`, which the
    metric is made of; each is there only if the rule has it. Neither knows of the scale.
    total: the sum over ranks, for what ZeRO has spread.
    """

    def __init__(
        self,
        parameters: Any,
        *,
        momentum: float,
        variance_decay: float | None,
        rate_per_length: float | None,
        total: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__(parameters, {"lr": 1.0})
        self.momentum = momentum
        self.variance_decay = variance_decay
        self.rate_per_length = rate_per_length
        self.total = total
        self.given = [parameter for group in self.param_groups for parameter in group["params"]]
        self.variance_scale = 1.0  # set before each step: it takes the v of all parameters
        self.last_length = 0.0

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        assert closure is None, "the direction is solved for once"
        (group,) = self.param_groups
        held = [parameter for parameter in group["params"] if parameter.grad is not None]
        directions = [self._direction(parameter) for parameter in held]
        norm = self._norm(directions)
        length = group["lr"]
        largest_rate = None if self.rate_per_length is None else self.rate_per_length * length
        scale = step_scale(norm, length, largest_rate)
        for parameter, direction in zip(held, directions, strict=True):
            parameter.add_(direction, alpha=scale)
        self.last_length = scale * norm

    def _direction(self, parameter: Tensor) -> Tensor:
        """d of one parameter; its phi and v become those of the next step."""
        assert parameter.grad is not None
        state = self.state[parameter]
        momentum = state.get("phi", torch.zeros_like(parameter))
        flat = torch.ones_like(parameter)
        if self.variance_decay is None:
            direction = march_direction(parameter.grad, flat, momentum)
        else:
            variance = normalised_variance(state["v"], self.variance_scale) if "v" in state else flat
            direction = march_direction(parameter.grad, march_metric(variance), momentum)
            state["v"] = updated_variance(variance, direction, momentum, self.variance_decay)
        if self.momentum:
            state["phi"] = self.momentum * direction
        return direction

    def _norm(self, directions: list[Tensor]) -> float:
        """|d| over all parameters, wherever they are; in float64."""
        squared = torch.stack([torch.linalg.vector_norm(d, dtype=torch.float64).square() for d in directions]).sum()
        held = [parameter for group in self.param_groups for parameter in group["params"]]
        spread = any(mine is not whole for mine, whole in zip(held, self.given, strict=False))
        return float((self.total(squared) if spread else squared).sqrt())
