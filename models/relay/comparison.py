"""Arms beside each other: the same seeds, the same test problems, and how sure a difference between two of them is."""

# G groups, each counting alike   P problems of a group   S seeds

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.common.metrics import mean_interval
from models.relay.problems import Group

Metric = Literal["answer_accuracy", "chain_exact_match"]

_NORMAL = 1.959964  # so many standard errors to each side hold 95 %


@dataclass(frozen=True)
class Outcomes:
    """What became of a group's test problems under one arm.

    answers, chains: a digit for each problem in their order, 1 where it was right; no chains of an arm without any.
    right_tokens of tokens: of the solutions, how many stand at their place in what was written.
    """

    answers: str
    chains: str = ""
    right_tokens: int = 0
    tokens: int = 0

    def of(self, metric: Metric) -> NDArray[np.float64]:
        """1 for each problem that was right and 0 for each other (P)."""
        digits = self.answers if metric == "answer_accuracy" else self.chains
        return (np.frombuffer(digits.encode(), np.uint8) == ord("1")).astype(float)


@dataclass(frozen=True)
class ArmResult:
    """One arm at one seed.

    counted: what the arm says about itself, such as its tokens. label_accuracy: of the labels that it made, as
    `labels.read_label_accuracy` has it. stopped: why it ended before its time, if it did; its outcomes are then those
    of the network that it had come to.
    """

    outcomes: dict[Group, Outcomes]
    counted: dict[str, float] = field(default_factory=dict)
    label_accuracy: dict[Group, Any] = field(default_factory=dict)
    stopped: str = ""

    def writes_chains(self, groups: Iterable[Group]) -> bool:
        return all(self.outcomes[group].chains for group in groups)

    def as_json(self) -> dict[str, Any]:
        return {
            "outcomes": {str(group): vars(outcomes) for group, outcomes in self.outcomes.items()},
            "counted": self.counted,
            "label_accuracy": {str(group): counts for group, counts in self.label_accuracy.items()},
            "stopped": self.stopped,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ArmResult:
        return cls(
            {group_of(name): Outcomes(**outcomes) for name, outcomes in values["outcomes"].items()},
            values["counted"],
            {group_of(name): counts for name, counts in values["label_accuracy"].items()},
            values["stopped"],
        )


@dataclass(frozen=True)
class Seed:
    """All arms of one seed; number 0 is the run's own. They share problems, teacher and the student before."""

    number: int
    arms: dict[str, ArmResult]

    def as_json(self) -> dict[str, Any]:
        return {"number": self.number, "arms": {name: arm.as_json() for name, arm in self.arms.items()}}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Seed:
        return cls(values["number"], {name: ArmResult.from_json(arm) for name, arm in values["arms"].items()})


def group_of(name: str) -> Group:
    """The group that `str` made this name of."""
    task, length = name.rsplit("_", 1)
    return Group(task, int(length))


def share(arm: ArmResult, group: Group, metric: Metric) -> float:
    """The share of a group's problems that the arm got right: k / n."""
    return float(arm.outcomes[group].of(metric).mean())


def token_accuracy(arm: ArmResult, group: Group) -> float:
    """The share of the solutions' tokens at their place."""
    outcomes = arm.outcomes[group]
    return outcomes.right_tokens / outcomes.tokens


def mean_share(arm: ArmResult, groups: Sequence[Group], metric: Metric) -> float:
    """The mean of the groups' shares, each counting alike: (1/G) sum_g k_g / n_g."""
    return sum(share(arm, group, metric) for group in groups) / len(groups)


@dataclass(frozen=True)
class Difference:
    """How much more one arm gets right than another, with a 95 % interval.

    over: what the interval says something about. "seeds": trainings with other seeds and other problems. "problems":
    other problems for these very networks, which says nothing about other seeds.
    by_seed: the difference at each seed, by its number.
    """

    mean: float
    low: float
    high: float
    over: Literal["seeds", "problems"]
    by_seed: dict[int, float]

    @property
    def signs(self) -> dict[int, int]:
        """+1 where the first arm is better, -1 where the other one is, 0 where they are alike; by seed."""
        return {number: (value > 0) - (value < 0) for number, value in self.by_seed.items()}

    @property
    def p_value_of_signs(self) -> float:
        """How likely seeds are so much of one sign if both arms are alike; seeds without a sign are left out."""
        signs = list(self.signs.values())
        return sign_test(signs.count(1), signs.count(-1))


def difference(
    seeds: Sequence[Seed], arm: str, other: str, groups: Sequence[Group], metric: Metric
) -> Difference | None:
    """`arm` minus `other`, paired: over seeds where there are two or more, else over the problems of the only one.

    None where no seed has both arms with this metric.
    """
    both = [seed for seed in seeds if _has(seed, arm, groups, metric) and _has(seed, other, groups, metric)]
    if not both:
        return None
    if len(both) == 1:
        return _over_problems(both[0], arm, other, groups, metric)
    return _over_seeds(both, arm, other, groups, metric)


def _over_seeds(seeds: Sequence[Seed], arm: str, other: str, groups: Sequence[Group], metric: Metric) -> Difference:
    """Student's interval of the paired differences (Student 1908, section IX).

    d_s = M_s(arm) - M_s(other),   mean -+ t_{S-1} s / sqrt(S),   s^2 = sum_s (d_s - mean)^2 / (S - 1)
    """
    by_seed = {
        seed.number: mean_share(seed.arms[arm], groups, metric) - mean_share(seed.arms[other], groups, metric)
        for seed in seeds
    }
    return Difference(*mean_interval(list(by_seed.values())), "seeds", by_seed)


def _over_problems(seed: Seed, arm: str, other: str, groups: Sequence[Group], metric: Metric) -> Difference:
    """The normal interval of the mean of paired differences (Miller 2024, arXiv 2411.00640, on paired differences).

        d_gp = x_gp(arm) - x_gp(other),   D = (1/G) sum_g mean_p d_gp,   D -+ 1.96 SE
        SE^2 = (1/G^2) sum_g s_g^2 / n_g,   s_g^2 = sum_p (d_gp - mean_p d_gp)^2 / (n_g - 1)

    Each group counts alike, so that SE is a stratified sample's (Cochran 1977, eq. 5.12). Cut off at -1 and 1.
    """
    differences = [_paired(seed, arm, other, group, metric) for group in groups]
    mean = sum(float(d_P.mean()) for d_P in differences) / len(groups)
    variance = sum(_variance_of_mean(d_P) for d_P in differences) / len(groups) ** 2
    half = _NORMAL * math.sqrt(variance)
    return Difference(mean, max(-1.0, mean - half), min(1.0, mean + half), "problems", {seed.number: mean})


def _variance_of_mean(d_P: NDArray[np.float64]) -> float:
    """s^2 / n; a single difference, of which no spread is seen, is given the widest there is, that of -1 and 1."""
    return float(d_P.var(ddof=1)) / len(d_P) if len(d_P) > 1 else 1.0


@dataclass(frozen=True)
class Discordance:
    """Of the problems that both arms were given, those that just one of them got right."""

    only_first: int
    only_second: int

    @property
    def p_value(self) -> float:
        """McNemar's exact test: the sign test on these problems (McNemar 1947; Agresti 2013, section 11.1)."""
        return sign_test(self.only_first, self.only_second)


def discordance(seed: Seed, arm: str, other: str, groups: Sequence[Group], metric: Metric) -> Discordance | None:
    """The problems of all groups together on which the two arms differ; None where one lacks this metric."""
    if not (_has(seed, arm, groups, metric) and _has(seed, other, groups, metric)):
        return None
    d_N = np.concatenate([_paired(seed, arm, other, group, metric) for group in groups])
    return Discordance(int((d_N > 0).sum()), int((d_N < 0).sum()))


def sign_test(wins: int, losses: int) -> float:
    """How likely a count so uneven or more so is when wins and losses are as likely as each other; two-sided.

    p = min(1, 2 sum_{k <= min(wins, losses)} C(n, k) / 2^n),   n = wins + losses
    """
    n = wins + losses
    rarer = sum(math.comb(n, k) for k in range(min(wins, losses) + 1))
    return min(1.0, 2 * rarer / 2**n)


def _has(seed: Seed, arm: str, groups: Sequence[Group], metric: Metric) -> bool:
    return arm in seed.arms and (metric == "answer_accuracy" or seed.arms[arm].writes_chains(groups))


def _paired(seed: Seed, arm: str, other: str, group: Group, metric: Metric) -> NDArray[np.float64]:
    """For each problem +1 where only `arm` got it right, -1 where only `other` did, else 0 (P)."""
    first_P, second_P = (seed.arms[name].outcomes[group].of(metric) for name in (arm, other))
    assert len(first_P) == len(second_P), "arms of one seed are tested on the same problems"
    return first_P - second_P
