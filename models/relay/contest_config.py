"""What a student has to show to take the champion's place."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from models.common.config import Config
from models.common.contest import ContestMethod, ContestStage, part_of, require_alike
from models.relay.data_config import ProblemsData


class PromotionConfig(Config):
    """How far a new student has to lie above the champion, in whole chains, and on how many problems."""

    margin: float = Field(
        default=0.01, ge=0.0, le=1.0, description="share of chains; smaller gains are not worth a change"
    )
    problems_per_length: int = Field(default=512, ge=2, le=100_000, description="fewer where few problems exist")


class RelayContest(PromotionConfig, ContestStage):
    """Whole chains that the two students write for the same problems, of the trained and of the labelled lengths."""

    data: ProblemsData

    def held_out(self) -> ProblemsData:
        return self.data

    def check_versions(self, candidate: Mapping[str, Any], champion: Mapping[str, Any]) -> None:
        one, other = (part_of(version, "data.tasks", list[dict[str, Any]]) for version in (candidate, champion))
        require_alike("the tasks", *([_settings(each) for each in tasks] for tasks in (one, other)))
        for lengths in ("train_lengths", "label_lengths"):
            require_alike(lengths, *([each.get(lengths) for each in tasks] for tasks in (one, other)))

    def method(self) -> ContestMethod:
        from models.relay import contest

        return contest


def _settings(of_task: dict[str, Any]) -> dict[str, Any]:
    """A task's settings; of a user's task not where its file lies, which may be on another machine."""
    return {name: value for name, value in of_task.get("task", {}).items() if name != "source"}
