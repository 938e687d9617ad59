"""What stops a PPO run that has gone wrong, while its newest checkpoints are still good."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from models.common.contract import Metrics
from models.common.errors import TrainingError
from models.rto.ppo_config import GuardConfig


class Guards:
    """Looks at each rollout; stops the run where the same thing is wrong in `patience` rollouts in a row."""

    def __init__(self, config: GuardConfig) -> None:
        self.config = config
        self.first_scores: list[tuple[float, float]] = []  # mean and standard deviation of the first rollouts
        self.in_a_row: dict[str, int] = {}

    @property
    def are_content(self) -> bool:
        """Whether nothing was wrong with the newest rollout."""
        return not any(self.in_a_row.values())

    def check(self, step: int, rollout: Metrics, score_spread: float) -> None:
        """Raises TrainingError where the run has to stop. `step` counts the updates done before this rollout."""
        _require_finite(step, rollout)
        score = rollout.get("score")
        found = {
            "kl": self._kl_too_large(rollout["kl"]),
            "entropy": self._entropy_too_small(rollout["entropy"]),
            "score": None if score is None else self._score_too_low(score, score_spread),
        }
        for name, message in found.items():
            self.in_a_row[name] = self.in_a_row.get(name, 0) + 1 if message else 0
            if message and self.in_a_row[name] >= self.config.patience:
                raise TrainingError(
                    f"stopped before step {step + 1}, after {self.config.patience} such rollouts in a row: {message}"
                )

    def state_dict(self) -> dict[str, Any]:
        return {"first_scores": list(self.first_scores), "in_a_row": dict(self.in_a_row)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.first_scores = [(mean, spread) for mean, spread in state["first_scores"]]
        self.in_a_row = dict(state["in_a_row"])

    def _kl_too_large(self, kl: float) -> str | None:
        if kl <= self.config.most_kl:
            return None
        return (
            f"the policy is {kl:.4g} nats a response from the reference, and guards.most_kl is "
            f"{self.config.most_kl:g}\n"
            "try a larger reward.beta2, a smaller optimizer.learning_rate or fewer iterations; or, where such a "
            "distance is meant, a larger guards.most_kl"
        )

    def _entropy_too_small(self, entropy: float) -> str | None:
        if entropy >= self.config.least_entropy:
            return None
        return (
            f"the policy has {entropy:.4g} nats of entropy a token left, and guards.least_entropy is "
            f"{self.config.least_entropy:g}: it writes the same each time\n"
            "try a larger reward.beta2 or entropy_weight, or a smaller optimizer.learning_rate; or, where the task has "
            "one answer, a smaller guards.least_entropy"
        )

    def _score_too_low(self, score: float, spread: float) -> str | None:
        """The first rollouts are what later ones are held against: as many as there is patience for."""
        if len(self.first_scores) < self.config.patience:
            self.first_scores.append((score, spread))
            return None
        count = len(self.first_scores)
        mean = sum(first for first, _ in self.first_scores) / count
        deviation = math.sqrt(sum(first**2 for _, first in self.first_scores) / count)
        least = mean - self.config.most_score_drop * deviation
        if score >= least:
            return None
        return (
            f"the mean score is {score:.4g}, and in the first {count} rollouts it was {mean:.4g} with a standard "
            f"deviation of {deviation:.4g}: guards.most_score_drop of {self.config.most_score_drop:g} allows "
            f"{least:.4g}\n"
            "try a smaller reward.beta1 (the token rewards may pull against the score), a smaller "
            "optimizer.learning_rate, or a tighter reward.log_ratio_clip"
        )


def _require_finite(step: int, rollout: Metrics) -> None:
    """Before the update: the weights are still as they were."""
    broken = sorted(name for name, value in rollout.items() if not math.isfinite(value))
    if broken:
        found = ", ".join(f"{name} is {rollout[name]}" for name in broken)
        raise TrainingError(
            f"stopped before step {step + 1}: of the rollout, {found}\n"
            "nothing was learnt from it\n"
            "try a smaller optimizer.learning_rate or critic.optimizer.learning_rate, or a tighter clip_norm"
        )
