"""Trainings beside each other: area under the curve, when one reaches another's end, reward at equal divergence."""

# I rollouts of a training, one an iteration, and its end

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.common.metrics import mean_interval

Array = NDArray[np.float64]

AT_THE_END = ("reward", "kl", "length")  # measured of the last policy too
# What else is kept of a training, by the learner's name for it.
_WATCHED = ("log_ratio_clip_fraction", "share_dpo", "share_kl", "share_score", "entropy", "score", "explained_variance")
_WELL_BELOW = 0.1  # of its rise: so far below its peak an arm ends that counts as over-optimised


@dataclass(frozen=True)
class Training:
    """One arm with one seed: what its policy was worth after so many rollouts.

    curves: "rollouts", "reward", "kl" and "length" before each iteration and at the end; others without the end.
    final: of the last policy, on held-out prompts: mean and `NAME_error` of what `measurement.Measured` has.
    stopped: why it ended early, if it did.
    """

    curves: dict[str, list[float]]
    final: dict[str, float]
    stopped: str = ""

    @property
    def rollouts(self) -> Array:
        return np.array(self.curves["rollouts"])

    @property
    def rewards(self) -> Array:
        return np.array(self.curves["reward"])

    @property
    def points(self) -> list[list[float]]:
        """[rollouts, reward], in order."""
        return [[float(x), float(y)] for x, y in zip(self.rollouts, self.rewards, strict=True)]

    @property
    def area(self) -> float:
        """The mean rise of the reward above its first value, over the rollouts (trapezoids)."""
        span = self.rollouts[-1] - self.rollouts[0]
        return float(np.trapezoid(self.rewards - self.rewards[0], self.rollouts) / span) if span else 0.0

    @property
    def is_over_optimised(self) -> bool:
        """Whether the reward ends well below its peak: by a tenth of its rise, and by more than chance allows."""
        peak = float(self.rewards.max())
        fall, rise = peak - self.rewards[-1], peak - self.rewards[0]
        return bool(fall > max(_WELL_BELOW * rise, 3 * self.final.get("reward_error", 0.0)))

    @classmethod
    def of(
        cls,
        metrics: Mapping[str, Sequence[float]],
        rollouts: int,
        *,
        start: Mapping[str, float],
        final: Mapping[str, float],
        stopped: str = "",
    ) -> Training:
        """From the learner's curves, in which the numbers of a rollout come again with each of its updates.

        rollouts: of an iteration. start: of the policy that it began with, for arms whose learner knew no reward.
        """
        counts = np.array(metrics["rollouts"], float)
        firsts = [int(place) for place in np.flatnonzero(np.diff(counts, prepend=-1.0))]
        reward = metrics.get("true_reward", metrics.get("score"))
        if reward is None:
            curves = {name: [start[name], final[name]] for name in AT_THE_END}
            return cls({"rollouts": [0.0, float(counts[-1]) + rollouts], **curves}, dict(final), stopped)
        named = {"rollouts": counts, "reward": reward, "kl": metrics["kl"], "length": metrics["response_length"]}
        named |= {name: metrics[name] for name in _WATCHED if name in metrics}
        curves = {name: [float(values[place]) for place in firsts] for name, values in named.items()}
        if not stopped:
            curves["rollouts"].append(curves["rollouts"][-1] + rollouts)
            for name in AT_THE_END:
                curves[name].append(final[name])
        return cls(curves, dict(final), stopped)


@dataclass(frozen=True)
class Seed:
    """Everything that one seed gave: the same start, pairs, reward model and DPO policy for all its arms.

    start, dpo: of these policies, as `Training.final`. pairs: shares of pairs in the right order, by `dpo_evaluation`.
    """

    seed: int
    start: dict[str, float]
    dpo: dict[str, float]
    pairs: dict[str, Any]
    arms: dict[str, Training] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Seed:
        return cls(**{**values, "arms": {name: Training(**arm) for name, arm in values["arms"].items()}})


def first_reach(x: Array, y: Array, target: float) -> float | None:
    """The first x at which the line through the points is at the target or above; None where it never is."""
    reached = np.flatnonzero(y >= target)
    if not len(reached):
        return None
    place = int(reached[0])
    if place == 0:
        return float(x[0])
    part = (target - y[place - 1]) / (y[place] - y[place - 1])
    return float(x[place - 1] + part * (x[place] - x[place - 1]))


def rollouts_to_reach(arm: Training, other: Training, *, best: bool = False) -> float | None:
    """Rollouts after which `arm` is where `other` ends (or at its best), as a share of the other's; None: never."""
    target = float(other.rewards.max() if best else other.rewards[-1])
    reached = first_reach(arm.rollouts, arm.rewards, target)
    return None if reached is None else reached / float(other.rollouts[-1])


def common_kl(arms: Mapping[str, Training]) -> float:
    """The largest divergence that all arms came to."""
    return min(max(arm.curves["kl"]) for arm in arms.values())


def reward_at_kl(arm: Training, kl: float) -> float:
    """The reward at which the arm first had this divergence, on the line between its iterations."""
    kls = np.array(arm.curves["kl"])
    place = first_reach(np.arange(len(kls), dtype=float), kls, kl)
    assert place is not None, "every arm comes to the common divergence"
    return float(np.interp(place, np.arange(len(kls)), arm.rewards))


def over_seeds(values: Sequence[float | None]) -> dict[str, float | int] | None:
    """Mean, 95 % interval (Student) and count of the values that there are; None where there is none."""
    found = [value for value in values if value is not None]
    if not found:
        return None
    mean, low, high = mean_interval(found)
    return {"mean": mean, "low": low, "high": high, "values": len(found), "missing": len(values) - len(found)}


def mean_curve(arms: Sequence[Training], name: str) -> dict[str, Array]:
    """x, y, low and high of a metric against rollouts over seeds; with one seed low and high are y.

    Only as far as every seed came, and at the rollouts of the first, between which the others are interpolated.
    """
    arms = [arm for arm in arms if name in arm.curves]
    if not arms:
        return {key: np.empty(0) for key in ("x", "y", "low", "high")}
    xs = [arm.rollouts[: len(arm.curves[name])] for arm in arms]
    last = min(x[-1] for x in xs)
    shared = xs[0][xs[0] <= last]
    values = [np.interp(shared, x, arm.curves[name]) for x, arm in zip(xs, arms, strict=True)]
    intervals = np.array([mean_interval([float(v) for v in at]) for at in zip(*values, strict=True)])
    return {"x": shared, "y": intervals[:, 0], "low": intervals[:, 1], "high": intervals[:, 2]}
