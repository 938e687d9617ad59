"""Which few images of a task are known: what adapters, classifiers and the wishes for generated images go by."""

from typing import Self

from pydantic import Field, model_validator

from models.common.config import Config

Shots = Field(default=None, ge=1, le=1_000_000, description="real images; None: all of the split")


class FewShots(Config):
    """One label against another, and how many images of each are known out of the split "few_shot"."""

    positive: str = Field(default="dcis", min_length=1)
    negative: str = Field(default="benign", min_length=1)
    shots: int | None = Shots  # of the positive label, which is rare
    negative_shots: int | None = Shots
    draw: int = Field(default=0, ge=0, le=1_000_000, description="which sample of so many shots")
    draw_seed: int = Field(default=0, ge=0, description="of all draws: the same for generator and classifier")

    @property
    def labels(self) -> tuple[str, str]:
        """Positive and negative."""
        return self.positive, self.negative

    @model_validator(mode="after")
    def _labels_differ(self) -> Self:
        if self.positive == self.negative:
            raise ValueError(f"positive and negative are both '{self.positive}'; name two labels")
        return self
