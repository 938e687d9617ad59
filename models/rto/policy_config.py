"""Which network: the project's own decoder, or a causal language model of `transformers`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from models.common.config import Config


class DecoderConfig(Config):
    """A decoder of Llama's shape with weights of its own (`decoder.py`); runs anywhere."""

    kind: Literal["decoder"] = "decoder"
    layers: int = Field(default=2, ge=1, le=96)
    width: int = Field(default=64, ge=4, le=16_384, description="a multiple of twice the heads")
    heads: int = Field(default=4, ge=1, le=128)
    feed_forward_width: int = Field(default=172, ge=4, le=65_536)
    rope_base: float = Field(default=10_000.0, ge=2.0, le=1e7, description="rotary positions; larger turns slower")
    tied: bool = Field(default=False, description="the head reads with the embedding's weights")
    context: int = Field(default=1024, ge=2, le=131_072, description="most tokens of prompt and response together")

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % (2 * self.heads):
            fits = self.width - self.width % (2 * self.heads) + 2 * self.heads
            raise ValueError(f"width {self.width} is no multiple of twice the {self.heads} heads; try width={fits}")
        return self


class LoraConfig(Config):
    """Low-rank adapters (Hu et al. 2021) on a frozen base; policy, reference and DPO policy then share the base."""

    rank: int = Field(default=16, ge=1, le=1024)
    alpha: float = Field(default=32.0, gt=0.0, le=4096.0, description="the adapter's output is scaled by alpha / rank")
    targets: tuple[str, ...] | Literal["all-linear"] = Field(
        default="all-linear", description="names of the layers that are adapted"
    )


class HuggingFaceConfig(Config):
    """A causal language model that `transformers` can load; needs the extra `orchard[llm]`."""

    kind: Literal["huggingface"] = "huggingface"
    model: str = Field(min_length=1, description="a folder, or a name on the Hub")
    revision: str | None = None
    weights: Literal["pretrained", "random"] = Field(
        default="pretrained", description="random: of the model's shape only, to try a pipeline without a download"
    )
    lora: LoraConfig | None = None
    recompute: bool = Field(default=False, description="activations anew in the backward pass: less memory, more time")
    context: int = Field(default=2048, ge=2, le=131_072, description="most tokens of prompt and response together")


PolicyConfig = Annotated[DecoderConfig | HuggingFaceConfig, Field(discriminator="kind")]
