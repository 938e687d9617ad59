"""Which conditions a generator knows."""

from typing import Literal, Self

from pydantic import Field, model_validator

from models.busgen.images.descriptors import DESCRIPTORS
from models.common.config import Config


class ConditionsConfig(Config):
    """The words of the conditions; each one's number is its place here, from 1, and 0 leaves it open."""

    classes: tuple[str, ...] = Field(
        default=("normal", "benign", "malignant"), min_length=1, description="pathologies, and subtypes told from them"
    )
    devices: tuple[str, ...] = ()
    descriptors: tuple[str, ...] = Field(default=tuple(DESCRIPTORS), description="of the BI-RADS lexicon")
    mask: Literal["none", "box", "soft"] = Field(default="box", description="how the lesion's place is given")

    @model_validator(mode="after")
    def _names_are_known_and_different(self) -> Self:
        for what in ("classes", "devices", "descriptors"):
            names = getattr(self, what)
            if len(set(names)) < len(names):
                raise ValueError(f"{what} names one twice: {', '.join(names)}")
        if strange := set(self.descriptors) - set(DESCRIPTORS):
            raise ValueError(f"there is no descriptor {sorted(strange)}; fits: {', '.join(DESCRIPTORS)}")
        return self
