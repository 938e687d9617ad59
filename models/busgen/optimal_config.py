"""Settings of the optimal diffusion loss: how it is estimated, and what follows from it for the training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from models.common.config import Config
from models.common.contract import MapConfig, World

Estimator = Literal["exact", "snis", "dol", "cdol"]
Condition = Literal["none", "class", "class_and_device"]


class ScheduleConfig(Config):
    """Levels and weights of the training from the optimal loss (Xu et al. 2025, arXiv 2506.13763).

    The paper names the constants and not their values; these are ours. The loss is in units of the data's total
    variance, so that they suit images of any size.
    """

    scale: float = Field(
        default=0.01, gt=0.0, le=1e6, description="a: what the inverse optimal loss weighs beside the bump"
    )
    most_weight: float = Field(default=100.0, gt=0.0, le=1e9, description="w*: the inverse optimal loss ends here")
    bump_mean: float = Field(default=-1.2, ge=-20.0, le=20.0, description="mu: of log s, below the critical level")
    bump_width: float = Field(default=1.2, gt=0.0, le=20.0, description="varsigma: of log s")
    floor: float = Field(
        default=0.2, gt=0.0, le=1.0, description="share of the levels that is drawn evenly in log s, whatever the gap"
    )
    bins: int = Field(default=24, ge=2, le=10_000, description="of log s, each with a running loss")
    memory: float = Field(
        default=64.0, ge=1.0, le=1e9, description="losses of a bin that its running mean looks back upon"
    )


class MemorisationConfig(Config):
    """When a generator remembers its images instead of their distribution."""

    most: float = Field(default=0.1, ge=0.0, le=1.0, description="of the meter: 0 none, 1 perfect recall")
    errors: float = Field(default=2.0, ge=0.0, le=10.0, description="standard errors by which it has to be exceeded")


class OptimalLossConfig(Config):
    """The smallest loss that any network can have on these images, level by level."""

    estimator: Estimator = Field(
        default="exact", description="exact takes all images into the posterior; the others a random subset"
    )
    draws: int = Field(default=2000, ge=2, le=100_000_000, description="noisy images at each level")
    levels: int = Field(default=24, ge=2, le=10_000, description="on an even grid of log s")
    s_min: float = Field(default=0.01, gt=0.0, le=1e6)
    s_max: float = Field(default=80.0, gt=0.0, le=1e6)
    condition: Condition = Field(
        default="class", description="what the posterior is restricted to for the conditional loss"
    )
    critical_share: float = Field(
        default=1e-3, gt=0.0, lt=1.0, description="of the total variance: a loss below it counts as zero"
    )
    subset: int = Field(default=2000, ge=2, le=100_000_000, description="L: images in the posterior, where not exact")
    subset_count: int = Field(default=16, ge=2, le=100_000, description="different subsets; the error is from these")
    c_multiple: float | None = Field(
        default=4.0, gt=0.0, le=1e6, description="of N/L: C, by which cDOL divides the own image; None: calibrated"
    )
    calibration_images: int = Field(
        default=0, ge=0, le=1_000_000, description="on which cDOL is compared with exact; 0 leaves it out"
    )
    spectrum_images: int = Field(
        default=4096, ge=0, le=100_000, description="most images or pixels, the smaller, for the bound by variances"
    )
    memory_gib: float = Field(default=1.0, gt=0.0, le=10_000.0, description="of one shard, beyond the images read")
    levels_at_once: int = Field(default=8, ge=1, le=10_000, description="of a shard")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.s_min >= self.s_max:
            raise ValueError(f"s_min={self.s_min:g} is not below s_max={self.s_max:g}")
        if self.c_multiple is None and not self.calibration_images:
            raise ValueError("c_multiple=None is calibrated on calibration_images; give it some, or set c_multiple=4")
        if self.estimator != "exact" and self.draws < 2 * self.subset_count:
            raise ValueError(f"draws={self.draws} leaves a subset fewer than 2; fits: at least {2 * self.subset_count}")
        return self


class OptimalLossStage(OptimalLossConfig, MapConfig):
    """The stage that measures the optimal loss of the images to train with.

    Inputs: images, of which it reads the split "pretrain".
    """

    flips: bool = Field(default=False, description="images count with their mirror images, as where training flips")
    classes: tuple[str, ...] = Field(
        default=("normal", "benign", "malignant"), description="pathologies, and subtypes told from them"
    )
    condition_dropout: float = Field(default=0.1, ge=0.0, le=1.0, description="share of steps without condition")

    @model_validator(mode="after")
    def _classes_are_there(self) -> Self:
        if self.condition != "none" and not self.classes:
            raise ValueError("condition needs classes; set condition='none' or name them")
        return self

    def shards(self, inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
        from models.busgen.optimal import measurement

        return measurement.shards(self)

    def process(self, shard: dict[str, Any], world: World) -> Any:
        from models.busgen.optimal import measurement

        return measurement.process(self, shard, world)

    def collect(self, parts: list[Any], inputs: Mapping[str, Path], folder: Path) -> None:
        from models.busgen.optimal import measurement

        measurement.collect(self, parts, folder)
