"""What images a run is made of: where they come from, how they are cut and checked, and which patients are for what."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from models.busgen.phantom_config import PhantomConfig
from models.common.config import Config, unknown
from models.common.contract import DataConfig

Amount = Annotated[
    Annotated[int, Field(ge=1, le=10_000_000)] | Annotated[float, Field(gt=0.0, lt=1.0)],
    Field(union_mode="left_to_right"),
]


class FilesOrigin(Config):
    """Images from a folder, in the layout of a public data set or one of your own."""

    layout: str = Field(min_length=1, description="a reader's name, such as busi, busbra, folder, manifest or dicom")
    folder: Path = Field(description="what the reader's layout begins with")
    source: str = Field(default="", description="what the audit calls it, such as a hospital; else as its reader does")

    @model_validator(mode="after")
    def _has_a_reader(self) -> Self:
        from models.busgen.readers.registry import LAYOUTS  # with numpy, which not every reader of a config needs

        if self.layout not in LAYOUTS:
            raise ValueError(unknown("layout", self.layout, list(LAYOUTS)))
        return self


def _kind(origin: Any) -> str:
    """Which of the origins this is, by the field that only files have."""
    has = origin.__contains__ if isinstance(origin, dict) else lambda field: hasattr(origin, field)
    return "files" if has("layout") or has("folder") else "phantom"


Origin = Annotated[
    Annotated[PhantomConfig, Tag("phantom")] | Annotated[FilesOrigin, Tag("files")], Discriminator(_kind)
]


class SplitConfig(Config):
    """Which patients each part of the work may see. All images of a patient go the same way.

    A rare positive class is in few_shot and test only, so that pretraining has not seen it; the negative class is in
    all four splits, and so is a positive one that is not rare; other classes are in pretrain and validation. An amount
    is a number of patients, or a share of those of the class. A split that the data themselves name is kept.
    """

    positive: str = Field(default="dcis", min_length=1, description="the class to find: a subtype or a pathology")
    negative: str = Field(default="benign", min_length=1, description="the class to tell it from")
    rare: bool = Field(default=True, description="pretraining sees no patient of the positive class")
    validation: Amount = Field(default=0.1, description="patients of each class that pretraining sees")
    few_shot: Amount = Field(default=0.2, description="patients of each class of the task that is in all splits")
    test: Amount = Field(default=0.2, description="likewise")
    rare_few_shot: Amount = Field(default=0.5, description="patients of a rare positive class; the others are tested")
    least_patients: int = Field(default=2, ge=1, le=100_000, description="of each class in each of its splits")

    @model_validator(mode="after")
    def _leaves_something(self) -> Self:
        if self.positive == self.negative:
            raise ValueError(f"positive and negative are both '{self.positive}'; name two classes")
        shares = [amount for amount in (self.validation, self.few_shot, self.test) if isinstance(amount, float)]
        if sum(shares) >= 1.0:
            raise ValueError(
                f"validation, few_shot and test take {sum(shares):g} of the patients; leave a part of 1 for pretrain"
            )
        return self


class BreastImages(DataConfig):
    """Ultrasound images of the breast as squares of one size, audited, and split by patient."""

    origins: Annotated[tuple[Origin, ...], Field(min_length=1)]
    side: int = Field(default=32, ge=8, le=1024, description="pixels of a prepared image's edge")
    crop: Literal["lesion", "whole"] = Field(
        default="lesion",
        description="the square around all lesions, or the largest in the middle where none is known; or all of the "
        "image, with black beside it",
    )
    margin: float = Field(default=0.5, ge=0.0, le=10.0, description="around lesions, in shares of their longer side")
    bad_images: Literal["quarantine", "refuse"] = Field(
        default="quarantine", description="quarantined images are left out, and the audit names each"
    )
    near_duplicates: int = Field(
        default=6, ge=0, le=15, description="bits of 64 in which the hashes of two copies differ at most"
    )
    least_correlation: float = Field(
        default=0.97, gt=0.0, le=1.0, description="of the thumbnails of two copies; no less makes them one"
    )
    alike_frames: Literal["keep", "quarantine"] = Field(
        default="keep", description="near copies of one patient, such as neighbours in a video"
    )
    splits: SplitConfig = SplitConfig()
    processes: int = Field(default=2, ge=1, le=64, description="at most, that make phantoms; no byte depends on it")

    def prepare(self, folder: Path) -> None:
        from models.busgen.images.prepare import prepare

        prepare(self, folder)

    def sources(self) -> tuple[Path, ...]:
        files = [origin for origin in self.origins if isinstance(origin, FilesOrigin)]
        if not files:
            return ()
        from models.busgen.readers.registry import source_files

        return tuple(path for origin in files for path in source_files(origin.layout, origin.folder))
