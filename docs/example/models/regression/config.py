"""The stages of the regression and what they can be told."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from models.common.contract import DataConfig, Inputs, Learner, MapConfig, StageConfig, WorkloadConfig, World
from models.common.optimizer_config import OptimizerConfig


class PointsData(DataConfig):
    """Points on a plane with noise, some of them held out for the evaluation."""

    points: int = Field(default=4000, ge=10, le=10_000_000)
    held_out: int = Field(default=1000, ge=1, le=1_000_000)
    dimensions: int = Field(default=8, ge=1, le=10_000)
    noise: float = Field(default=0.5, ge=0.0, le=1e3, description="standard deviation of y around the plane")

    def prepare(self, folder: Path) -> None:
        from models.regression.batches import write_points

        write_points(self, folder)


class FitConfig(StageConfig):
    """Slopes and intercept, by AdamW on mini-batches."""

    max_steps: int = Field(default=2000, ge=1, le=10_000_000)
    batch_size: int = Field(default=128, ge=1, le=1_000_000)
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=0.03)

    def build(self, world: World) -> Learner:
        from models.regression.fit import FitLearner

        return FitLearner(self, world)

    def rehearse(self, folder: Path) -> Inputs:
        points = folder / "points"
        points.mkdir()
        PointsData(points=400, held_out=100).prepare(points)
        return Inputs({"points": points})


class EvaluationConfig(MapConfig):
    """Errors on held-out points, beside those of the closed form."""

    most_excess: float = Field(
        default=0.01, gt=0.0, le=1.0, description="gate: error above the closed form's, as a share"
    )

    def shards(self, inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
        return [{"model": "descent"}, {"model": "closed form"}]

    def process(self, shard: dict[str, Any], world: World) -> float:
        from models.regression.evaluate import held_out_error

        return held_out_error(shard["model"], world.inputs)

    def collect(self, parts: list[float], inputs: Mapping[str, Path], folder: Path) -> None:
        from models.regression.evaluate import report_on

        report_on(*parts, self.most_excess).write(folder)


class RegressionConfig(WorkloadConfig):
    """All stages of the workload."""

    name: str = "regression"
    data: PointsData = PointsData()
    fit: FitConfig = FitConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
