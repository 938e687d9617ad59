"""How a network is optimised: AdamW and its learning rate, and how much of a batch is worked on at once."""

from typing import Literal

from pydantic import Field

from models.common.config import Config


class OptimizerConfig(Config):
    """AdamW and its learning rate: up over the warm-up, then level, or down along a cosine."""

    learning_rate: float = Field(gt=0.0, le=1.0)
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup_share: float = Field(default=0.03, ge=0.0, le=1.0, description="of all steps")
    final_rate: float = Field(default=0.1, ge=0.0, le=1.0, description="where a cosine ends, as a share of the rate")
    weight_decay: float = Field(default=0.0, ge=0.0, le=1.0)
    beta_1: float = Field(default=0.9, ge=0.0, lt=1.0)
    beta_2: float = Field(default=0.95, ge=0.0, lt=1.0)
    clip_norm: float = Field(default=1.0, gt=0.0, le=1e6)


MicroBatch = Field(
    default=None,
    ge=1,
    le=1_000_000,
    description="rows of a worker at once (pairs, where pairs are learnt from); the gradient is the same",
)
