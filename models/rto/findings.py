"""What an evaluation found, and the numbers of it that `--json` prints."""

# S responses

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.rto.comparison import Seed, Training, common_kl, over_seeds, reward_at_kl, rollouts_to_reach
from models.rto.measurement import Measured
from models.rto.samples import ShownResponse
from models.rto.study import Study

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PolicyFound:
    """What was found on one policy's responses.

    seed: of the run. shown: its first responses. dpo_scale: of the start, how much DPO's return varies from response
    to response, as a share of how much the score's part does.
    """

    seed: int
    measured: Measured
    shown: list[ShownResponse]
    dpo_scale: float | None = None


@dataclass(frozen=True)
class Found:
    """All that the report is made of. measured and shown: by policy, "start", "dpo" and the arms.

    truth: what the true reward counts; None where nobody knows it and the score stands in its place.
    """

    run: Seed
    measured: dict[str, Measured]
    shown: dict[str, list[ShownResponse]]
    truth: str | None
    dpo_scale: float | None
    study: Study = field(default_factory=lambda: Study([], []))

    @property
    def reward(self) -> str:
        return "score" if self.truth is None else "true reward"

    @property
    def seeds(self) -> list[Seed]:
        """This run, and the further seeds of the study."""
        return [self.run, *self.study.seeds]

    def gain(self, policy: str, over: str) -> tuple[float, float]:
        """How much more reward a policy earns, and the standard error, prompt by prompt."""
        more_S = self.measured[policy].columns_S["reward"] - self.measured[over].columns_S["reward"]
        return float(more_S.mean()), float(more_S.std(ddof=1) / np.sqrt(len(more_S)))


def make_metrics(found: Found) -> dict[str, Any]:
    """What `--json` prints."""
    run = found.run
    return {
        "reward": found.reward,
        "start": _policy_metrics(run.start),
        "dpo": {
            **_policy_metrics(run.dpo),
            "preference_accuracy": run.pairs["right"]["dpo"],
            "true_order_accuracy": (run.pairs["true_right"] or {}).get("dpo"),
            "return_spread_over_score_spread": found.dpo_scale,
        },
        "reward_model": {
            "preference_accuracy": run.pairs["right"].get("reward_model"),
            "true_order_accuracy": (run.pairs["true_right"] or {}).get("reward_model"),
        },
        "arms": {name: _arm_metrics(arm) for name, arm in run.arms.items()},
        **reached(run),
        "equal_kl": equal_kl(run),
        "study": _study_metrics(found.seeds),
        "length_trap": [
            {"seed": seed.seed, "start": _policy_metrics(seed.start), "dpo": _policy_metrics(seed.dpo)}
            | {"arms": {name: _arm_metrics(arm) for name, arm in seed.arms.items()}}
            for seed in found.study.length_trap
        ],
    }


def _policy_metrics(means: Mapping[str, float]) -> dict[str, Any]:
    names = {"true_reward": "reward", "kl": "kl", "kl_k1": "log_ratio", "length": "length", "score": "score"}
    found = {told: means.get(name) for told, name in names.items()}
    return {**found, **{f"{told}_error": means.get(f"{name}_error") for told, name in names.items()},
            "truncated": means.get("truncated")}  # fmt: skip


def _arm_metrics(arm: Training) -> dict[str, Any]:
    return {
        **_policy_metrics(arm.final),
        "rollouts": int(arm.rollouts[-1]),
        "curve": arm.points,
        "area": arm.area,
        "over_optimised": arm.is_over_optimised,
        "stopped": arm.stopped,
    }


def reached(seed: Seed) -> dict[str, float | None]:
    """Rollouts that RTO needs to be where PPO ends, and where PPO was at its best, as shares of PPO's."""
    if "ppo" not in seed.arms:
        return {"rollouts_to_ppo_final": None, "rollouts_to_ppo_best": None}
    rto, ppo = seed.arms["rto"], seed.arms["ppo"]
    return {
        "rollouts_to_ppo_final": rollouts_to_reach(rto, ppo),
        "rollouts_to_ppo_best": rollouts_to_reach(rto, ppo, best=True),
    }


def equal_kl(seed: Seed) -> dict[str, Any]:
    """The reward of each arm at the largest divergence that all came to."""
    kl = common_kl(seed.arms)
    return {"kl": kl, "true_reward": {name: reward_at_kl(arm, kl) for name, arm in seed.arms.items()}}


def _study_metrics(seeds: list[Seed]) -> dict[str, Any]:
    """Every number over seeds, each seed's own beside."""
    names = list(seeds[0].arms)
    by_seed = [
        {
            "seed": seed.seed,
            **reached(seed),
            "dpo": _policy_metrics(seed.dpo)["true_reward"],
            "pairs": seed.pairs,
            "arms": {name: _arm_metrics(arm) for name, arm in seed.arms.items()},
            "equal_kl": equal_kl(seed),
        }
        for seed in seeds
    ]
    return {
        "seeds": len(seeds),
        "by_seed": by_seed,
        "arms": {
            name: {
                "area": over_seeds([seed.arms[name].area for seed in seeds]),
                "true_reward": over_seeds([seed.arms[name].final.get("reward") for seed in seeds]),
                "kl": over_seeds([seed.arms[name].final.get("kl") for seed in seeds]),
                "over_optimised": sum(seed.arms[name].is_over_optimised for seed in seeds),
                "stopped": sum(bool(seed.arms[name].stopped) for seed in seeds),
            }
            for name in names
        },
        **{
            key: over_seeds([reached(seed)[key] for seed in seeds])
            for key in ("rollouts_to_ppo_final", "rollouts_to_ppo_best")
        },
        "rto_area_above": {
            other: sum(seed.arms["rto"].area > seed.arms[other].area for seed in seeds)
            for other in ("ppo", "ddpo")
            if other in names
        },
    }
