"""How large a transformer is, how it knows positions, and how it is optimised."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, model_validator

from models.common.config import Config

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positions = Literal["rope", "rope+alibi", "alibi", "nope", "fire"]


class NetworkConfig(Config):
    """The size of a transformer, and its positions; the paper has rotary ones only."""

    layers: int = Field(default=3, ge=1, le=48)
    width: int = Field(default=256, ge=4, le=8192, description="a multiple of twice the heads")
    heads: int = Field(default=4, ge=1, le=64)
    feed_forward_width: int = Field(default=1024, ge=4, le=32_768)
    dropout: float = Field(
        default=0.0, ge=0.0, lt=1.0, description="of attention's and the MLP's output; 0.1 in table 1"
    )
    positions: Positions = Field(
        default="rope", description="rotary, linear biases, both, none (a decoder's mask tells them), learnt biases"
    )
    rope_base: float = Field(default=10_000.0, ge=2.0, le=1e7, description="larger turns slower")
    alibi_slopes: tuple[Annotated[float, Field(ge=0.0, le=100.0)], ...] = Field(
        default=(), max_length=64, description="one for each head; none: 2^(-8/H), 2^(-16/H), .. as in the ALiBi paper"
    )

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % (2 * self.heads):
            fits = self.width - self.width % (2 * self.heads) + 2 * self.heads
            raise ValueError(f"width {self.width} is no multiple of twice the {self.heads} heads; try width={fits}")
        return self

    @model_validator(mode="after")
    def _a_slope_for_each_head(self) -> Self:
        if self.alibi_slopes and "alibi" not in self.positions:
            raise ValueError(
                f"alibi_slopes with positions={self.positions}; leave them out, or take rope+alibi or alibi"
            )
        if self.alibi_slopes and len(self.alibi_slopes) != self.heads:
            raise ValueError(f"{len(self.alibi_slopes)} alibi_slopes for {self.heads} heads; give one for each")
        return self

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def slopes(self) -> tuple[float, ...]:
        """The slope of each head's linear bias (Press et al. 2022, section 3), or nothing where there is none."""
        if "alibi" not in self.positions:
            return ()
        return self.alibi_slopes or tuple(2.0 ** (-8.0 * (head + 1) / self.heads) for head in range(self.heads))

    def block_parameters(self) -> int:
        """Numbers in the blocks: attention, MLP and their norms."""
        attention = 4 * self.width * self.width + 4 * self.width
        feed_forward = 2 * self.width * self.feed_forward_width + self.width + self.feed_forward_width
        return self.layers * (attention + feed_forward + 4 * self.width)


class OptimizerConfig(Config):
    """AdamW and its learning rate: up over the warm-up, level, down in a line over the last steps."""

    learning_rate: float = Field(default=5e-4, gt=0.0, le=1.0)
    warmup_steps: int = Field(default=50, ge=0, le=1_000_000)
    decay_steps: int = Field(default=100, ge=0, le=10_000_000, description="the last steps, over which the rate falls")
    final_rate: Share = Field(default=0.02, description="where the fall ends, as a share of the learning rate")
    weight_decay: NonNegativeFloat = Field(default=0.01, le=1.0)
    beta_1: float = Field(default=0.9, ge=0.0, lt=1.0)
    beta_2: float = Field(default=0.98, ge=0.0, lt=1.0)
    clip_norm: float = Field(default=1.0, gt=0.0, le=1e6)
    converged_loss: NonNegativeFloat | None = Field(
        default=None,
        le=100.0,
        description="at this loss on the longest training problems the learning rate begins to fall; None: at the end",
    )
    converged_window: int = Field(default=10, ge=1, le=10_000, description="batches over which that loss is taken")


class MixConfig(Config):
    """What a batch is made of. One draw: problems of one task and one length, so that nothing is padding."""

    draws: int = Field(
        default=1, ge=1, le=100_000, description="a batch holds problems of so many draws of task and length"
    )
    buckets: int = Field(
        default=1, ge=1, le=1024, description="its rows go through the network in so many parts, of like width each"
    )

    @model_validator(mode="after")
    def _buckets_come_of_draws(self) -> Self:
        if self.buckets > 1 and self.draws == 1:
            raise ValueError(f"{self.buckets} buckets for one draw, whose rows are all alike; try buckets=1")
        return self
