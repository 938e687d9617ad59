"""The pictures of RTO's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from models.common.report import Curve, Drawing, Figure, Level
from models.rto.comparison import AT_THE_END, Seed, Training, mean_curve
from models.rto.config import EvaluationStage
from models.rto.findings import Found
from models.rto.tables import LABELS

_BANDS_FROM = 3  # seeds; the interval of two is ten times as wide as they are apart
_PARTS = {"share_dpo": "DPO", "share_score": "score", "share_kl": "KL"}


def all_figures(config: EvaluationStage, found: Found) -> list[Drawing]:
    """In the order of the page: what was gained, at what divergence, how long, and of which rewards."""
    seeds = found.seeds
    drawn: list[Drawing] = [
        reward_figure(found),
        against_rollouts(seeds, "kl", "KL from the start", "nats a response"),
        reward_against_kl(found),
    ]
    if _varies(seeds, "length"):
        drawn.append(against_rollouts(seeds, "length", "Length of responses", "tokens"))
    clipped = [name for name, arm in config.arms.items() if _is_clipped(config, name) and arm.reward.log_ratio_clip]
    if clipped:
        figure = against_rollouts(
            seeds, "log_ratio_clip_fraction", "Clipped DPO log-ratios", "share of tokens", only=clipped
        )
        drawn.append(figure)
    drawn.append(shares_figure(seeds))
    if found.study.length_trap:
        drawn += length_trap_figures(found.study.length_trap)
    return drawn


def _is_clipped(config: EvaluationStage, name: str) -> bool:
    reward = config.arms[name].reward
    return reward.layout != "ppo" and reward.beta1 > 0


def reward_figure(found: Found) -> Figure:
    """The reward against rollouts, with what start and DPO have."""
    seeds = found.seeds
    figure = against_rollouts(seeds, "reward", f"{found.reward.capitalize()} against rollouts", found.reward)
    truth = found.truth or "the score stands for the true reward"
    counts = f"{truth[:1].upper()}{truth[1:]}."
    return _with_start_and_dpo(figure, seeds, "reward").but(caption=f"{figure.caption} {counts}")


def _with_start_and_dpo(figure: Figure, seeds: Sequence[Seed], name: str) -> Figure:
    """The figure with the means that the policies before PPO have, as levels."""
    levels = [
        Level(label=LABELS[policy], value=float(np.mean([means[name] for means in found])))
        for policy, found in (("start", [seed.start for seed in seeds]), ("dpo", [seed.dpo for seed in seeds]))
    ]
    span = figure.y_range and _padded([*figure.y_range, *(level.value for level in levels)], 0.0)
    return figure.but(levels=[level.model_dump() for level in levels], y_range=span)


def against_rollouts(
    seeds: Sequence[Seed], name: str, title: str, y_label: str, only: Sequence[str] | None = None
) -> Figure:
    """A metric of each arm against rollouts: mean over seeds, and the interval for it where there are several."""
    arms = [arm for arm in seeds[0].arms if only is None or arm in only]
    curves = [_curve(LABELS[arm], mean_curve([seed.arms[arm] for seed in seeds], name), seeds) for arm in arms]
    told = "Points: the rollouts of an iteration; the last: held-out prompts." if name in AT_THE_END else ""
    return Figure(
        title=title,
        x_label="rollouts",
        y_label=y_label,
        curves=tuple(curve for curve in curves if curve.x),
        y_range=_span(seeds, arms, name),
        caption=_over(seeds, told),
    )


def reward_against_kl(found: Found) -> Figure:
    """The reward against the divergence that it was bought with."""
    seeds, curves = found.seeds, []
    for name in found.run.arms:
        kl, reward = (mean_curve([seed.arms[name] for seed in seeds], key) for key in ("kl", "reward"))
        curves.append(
            _curve(LABELS[name], {"x": kl["y"], "y": reward["y"], "low": reward["low"], "high": reward["high"]}, seeds)
        )
    dpo = Curve(
        label=LABELS["dpo"],
        x=(float(np.mean([seed.dpo["kl"] for seed in seeds])),),
        y=(float(np.mean([seed.dpo["reward"] for seed in seeds])),),
        style="points",
    )
    return Figure(
        title=f"{found.reward.capitalize()} against KL",
        x_label="KL from the start, nats a response",
        y_label=found.reward,
        curves=(*curves, dpo),
        y_range=_padded([*(_span(seeds, list(found.run.arms), "reward") or ()), *dpo.y], 0.0),
        caption=_over(
            seeds, "Each line runs through the iterations. Where lines coincide, arms differ in speed alone."
        ),
    )


def shares_figure(seeds: Sequence[Seed]) -> Figure:
    """What RTO's return consists of, as the training goes on."""
    rto = [seed.arms["rto"] for seed in seeds]
    curves = [_curve(label, mean_curve(rto, name), seeds) for name, label in _PARTS.items()]
    return Figure(
        title="Shares of RTO's return",
        x_label="rollouts",
        y_label="share",
        y_range=(0.0, 1.0),
        curves=tuple(curve for curve in curves if curve.x),
        caption=_over(seeds, "Mean size of each part of a response's return, as a share of their sum."),
    )


def length_trap_figures(seeds: Sequence[Seed]) -> list[Drawing]:
    """What becomes of length, and of the true reward, where longer responses were preferred."""
    told = "The true reward does not count length; the pairs' labels like it. beta3 = 0: without score."
    drawn: list[Drawing] = []
    for name, title, y_label in (
        ("length", "Length trap: length of responses", "tokens"),
        ("reward", "Length trap: true reward", "true reward"),
    ):
        figure = against_rollouts(seeds, name, title, y_label)
        drawn.append(_with_start_and_dpo(figure, seeds, name).but(caption=f"{told} {figure.caption}"))
    return drawn


def _curve(label: str, points: Mapping[str, np.ndarray], seeds: Sequence[Seed]) -> Curve:
    x, y, low, high = (tuple(float(value) for value in points[key]) for key in ("x", "y", "low", "high"))
    return (
        Curve(label=label, x=x, y=y, low=low, high=high) if len(seeds) >= _BANDS_FROM else Curve(label=label, x=x, y=y)
    )


def _varies(seeds: Sequence[Seed], name: str) -> bool:
    arms: list[Training] = [arm for seed in seeds for arm in seed.arms.values()]
    values = [value for arm in arms for value in arm.curves[name]]
    return max(values) - min(values) > 1e-9


def _span(seeds: Sequence[Seed], arms: Sequence[str], name: str) -> tuple[float, float] | None:
    """The axis for a metric: what single seeds had. Bands of few seeds reach far beyond it."""
    values = [value for seed in seeds for arm in arms for value in seed.arms[arm].curves.get(name, ())]
    return _padded(values, 0.05)


def _padded(values: Sequence[float], part: float) -> tuple[float, float] | None:
    """The lowest and the highest of the values with a little room; None where they do not differ."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    return (low - part * (high - low), high + part * (high - low)) if low < high else None


def _over(seeds: Sequence[Seed], told: str) -> str:
    if len(seeds) == 1:
        return f"One seed. {told}".rstrip()
    if len(seeds) < _BANDS_FROM:
        return f"Mean of {len(seeds)} seeds, too few for bands. {told}".rstrip()
    return f"Mean of {len(seeds)} seeds, bands: 95 % intervals (Student), cut off where no seed was. {told}".rstrip()
