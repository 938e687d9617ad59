"""What a student has to show to take the champion's place."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from models.common.config import Config
from models.common.contest import ContestStage, part_of, require_alike
from models.common.contract import World
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

    def shards(self, inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
        from models.relay import contest

        return contest.shards(self, inputs)

    def process(self, shard: dict[str, Any], world: World) -> Any:
        from models.relay import contest

        return contest.process(self, shard, world)

    def collect(self, parts: list[Any], inputs: Mapping[str, Path], folder: Path) -> None:
        from models.relay import contest

        contest.collect(self, parts, folder)


def _settings(of_task: dict[str, Any]) -> dict[str, Any]:
    """A task's settings; of a user's task not where its file lies, which may be on another machine."""
    return {name: value for name, value in of_task.get("task", {}).items() if name != "source"}
