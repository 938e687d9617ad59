"""How near a generated image may come to a training image, and how that is measured and proven."""

from pydantic import Field

from models.common.config import Config


class PixelDistanceConfig(Config):
    """What two images are allowed to differ in and still be the same one. Brightness and contrast always are."""

    side: int = Field(default=32, ge=8, le=1024, description="larger images are compared at this side")
    blur: float = Field(default=0.7, ge=0.0, le=10.0, description="of both before they are compared, in such pixels")
    shift: int = Field(default=2, ge=0, le=16, description="most, each way, in such pixels")
    flip: bool = Field(default=True, description="left to right")


class PlantConfig(Config):
    """Copies of training images put among the generated ones: a detector that misses them proves nothing."""

    copies: int = Field(default=20, ge=0, le=100_000)
    shift: int = Field(default=2, ge=0, le=64, description="most, each way, in pixels of the image")
    contrast: float = Field(default=0.3, ge=0.0, lt=1.0, description="contrast times 1 - this to 1 + this")
    brightness: float = Field(default=20.0, ge=0.0, le=255.0, description="grey values added or taken off, at most")
    noise: float = Field(default=5.0, ge=0.0, le=255.0, description="standard deviation, in grey values")
    blur: float = Field(default=0.7, ge=0.0, le=10.0, description="of a Gaussian, at most, in pixels")


class PrivacyConfig(Config):
    """The copy detector: its distances, and how often it may be wrong about an image that is no copy."""

    pixels: PixelDistanceConfig = PixelDistanceConfig()
    plant: PlantConfig = PlantConfig()
    false_alarms: float = Field(
        default=0.01, gt=0.0, lt=0.5, description="share of real images nearer than the threshold to another patient's"
    )
    threshold_images: int = Field(
        default=2000, ge=2, le=100_000_000, description="real images, drawn at random, that tell the threshold, at most"
    )
    shown: int = Field(default=8, ge=0, le=1000, description="nearest pairs that are kept for the report")
    at_once: int = Field(default=256, ge=1, le=100_000, description="images compared at once, with as many others")
