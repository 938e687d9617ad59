"""How an ansatz is moved downhill: Adam, or one of the natural gradients that MARCH contains as special cases."""

from typing import Literal, Self

from pydantic import Field, model_validator

from models.common.config import Config

# Where a field is None, the optimizer takes its own value from here (Gu et al. 2025, arXiv 2507.02644, Table S7; the
# same decay of the momentum serves SPRING; Adam's rate is that of the paper's first stage, Table S5).
_MOMENTUM = {"march": 0.95, "spring": 0.95}
_METRIC_DECAY = {"march": 0.995}
_LEARNING_RATE = {"adam": 1e-4}
# Which fields mean nothing to which optimizer.
_UNUSED = {
    "adam": ("momentum", "metric_decay"),
    "minsr": ("momentum", "metric_decay"),
    "spring": ("metric_decay",),
    "march": (),
}


class OptimizerConfig(Config):
    """One update of the parameters theta from one batch of samples; the defaults are MARCH's in the paper.

    minsr: d = O^T (O O^T + damping)^-1 eps                              (Chen and Heyl 2024)
    spring: minsr towards the last update, kept by `momentum`            (Goldshlager et al. 2024)
    march: spring in a metric learnt from earlier updates                (Gu et al. 2025)
    adam: the plain gradient of the energy, by Adam                      (Kingma and Ba 2015)

    Step t, the first being 1, of a natural gradient changes theta by schedule(t) * length * d / |d|, where length is
    the root of `squared_length`, or, where `learning_rate` is set, by schedule(t) * min(learning_rate, length / |d|)
    * d. Adam's rate is schedule(t) * learning_rate. The schedule is the smaller of t / warmup_steps and
    1 / (1 + (t - decay_start) / decay_steps) once t is beyond decay_start.
    """

    kind: Literal["adam", "minsr", "spring", "march"] = "march"
    damping: float = Field(default=1e-3, gt=0.0, le=1e6, description="lambda, added to the diagonal of O D O^T")
    momentum: float | None = Field(
        default=None, ge=0.0, lt=1.0, description="mu, the share of the last update that the next one starts from"
    )
    metric_decay: float | None = Field(
        default=None, ge=0.0, lt=1.0, description="beta, how long march remembers squared updates"
    )
    squared_length: float = Field(
        default=0.1, gt=0.0, le=1e6, description="|change of theta|^2 of a full step: 0.1 makes it 0.316 long"
    )
    learning_rate: float | None = Field(
        default=None, gt=0.0, le=1e3, description="None: natural gradients take the full length at every step"
    )
    warmup_steps: int = Field(default=50, ge=0, le=1_000_000)
    decay_start: int = Field(default=8000, ge=0, le=100_000_000, description="the step from which steps get smaller")
    decay_steps: int | None = Field(
        default=8000, ge=1, le=100_000_000, description="steps in which they halve; None: never"
    )
    clip_factor: float | None = Field(
        default=5.0, gt=0.0, le=1e6, description="local energies beyond so many mean deviations are clipped; None: none"
    )

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> Self:
        for field in _UNUSED[self.kind]:
            if getattr(self, field) is not None:
                raise ValueError(
                    f"{self.kind} has no {field}, found {getattr(self, field)}; leave it out or take march"
                )
        return self

    @property
    def kept_momentum(self) -> float:
        """mu; 0 where the optimizer has none."""
        return _MOMENTUM.get(self.kind, 0.0) if self.momentum is None else self.momentum

    @property
    def kept_metric(self) -> float | None:
        """beta, or None where the metric is flat."""
        return _METRIC_DECAY.get(self.kind) if self.metric_decay is None else self.metric_decay

    @property
    def largest_rate(self) -> float | None:
        """What the update is multiplied with at most; None: whatever gives the full length."""
        return _LEARNING_RATE.get(self.kind) if self.learning_rate is None else self.learning_rate

    def schedule(self, step: int) -> float:
        """The share of a full step that this one takes, the first being 1.

        As in the paper's code (bytedance/laqx, utils/march.py), whose count begins at 0, however, so that its first
        step is none.
        """
        fallen = 1.0
        if self.decay_steps is not None:
            fallen = 1.0 / (1.0 + max(0, step - self.decay_start) / self.decay_steps)
        warmed_up = step / self.warmup_steps if self.warmup_steps else 1.0
        return min(warmed_up, fallen)
