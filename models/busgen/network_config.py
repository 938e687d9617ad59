"""Which network denoises, and how it is adapted to a few images. Reading these imports no torch."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from models.common.config import Config
from models.common.errors import ConfigError

LARGEST_SIDE = 1024
MOST_TOKENS = 4096  # of a DiT, whose attention sees all of them


class UNetConfig(Config):
    """A convolutional U-Net whose attention stays at low resolution (Ho et al. 2020; Dhariwal & Nichol 2021).

    The defaults spend parameters where a picture is small: one block at full resolution, more further down.
    """

    kind: Literal["unet"] = "unet"
    width: int = Field(default=64, ge=4, le=1024, multiple_of=4, description="channels at full resolution")
    multipliers: tuple[Annotated[int, Field(ge=1, le=16)], ...] = Field(
        default=(1, 2, 4, 8), min_length=1, max_length=8, description="of the width, a level; each halves the side"
    )
    blocks: tuple[Annotated[int, Field(ge=1, le=16)], ...] = Field(
        default=(1, 2, 2, 2), min_length=1, max_length=8, description="residual blocks of each level's encoder"
    )
    most_attention_side: int = Field(
        default=20, ge=0, le=LARGEST_SIDE, description="attention only where the side is at most this; 0 is none"
    )
    head_width: int = Field(
        default=64, ge=0, le=256, description="channels of an attention head at least; 0 is one head of all"
    )
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    recompute: bool = Field(default=False, description="activations anew in the backward pass: less memory, more time")
    layout: Literal["efficient", "official"] = Field(
        default="efficient", description="official: the blocks of BUSGen's release, to compare with; see official_unet"
    )

    @model_validator(mode="after")
    def _each_level_has_blocks(self) -> Self:
        if len(self.blocks) != len(self.multipliers):
            raise ValueError(f"{len(self.blocks)} blocks for {len(self.multipliers)} multipliers; give one a level")
        return self

    def check_side(self, side: int) -> None:
        """Raises ConfigError where an image of this side does not pass through all levels."""
        _check_multiple(side, 2 ** (len(self.multipliers) - 1), f"a U-Net of {len(self.multipliers)} levels")

    def sides(self, side: int) -> tuple[int, ...]:
        """The side at each level, the full one first."""
        return tuple(side >> level for level in range(len(self.multipliers)))


class DiTConfig(Config):
    """A transformer over patches (Peebles & Xie 2023, adaLN-zero): matrix products, which a CPU is fast at."""

    kind: Literal["dit"] = "dit"
    patch: int = Field(default=4, ge=1, le=32, description="side of a patch; each is a token")
    width: int = Field(default=96, ge=8, le=4096)
    layers: int = Field(default=4, ge=1, le=96)
    heads: int = Field(default=3, ge=1, le=64)
    feed_forward: int = Field(default=4, ge=1, le=8, description="inner width of a layer's MLP, in widths")
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    recompute: bool = Field(default=False, description="activations anew in the backward pass: less memory, more time")

    @model_validator(mode="after")
    def _heads_and_positions_fit(self) -> Self:
        if self.width % self.heads or self.width % 4:
            raise ValueError(f"width {self.width} is no multiple of 4 and of the {self.heads} heads")
        return self

    def check_side(self, side: int) -> None:
        """Raises ConfigError where an image of this side cannot be cut into patches, or into too many."""
        _check_multiple(side, self.patch, f"a DiT with patches of {self.patch}")
        if (tokens := (side // self.patch) ** 2) > MOST_TOKENS:
            raise ConfigError(
                f"side {side} has {tokens} patches of {self.patch}\nfits: at most {MOST_TOKENS}\n"
                f"try patch={2 * self.patch}, or a U-Net"
            )


NetworkConfig = Annotated[UNetConfig | DiTConfig, Field(discriminator="kind")]


def official_unet() -> UNetConfig:
    """BUSGen's released network: attention in the encoder at every resolution, and once in the middle.

    47,768,835 parameters on 3 channels with classes ("benign", "malignant"), 19 devices, no descriptors and a box.
    """
    return UNetConfig(
        layout="official",
        width=128,
        multipliers=(1, 2, 2, 2),
        blocks=(2, 2, 2, 2),
        most_attention_side=LARGEST_SIDE,
        head_width=0,
        dropout=0.15,
    )


class LoraConfig(Config):
    """Low-rank adapters on a frozen network (Hu et al. 2021): W + (alpha / rank) B A."""

    rank: int = Field(default=8, ge=1, le=512)
    alpha: float = Field(default=8.0, gt=0.0, le=4096.0, description="the adapter's part is scaled by alpha / rank")
    targets: tuple[str, ...] = Field(
        default=("attention", "mlp", "conditions"),
        min_length=1,
        description=(
            "groups: attention, mlp (a U-Net's convolutions in blocks), modulation, embedding (levels and the layers "
            "that join conditions), conditions (the tables of labels, devices, descriptors), all; or layers' names, "
            "with * for anything"
        ),
    )


def _check_multiple(side: int, divisor: int, whose: str) -> None:
    if side < divisor or side % divisor or side > LARGEST_SIDE:
        nearest = min(max(divisor, round(side / divisor) * divisor), LARGEST_SIDE // divisor * divisor)
        raise ConfigError(
            f"{whose} cannot take images of side {side}\nfits: multiples of {divisor} up to {LARGEST_SIDE}\n"
            f"try side={nearest}"
        )
