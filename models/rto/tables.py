"""The tables of RTO's report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.common.report import Table
from models.rto.comparison import Seed, Training, common_kl, over_seeds, reward_at_kl
from models.rto.config import EvaluationStage
from models.rto.dpo_evaluation import PairOrders, pair_table
from models.rto.findings import Found, reached

# What people read. The order is that of tables and figures.
LABELS = {
    "start": "start",
    "dpo": "DPO",
    "rto": "RTO",
    "ppo": "PPO",
    "ppo_lambda1": "PPO, lambda 1",
    "ddpo": "DDPO",
    "rs_ppo": "RS-PPO",
    "semi_rto": "Semi-RTO",
    "rto_without_score": "RTO without score",
    "rto_without_clip": "RTO without clip",
    "reinforce": "REINFORCE++",
    "rto_reinforce": "RTO on REINFORCE++",
    "rto_group": "RTO, group baseline",
}

_PARTS = (("share_dpo", "DPO"), ("share_score", "score"), ("share_kl", "KL"))


def headline(found: Found) -> Table:
    """Every policy of this run: reward, divergence, length, and how quickly it came there."""
    run, rows = found.run, []
    for name, means in (("start", run.start), ("dpo", run.dpo)):
        rows.append((LABELS[name], *_means(means), "", ""))
    for name, arm in run.arms.items():
        rows.append((LABELS[name], *_means(arm.final), f"{arm.rollouts[-1]:,.0f}", f"{arm.area:.3g}"))
    counts = found.truth if found.truth else "nobody knows the true reward: the score stands for it"
    difference, error = found.gain("rto", "dpo")
    return Table(
        title="Policies of this run",
        columns=("policy", found.reward, "KL, nats", "tokens", "rollouts", "mean rise"),
        rows=tuple(rows),
        caption=f"{_sampled(found):,} responses each to held-out prompts; {counts}. KL from the start, of a whole "
        f"response. Mean rise: area under the curve above its first point, by rollouts. RTO less DPO, response by "
        f"response: {difference:.3g} +- {error:.2g}.",
    )


def all_tables(config: EvaluationStage, found: Found) -> list[Table]:
    tables = []
    if len(found.seeds) > 1:
        tables += [seeds_table(found), seed_rows(found)]
    tables += [equal_kl_table(found), pair_table(PairOrders(**found.run.pairs)), reward_table(config, found)]
    if found.study.length_trap:
        tables.append(length_trap_table(found.study.length_trap))
    return tables


def seeds_table(found: Found) -> Table:
    """Each arm over all seeds, with intervals."""
    seeds, rows = found.seeds, []
    for name, means in (("start", [seed.start for seed in seeds]), ("dpo", [seed.dpo for seed in seeds])):
        spans = (_interval(over_seeds([each.get(key) for each in means])) for key in ("reward", "kl"))
        rows.append((LABELS[name], "", *spans, "", ""))
    for name in found.run.arms:
        arms = [seed.arms[name] for seed in seeds]
        rows.append(
            (
                LABELS[name],
                _interval(over_seeds([arm.area for arm in arms])),
                _interval(over_seeds([arm.final.get("reward") for arm in arms])),
                _interval(over_seeds([arm.final.get("kl") for arm in arms])),
                str(sum(arm.is_over_optimised for arm in arms)),
                str(sum(bool(arm.stopped) for arm in arms)),
            )
        )
    share = over_seeds([reached(seed)["rollouts_to_ppo_final"] for seed in seeds])
    best = over_seeds([reached(seed)["rollouts_to_ppo_best"] for seed in seeds])
    told = ""
    if "ppo" in found.run.arms:
        told = (
            " Rollouts RTO needs to be where PPO ends, as a share of PPO's: "
            f"{_interval(share)}{_missing(share, seeds)}; where PPO is at its best: "
            f"{_interval(best)}{_missing(best, seeds)}."
        )
    return Table(
        title=f"The arms over {len(seeds)} seeds",
        columns=("arm", "mean rise", found.reward, "KL, nats", "over-optimised", "stopped"),
        rows=tuple(rows),
        caption="Each seed has data, start, reward model and DPO policy of its own, which its arms share. Brackets: "
        "95 % intervals (Student). Over-optimised: ends below its peak by a tenth of its rise, and by more than three "
        f"standard errors. Stopped: by a guard.{told}",
    )


def seed_rows(found: Found) -> Table:
    """Seed by seed, as the arms are paired."""
    names = list(found.run.arms)
    rows = []
    for seed in found.seeds:
        share = reached(seed)["rollouts_to_ppo_final"]
        right = seed.pairs["true_right"] or seed.pairs["right"]
        rows.append(
            (
                str(seed.seed),
                *(f"{seed.arms[name].area:.3g}" for name in names),
                "never" if share is None and "ppo" in names else "" if share is None else f"{share:.0%}",
                f"{right['dpo']:.1%}",
                f"{right['reward_model']:.1%}" if "reward_model" in right else "",
            )
        )
    order = "true order" if found.truth else "labels"
    return Table(
        title="Mean rise, seed by seed",
        columns=("seed", *(LABELS[name] for name in names), "to PPO's end", f"DPO, {order}", f"reward model, {order}"),
        rows=tuple(rows),
        caption=f"The last columns: share of held-out pairs that DPO and the reward model put in the right order "
        f"({order}). A weak reward model flatters RTO.",
    )


def equal_kl_table(found: Found) -> Table:
    """The reward of the arms at one divergence, seed by seed in the mean."""
    kls = [common_kl(seed.arms) for seed in found.seeds]
    rows = tuple(
        (
            LABELS[name],
            _interval(
                over_seeds([reward_at_kl(seed.arms[name], kl) for seed, kl in zip(found.seeds, kls, strict=True)])
            ),
        )
        for name in found.run.arms
    )
    return Table(
        title="Reward at equal KL",
        columns=("arm", found.reward),
        rows=rows,
        caption="At the largest KL that all arms of a seed came to: "
        f"{', '.join(f'{kl:.3g}' for kl in kls)} nats. Between iterations by a straight line. Arms that agree here "
        "differ in how fast they learn, and not in what they would learn.",
    )


def reward_table(config: EvaluationStage, found: Found) -> Table:
    """What the reward of each arm consisted of, in the mean over its training."""
    rows = []
    for name, arm in found.run.arms.items():
        stage = config.arms[name]
        parts = [_mean(arm, key) for key, _ in _PARTS]
        rows.append(
            (
                LABELS[name],
                stage.reward.layout,
                f"{stage.reward.beta1:g} / {stage.reward.beta2:g} / {stage.reward.beta3:g}",
                *("" if part is None else f"{part:.0%}" for part in parts),
                "" if (clipped := _mean(arm, "log_ratio_clip_fraction")) is None else f"{clipped:.1%}",
            )
        )
    scale = found.dpo_scale
    told = "" if scale is None else (
        f" On the start's responses DPO's return varies {scale:.2g} times as much as the score's part, at RTO's beta1."
    )  # fmt: skip
    return Table(
        title="What the rewards were made of",
        columns=("arm", "layout", "beta1 / 2 / 3", *(f"{label}'s share" for _, label in _PARTS), "clipped tokens"),
        rows=tuple(rows),
        caption="Shares of the return: mean size of each part, over the training. Clipped: tokens whose DPO log-ratio "
        f"was beyond its bound.{told}",
    )


def length_trap_table(seeds: Sequence[Seed]) -> Table:
    """Length and true reward where whoever labelled the pairs liked length."""
    rows = [("start", [seed.start for seed in seeds]), ("dpo", [seed.dpo for seed in seeds])]
    rows += [(name, [seed.arms[name].final for seed in seeds]) for name in seeds[0].arms]
    return Table(
        title="Length trap",
        columns=("policy", "tokens", "true reward", "KL, nats", "cut off"),
        rows=tuple(
            (
                LABELS[name],
                *(_interval(over_seeds([means.get(key) for means in found])) for key in ("length", "reward", "kl")),
                f"{sum(means.get('truncated', 0.0) for means in found) / len(found):.0%}",
            )
            for name, found in rows
        ),
        caption=f"The true reward does not count length, but longer responses were preferred. {len(seeds)} "
        f"seed{'s' if len(seeds) > 1 else ''}.",
    )


def _means(means: dict[str, float]) -> tuple[str, str, str]:
    return (
        f"{means['reward']:.3g} ± {means['reward_error']:.1g}",
        f"{means['kl']:.3g} ± {means['kl_error']:.1g}",
        f"{means['length']:.3g}",
    )


def _interval(found: dict[str, Any] | None) -> str:
    if found is None:
        return "never"
    if found["values"] == 1:
        return f"{found['mean']:.3g}"
    return f"{found['mean']:.3g} [{found['low']:.3g}, {found['high']:.3g}]"


def _missing(found: dict[str, Any] | None, seeds: Sequence[Seed]) -> str:
    return f" (never in {found['missing']} of {len(seeds)} seeds)" if found and found["missing"] else ""


def _mean(arm: Training, name: str) -> float | None:
    values = arm.curves.get(name)
    return sum(values) / len(values) if values else None


def _sampled(found: Found) -> int:
    return len(found.measured["start"].columns_S["kl"])
