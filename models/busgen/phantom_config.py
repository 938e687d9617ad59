"""What the phantom makes: how many patients of which label, on which scanners, in how many pixels. Without torch."""

from typing import Self

from pydantic import Field, model_validator

from models.busgen.phantom.devices import DEVICES
from models.common.config import Config, unknown


class PhantomConfig(Config):
    """Images of a physics phantom of the breast; what is drawn depends on this and on a seed."""

    side: int = Field(default=128, ge=32, le=512, description="pixels of an edge")
    fov_mm: float = Field(
        default=38.0, ge=28.0, le=80.0, description="width and depth in view, on a device of zoom 1; images are square"
    )
    normal: int = Field(default=0, ge=0, le=1_000_000, description="patients without a lesion")
    benign: int = Field(default=8, ge=0, le=1_000_000, description="patients with a benign lesion")
    malignant: int = Field(default=8, ge=0, le=1_000_000, description="patients with an invasive cancer")
    dcis: int = Field(default=0, ge=0, le=1_000_000, description="patients with ductal carcinoma in situ")
    frames: int = Field(default=1, ge=1, le=100, description="images of each patient, which share its anatomy")
    motion_mm: float = Field(
        default=1.0, ge=0.0, le=5.0, description="standard deviation of the probe's way from frame to frame"
    )
    devices: tuple[str, ...] = Field(default=tuple(DEVICES), min_length=1, description="presets that are drawn from")
    device_class_correlation: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        description="share of patients whose device tells the class: the later half of `devices` is for cancers",
    )
    overlap: float = Field(
        default=0.0, ge=0.0, le=1.0, description="of the subtypes' descriptors: 0 as tabled, 1 all alike"
    )

    @model_validator(mode="after")
    def _devices_are_known_and_different(self) -> Self:
        for name in self.devices:
            if name not in DEVICES:
                raise ValueError(unknown("device", name, list(DEVICES)))
        if len(set(self.devices)) < len(self.devices):
            raise ValueError(f"devices names one twice: {', '.join(self.devices)}")
        if self.device_class_correlation > 0 and len(self.devices) < 2:
            raise ValueError(
                f"device_class_correlation={self.device_class_correlation:g} has no effect on one device; "
                "fits: device_class_correlation=0, or two devices and more"
            )
        return self

    @model_validator(mode="after")
    def _somebody_is_there(self) -> Self:
        if not self.normal + self.benign + self.malignant + self.dcis:
            raise ValueError("there are no patients; fits: at least one of normal, benign, malignant and dcis above 0")
        return self
