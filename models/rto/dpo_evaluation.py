"""Whether DPO has earned that PPO starts: the order of held-out pairs, and how far it went from the reference."""

# B pairs   2 responses of each: chosen, rejected   R tokens of a response

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.common.contract import World
from models.common.metrics import wilson_interval
from models.common.report import Gate, Report, Table
from models.rto.config import DpoEvaluation, DpoStage, RewardModelStage
from models.rto.measurement import Judge, policy_and_reference, response_log_probs
from models.rto.network import read_reward_model
from models.rto.preferences import Preferences, pair_sequences, true_rewards

_PAIRS_AT_ONCE = 64

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PairOrders:
    """How many of the held-out pairs are put in the right order.

    Keys: "dpo" by the sum of its log-ratios, "reward_model" by its score.
    right: as they were labelled. true_right: as the true reward has it; None where nobody knows it.
    labels_true_right: of the labels, how many say what the true reward says.
    """

    pairs: int
    right: dict[str, float]
    true_right: dict[str, float] | None
    labels_true_right: float | None


def judge_pairs(
    dpo: DpoStage, reward_model: RewardModelStage | None, world: World, preferences: Preferences
) -> PairOrders:
    """How DPO and the reward model order the held-out pairs.

    Inputs: dpo; sft and reward_model where there are any.
    """
    pairs, vocabulary = preferences.held_out, preferences.vocabulary
    policy, reference = policy_and_reference(dpo.policy, vocabulary, world, world.inputs["dpo"])
    scored = None
    if reward_model is not None:
        scored = read_reward_model(
            reward_model.network, world.inputs["reward_model"], vocabulary, reward_model.form, world.device
        ).model.eval()
    truth = preferences.truth()
    margins: dict[str, list[Array]] = {}
    for begin in range(0, len(pairs), _PAIRS_AT_ONCE):
        batch = pair_sequences(pairs, range(begin, min(len(pairs), begin + _PAIRS_AT_ONCE))).to(world.device)
        log_ratios_BGR = response_log_probs(policy, batch) - response_log_probs(reference, batch)
        values_B2 = {"dpo": log_ratios_BGR.sum(dim=-1).double().cpu().numpy()}
        if scored is not None:
            with torch.no_grad():
                values_B2["reward_model"] = scored(batch).double().cpu().numpy()
        if truth is not None:
            values_B2["truth"] = true_rewards(truth, batch)
        for name, value_B2 in values_B2.items():
            margins.setdefault(name, []).append(value_B2[:, 0] - value_B2[:, 1])
    return orders({name: np.concatenate(values) for name, values in margins.items()})


def orders(margins: Mapping[str, Array]) -> PairOrders:
    """From what each says of the chosen response less what it says of the rejected one; a tie is half right."""
    judges = {name: margin_B for name, margin_B in margins.items() if name != "truth"}
    right = {name: _share_positive(margin_B) for name, margin_B in judges.items()}
    pairs = len(margins["dpo"])
    if "truth" not in margins:
        return PairOrders(pairs, right, None, None)
    truth_B = margins["truth"]
    decided_B = truth_B != 0
    signs_B = np.sign(truth_B[decided_B])
    true_right = {name: _share_positive(margin_B[decided_B] * signs_B) for name, margin_B in judges.items()}
    return PairOrders(pairs, right, true_right, _share_positive(truth_B[decided_B]))


def _share_positive(values: Array) -> float:
    return float((0.5 * (np.sign(values) + 1)).mean()) if len(values) else 0.5


def shards(config: DpoEvaluation, inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
    """The pairs, and the sampled responses."""
    return [{"kind": "samples"}, {"kind": "pairs"}]


def process(config: DpoEvaluation, shard: dict[str, Any], world: World) -> Any:
    """`PairOrders`, or means and standard errors of what DPO's policy does on held-out prompts."""
    preferences = Preferences.read(world.inputs["preferences"])
    if shard["kind"] == "pairs":
        return judge_pairs(config.dpo, config.reward_model, world, preferences)
    judge = Judge(preferences, config.most_response, 1, None, world.seed, world.device)
    pair = policy_and_reference(config.dpo.policy, preferences.vocabulary, world, world.inputs["dpo"])
    return judge.measure(*pair, config.samples).means()


def collect(config: DpoEvaluation, parts: list[Any], inputs: Mapping[str, Path], folder: Path) -> None:
    measured, found = parts
    make_report(config, found, measured).write(folder)


def make_report(config: DpoEvaluation, found: PairOrders, measured: Mapping[str, float]) -> Report:
    accuracy = found.right["dpo"]
    return Report(
        workload="rto",
        title="RTO: the DPO policy, before PPO",
        summary=f"DPO's implicit reward puts {accuracy:.1%} of {found.pairs} held-out pairs in the order of their "
        f"labels; its responses are {measured['kl']:.3g} +- {measured['kl_error']:.1g} nats from the reference.",
        metrics={
            **asdict(found),
            "preference_accuracy": accuracy,
            "kl": measured["kl"],
            "kl_error": measured["kl_error"],
            "log_ratio": measured["log_ratio"],
            "log_ratio_error": measured["log_ratio_error"],
            "true_reward": measured.get("reward"),
            "true_reward_error": measured.get("reward_error"),
            "length": measured["length"],
        },
        gates=(
            Gate(name="held-out pairs in the order of their labels", value=accuracy, at_least=config.least_accuracy),
            Gate(name="KL from the reference", value=measured["kl"], at_most=config.most_kl, unit=" nats"),
        ),
        headline=pair_table(found),
    )


def pair_table(found: PairOrders) -> Table:
    """The shares of right orders with their intervals."""
    named = {"dpo": "DPO, sum of log-ratios", "reward_model": "reward model"}
    rows = [
        (
            named[name],
            _with_interval(share, found.pairs),
            _with_interval((found.true_right or {}).get(name), found.pairs),
        )
        for name, share in found.right.items()
    ]
    rows.append(("the labels themselves", "", _with_interval(found.labels_true_right, found.pairs)))
    return Table(
        title="Held-out pairs in the right order",
        columns=("", "as labelled", "by the true reward"),
        rows=tuple(row for row in rows if any(row[1:])),
        caption=f"{found.pairs} pairs. Brackets: 95 % Wilson intervals.",
    )


def _with_interval(share: float | None, pairs: int) -> str:
    if share is None:
        return ""
    low, high = wilson_interval(round(share * pairs), pairs)
    return f"{share:.1%} ({low:.1%} to {high:.1%})"
