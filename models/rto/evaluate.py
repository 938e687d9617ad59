"""What RTO's policy is worth, beside its start, DPO and the other arms: sampled, compared, gated and shown."""

# S responses

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.common.contract import World
from models.common.report import Gate, Report
from models.rto import figures, tables
from models.rto.comparison import Seed, Training
from models.rto.config import EvaluationStage
from models.rto.findings import Found, PolicyFound, make_metrics, reached
from models.rto.measurement import Measured, make_judge, policy_and_reference
from models.rto.preferences import Preferences
from models.rto.samples import SHOWN, dpo_rewards, make_samples, shown_responses
from models.rto.study import Study

_PAIR_SHARES = ("pairs", "right", "true_right", "labels_true_right")  # what is taken over from the DPO evaluation


def policies(config: EvaluationStage) -> dict[str, str | None]:
    """The input that each policy is read from; None: the start, which is everybody's reference."""
    return {"start": None, "dpo": "dpo", **{name: f"arm_{name}" for name in config.arms}}


def shards(config: EvaluationStage, inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Each policy."""
    return [{"policy": name} for name in policies(config)]


def process(config: EvaluationStage, shard: dict[str, Any], world: World) -> PolicyFound:
    """What one policy's responses are worth; all policies get the same prompts and random numbers."""
    name, network = shard["policy"], config.dpo.policy
    preferences = Preferences.read(world.inputs["preferences"])
    arm = config.arms["rto"]
    judge = make_judge(world, preferences, arm)
    source = policies(config)[name]
    policy, reference = policy_and_reference(
        network, preferences.vocabulary, world, None if source is None else world.inputs[source]
    )
    parts, firsts = [], []
    for sequences, truncated_S in judge.responses(policy, config.samples):
        parts.append(judge.measure_batch(policy, reference, sequences, truncated_S))
        firsts = firsts or [sequences]
    del policy, reference  # of large networks there is no room for more than is in use
    dpo, reference = policy_and_reference(network, preferences.vocabulary, world, world.inputs["dpo"])
    to_spread = name == "start" and "score" in parts[0].columns_S
    first = firsts[0] if to_spread else firsts[0].of(slice(0, SHOWN))
    rewards_SR = dpo_rewards(arm.reward, dpo, reference, first)
    scale = None
    if to_spread:
        scores_S = arm.reward.beta3 * parts[0].columns_S["score"]
        returns_S = rewards_SR.sum(dim=1).double().cpu().numpy()
        scale = float(returns_S.std() / scores_S.std()) if scores_S.std() else None
    return PolicyFound(
        seed=world.seed,
        measured=Measured.joined(parts),
        shown=shown_responses(preferences, first, rewards_SR, parts[0]),
        dpo_scale=scale,
    )


def collect(config: EvaluationStage, parts: list[PolicyFound], inputs: Mapping[str, Path], folder: Path) -> None:
    """Brings the policies, the arms' curves and the study together in a report."""
    by_policy = {shard["policy"]: part for shard, part in zip(shards(config, inputs), parts, strict=True)}
    curves = {name: json.loads((inputs[f"arm_{name}"] / "curves.json").read_text())["metrics"] for name in config.arms}
    pairs = json.loads((inputs["dpo_evaluation"] / "report.json").read_text())["metrics"]
    truth = Preferences.read(inputs["preferences"]).truth()
    found = combine(
        config,
        by_policy,
        curves,
        pairs={name: pairs[name] for name in _PAIR_SHARES},
        truth=None if truth is None else truth.describe,
        study=Study.read(inputs["study"]) if "study" in inputs else Study([], []),
    )
    make_report(config, found).write(folder)


def combine(
    config: EvaluationStage,
    by_policy: Mapping[str, PolicyFound],
    curves: Mapping[str, Mapping[str, list[float]]],
    *,
    pairs: dict[str, Any],
    truth: str | None,
    study: Study,
) -> Found:
    """Everything that was found, the arms with their curves up to the end."""
    means = {name: part.measured.means() for name, part in by_policy.items()}
    arms = {
        name: Training.of(curves[name], stage.rollouts, start=means["start"], final=means[name])
        for name, stage in config.arms.items()
    }
    start = by_policy["start"]
    return Found(
        run=Seed(seed=start.seed, start=means["start"], dpo=means["dpo"], pairs=pairs, arms=arms),
        measured={name: part.measured for name, part in by_policy.items()},
        shown={name: by_policy[name].shown for name in ("start", "dpo", "rto")},
        truth=truth,
        dpo_scale=start.dpo_scale,
        study=study,
    )


def make_report(config: EvaluationStage, found: Found) -> Report:
    return Report(
        workload="rto",
        title="RTO: token rewards from preference pairs",
        summary=_summary(found),
        metrics=make_metrics(found),
        gates=_gates(config, found),
        headline=tables.headline(found),
        figures=tuple(figures.all_figures(config, found)),
        tables=tuple(tables.all_tables(config, found)),
        samples=tuple(make_samples(found.shown, tables.LABELS, config.arms["rto"].reward, found.reward)),
    )


def _summary(found: Found) -> str:
    run = found.run
    rto = run.arms["rto"]
    said = (
        f"After {rto.rollouts[-1]:,.0f} rollouts RTO's {found.reward} is {rto.final['reward']:.3g} "
        f"+- {rto.final['reward_error']:.1g} at {rto.final['kl']:.3g} nats from the start; the start has "
        f"{run.start['reward']:.3g}, DPO {run.dpo['reward']:.3g}"
    )
    if "ppo" not in run.arms:
        return said + "."
    share = reached(run)["rollouts_to_ppo_final"]
    said += f", PPO {run.arms['ppo'].final['reward']:.3g}. "
    if share is None:
        return said + "RTO does not come to where PPO ends."
    return said + f"RTO is where PPO ends after {share:.0%} of PPO's rollouts."


def _gates(config: EvaluationStage, found: Found) -> tuple[Gate, ...]:
    over_start, over_dpo = (found.gain("rto", over)[0] for over in ("start", "dpo"))
    return (
        Gate(name=f"{found.reward}, RTO above the start", value=over_start, at_least=config.least_gain),
        Gate(name=f"{found.reward}, RTO above DPO", value=over_dpo, at_least=config.least_gain_over_dpo),
        Gate(
            name="KL of RTO from the start",
            value=found.run.arms["rto"].final["kl"],
            at_most=config.most_kl,
            unit=" nats",
        ),
    )
