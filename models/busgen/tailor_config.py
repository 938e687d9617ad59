"""What is generated more often than it was seen, where lesions are put, and how descriptors make up a diagnosis."""

from typing import Literal, Self

from pydantic import Field, model_validator

from models.busgen.images.descriptors import DESCRIPTORS
from models.common.config import Config


class PlaceConfig(Config):
    """Where a lesion is put, and its outline."""

    bandwidth: float = Field(default=1.0, gt=0.0, le=10.0, description="times Scott's, which the boxes' number gives")
    least_boxes: int = Field(default=10, ge=5, le=10_000, description="a label with fewer takes those of all labels")
    outline: Literal["ellipse", "moved"] = Field(
        default="ellipse", description="of a soft mask; moved: a real lesion's outline, mirrored at random, in the box"
    )
    alike: int = Field(default=5, ge=1, le=1000, description="of so many nearest in aspect one lends its outline")


class TailorConfig(Config):
    """Which cells, that is a label with values of some descriptors, are drawn how often."""

    attributes: tuple[str, ...] = Field(
        default=("margin", "calcifications"), description="descriptors whose values make a cell, with the label"
    )
    weighting: Literal["tailored", "as_seen"] = "tailored"
    rarity: float = Field(default=0.5, ge=0.0, le=2.0, description="tau of (1 / count)^tau; 0: counts do not matter")
    pseudo_count: float = Field(default=1.0, gt=0.0, le=1000.0, description="added to every cell's count")
    error_cases: float = Field(
        default=4.0, gt=0.0, le=1000.0, description="a cell's error is drawn to that of all cells as by so many cases"
    )
    kin_images: float = Field(
        default=8.0,
        ge=0.0,
        le=1e6,
        description="how many images of a label the descriptors of the class that it is a kind of are worth",
    )
    cells: Literal["seen", "all"] = Field(default="seen", description="all: also what no real image shows")
    devices: Literal["even", "as_seen", "open"] = Field(
        default="even", description="even: whatever the label, so that no device tells it"
    )
    place: PlaceConfig = PlaceConfig()

    @model_validator(mode="after")
    def _attributes_are_known(self) -> Self:
        if strange := [name for name in self.attributes if name not in DESCRIPTORS]:
            raise ValueError(f"there is no descriptor {strange}; fits: {', '.join(DESCRIPTORS)}")
        if len(set(self.attributes)) < len(self.attributes):
            raise ValueError(f"attributes names one twice: {', '.join(self.attributes)}")
        return self

    @model_validator(mode="after")
    def _cells_can_be_drawn(self) -> Self:
        if self.cells == "all" and self.weighting == "as_seen":
            raise ValueError("cells='all' draws what no image shows, and weighting='as_seen' never does; choose one")
        return self


class CombinationConfig(Config):
    """The logistic regression that makes a diagnosis of descriptors."""

    ridge: float = Field(default=0.01, gt=0.0, le=100.0, description="weight of |w|^2 / 2 beside the mean loss")
    monotone: bool = Field(default=True, description="no suspicious value may lower the score")
    overall: bool = Field(default=True, description="the classifier's own logit is one of the attributes")
