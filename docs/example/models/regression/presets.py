"""The sizes that the regression comes in, smallest first."""

from models.regression.config import FitConfig, PointsData, RegressionConfig


def tiny() -> RegressionConfig:
    """Seconds, for tests."""
    return RegressionConfig(data=PointsData(points=400, held_out=200), fit=FitConfig(max_steps=300, batch_size=64))


def laptop() -> RegressionConfig:
    """The defaults."""
    return RegressionConfig()
