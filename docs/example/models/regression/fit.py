"""Descent to the plane."""

# B points of this rank   D dimensions

import torch
from torch import Tensor, nn

from models.common.contract import LearnerState, Metrics, World
from models.common.rows import draw_rows
from models.common.warmup_descent import Descent
from models.regression.batches import read_points
from models.regression.config import FitConfig


def squared_error(predicted_B: Tensor, y_B: Tensor) -> Tensor:
    """L = mean (y - x w - b)^2, a scalar in units of y squared."""
    return (predicted_B - y_B).square().mean()


class FitLearner:
    """Trains the plane, one mini-batch a step."""

    def __init__(self, config: FitConfig, world: World) -> None:
        self.config, self.world = config, world
        self.x, self.y = (torch.from_numpy(part) for part in read_points(world.inputs["points"], "train"))
        self.descent = Descent(nn.Linear(self.x.shape[1], 1), config.optimizer, config.max_steps, world)
        self.finished, self.sound = False, True

    def step(self) -> Metrics:
        rows = draw_rows(len(self.x), self.config.batch_size, self.descent.steps_done, (self.world.seed,))
        mine = rows[self.world.share(self.config.batch_size)]  # every rank draws all rows, and takes its part
        predicted_B = self.descent.engine(self.x[mine].to(self.world.device)).squeeze(-1)
        loss = squared_error(predicted_B.float(), self.y[mine].to(self.world.device))
        rate, gradient_norm = self.descent.update(loss)
        return {
            "loss": float(self.world.mean(loss.detach())),
            "learning_rate": rate,
            "gradient_norm": gradient_norm,
        }

    def state_dict(self) -> LearnerState:
        return self.descent.state_dict()

    def load_state_dict(self, state: LearnerState) -> None:
        self.descent.load_state_dict(state)

    def weights(self) -> dict[str, Tensor]:
        return self.descent.engine.weights()
