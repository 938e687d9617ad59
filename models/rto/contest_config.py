"""What a policy has to show to take the champion's place."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from models.common.config import Config
from models.common.contest import ContestMethod, ContestStage, part_of, require_alike
from models.rto.data_config import PreferenceData, PreferenceFiles
from models.rto.reward_config import ScoreConfig

SCORER = "reward_model"  # the part of a version that scores responses


class PromotionConfig(Config):
    """How far a new policy's reward has to lie above the champion's, and on how many responses."""

    margin: float = Field(
        default=0.05,
        ge=0.0,
        le=100.0,
        description="in standard deviations of the champion's rewards; 0.2 is called a small effect (Cohen 1988)",
    )
    prompts: int = Field(
        default=1024, ge=2, le=1_000_000, description="answered by both; of files, as many as there are"
    )


class RtoContest(PromotionConfig, ContestStage):
    """Rewards of what the two policies answer to the same held-out prompts, drawn with the same random numbers.

    The reward is the true one where it is known; else the score, and where reward models give it, the mean of what both
    versions' say: each policy was trained against its own.
    """

    data: PreferenceData
    score: ScoreConfig

    def held_out(self) -> PreferenceData:
        return self.data

    @property
    def reads_reward_models(self) -> bool:
        return isinstance(self.data.task, PreferenceFiles) and self.score.source == "model"

    def check_versions(self, candidate: Mapping[str, Any], champion: Mapping[str, Any]) -> None:
        one, other = (part_of(version, "data", PreferenceData) for version in (candidate, champion))
        require_alike("the task", _task(one), _task(other))
        for name in ("most_response", "least_response"):
            require_alike(f"rto.{name}", *(part_of(version, f"rto.{name}", int) for version in (candidate, champion)))

    def method(self) -> ContestMethod:
        from models.rto import contest

        return contest


def _task(data: PreferenceData) -> dict[str, Any]:
    """What makes two tasks one: of files the tokenizer, of a made-up task all, its hidden numbers' seed included."""
    if isinstance(data.task, PreferenceFiles):
        return {"kind": data.task.kind, "tokenizer": data.task.tokenizer}
    return {"seed": data.seed, **data.task.model_dump(mode="json")}
