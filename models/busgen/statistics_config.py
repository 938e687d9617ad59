"""How diagnoses and sets of images are measured."""

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from models.common.config import Config


class IntervalConfig(Config):
    """How a diagnosis is measured, and the errors of it."""

    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    resamples: int = Field(default=2000, ge=100, description="of the bootstrap over patients")
    patient_score: Literal["mean", "max"] = Field(default="mean", description="of the scores of a patient's images")
    specificity: float = Field(default=0.9, gt=0.0, lt=1.0, description="at which the sensitivity is told")
    sensitivity: float = Field(default=0.9, gt=0.0, lt=1.0, description="at which the specificity is told")
    reliability_bins: PositiveInt = 10
    equal_bins: Literal["width", "count"] = Field(default="width", description="what reliability bins share")


class DistancesConfig(Config):
    """How far a set of generated images is from a set of real ones."""

    standardise: bool = Field(
        default=True, description="divide each feature by its deviation over the real images, as units are arbitrary"
    )
    repeats: int = Field(default=10, ge=2, description="random halves of the real images, for the floor")
    neighbours: PositiveInt = Field(default=5, description="of precision, recall, density and coverage")
    kernel_blocks: int = Field(default=10, ge=2, description="disjoint parts whose spread is the kernel's error")
    kernel_degree: PositiveInt = 3
    extrapolation_sizes: int = Field(default=8, ge=3, description="numbers of images from which n -> infinity is told")


class ClassicalConfig(Config):
    """The classical features of an ultrasound image."""

    dynamic_range_db: PositiveFloat = Field(default=60.0, le=200.0, description="that grey 0 to 255 spans, assumed")
    patch: int = Field(default=8, ge=2, description="side of the patches on which speckle is measured, in pixels")
    grey_levels: int = Field(default=16, ge=2, le=256, description="of the co-occurrence matrix")
    spectrum_bins: int = Field(default=8, ge=1, description="rings of the power spectrum, up to half a cycle a pixel")
    ring: float = Field(default=0.125, gt=0.0, lt=1.0, description="width around a lesion, in shares of the image")


class RandomNetworkConfig(Config):
    """A convolutional network that is never trained."""

    seed: int = Field(default=0, ge=0)
    channels: tuple[PositiveInt, ...] = Field(default=(16, 32, 64), min_length=1, description="each at half the size")
    images_at_once: PositiveInt = 128
