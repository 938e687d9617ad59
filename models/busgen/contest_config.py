"""What a classifier has to show for its version to take the champion's place."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from models.busgen.data_config import BreastImages, FilesOrigin, SplitConfig
from models.busgen.statistics_config import IntervalConfig
from models.common.config import Config
from models.common.contest import ContestMethod, ContestStage, part_of, require_alike


class PromotionConfig(Config):
    """How far a new version's diagnosis has to lie above the champion's, and on how many new phantoms."""

    margin: float = Field(default=0.01, ge=0.0, le=1.0, description="of the area under the ROC curve")
    patients: int = Field(
        default=400, ge=2, le=1_000_000, description="new phantoms of each label; of files it is the test split"
    )


class BusgenContest(PromotionConfig, ContestStage):
    """The diagnosis by the two published classifiers on the same images.

    Of phantoms alone these are new ones; where there are files, those of the test split, which neither saw if the data
    are the same. New patients move few of the others into another split; one that comes into the test from elsewhere
    is to the champion's advantage.
    """

    data: BreastImages
    intervals: IntervalConfig

    @property
    def has_files(self) -> bool:
        return any(isinstance(origin, FilesOrigin) for origin in self.data.origins)

    def held_out(self) -> BreastImages | None:
        return self.data if self.has_files else None

    def check_versions(self, candidate: Mapping[str, Any], champion: Mapping[str, Any]) -> None:
        versions = candidate, champion
        for name in ("positive", "negative"):
            splits = [part_of(version, "data.splits", SplitConfig) for version in versions]
            require_alike(f"the {name} label", *(getattr(each, name) for each in splits))
        for name, kind in (("side", int), ("crop", str), ("margin", float)):
            require_alike(f"data.{name}", *(part_of(version, f"data.{name}", kind) for version in versions))

    def method(self) -> ContestMethod:
        from models.busgen import contest

        return contest
