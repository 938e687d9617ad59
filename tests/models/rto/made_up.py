"""Made-up parts of an evaluation: policies as tables, arms with curves that are known, and what was found on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.rto.comparison import Seed, Training
from models.rto.config import EvaluationStage, RtoConfig
from models.rto.data_config import BigramTask, PreferenceData
from models.rto.findings import PolicyFound
from models.rto.measurement import Measured
from models.rto.preferences import Preferences
from models.rto.presets import tiny
from models.rto.samples import ShownResponse
from models.rto.sequences import Sequences

PAIRS: dict[str, Any] = {
    "pairs": 64,
    "right": {"dpo": 0.72, "reward_model": 0.75},
    "true_right": {"dpo": 0.77, "reward_model": 0.8},
    "labels_true_right": 0.85,
}


class TablePolicy:
    """The law of the next token depends on the token before it alone: a frozen policy whose numbers are known."""

    context = 64

    def __init__(self, logits_VV: Tensor) -> None:
        self.logits_VV = logits_VV
        self.vocabulary = len(logits_VV)

    def __call__(self, sequences: Sequences) -> Tensor:
        before_BGR = torch.cat(
            [
                sequences.prompts_BP[:, None, -1:].expand(-1, sequences.responses_BGR.shape[1], -1),
                sequences.responses_BGR[..., :-1],
            ],
            dim=-1,
        )
        return self.logits_VV[before_BGR[sequences.response_real_BGR]]

    def start_decoding(self, prompts_BP: Tensor, prompt_real_BP: Tensor, group: int, most: int) -> Any:
        return _TableDecoding(self, prompts_BP[:, -1].repeat_interleave(group))


class _TableDecoding:
    def __init__(self, policy: TablePolicy, before_X: Tensor) -> None:
        self.policy = policy
        self.append(before_X)

    def append(self, tokens_X: Tensor) -> None:
        self.logits_XV = self.policy.logits_VV[tokens_X]

    def keep(self, rows_X: Tensor) -> None:
        self.logits_XV = self.logits_XV[rows_X]


def table_policy(seed: int, vocabulary: int, scale: float = 1.0) -> TablePolicy:
    generator = torch.Generator().manual_seed(seed)
    return TablePolicy(scale * torch.randn(vocabulary, vocabulary, generator=generator, dtype=torch.float64))


def small_preferences(folder: Path, **changes: Any) -> Preferences:
    """A prepared bigram task of 2 classes, 3 symbols and 4 tokens a response."""
    folder.mkdir(parents=True, exist_ok=True)
    task = BigramTask(classes=2, symbols=3, length=4)
    PreferenceData(task=task, pairs=32, held_out_pairs=16, demonstrations=16).but(**changes).prepare(folder)
    return Preferences.read(folder)


def small_config(*baselines: str, **changes: Any) -> RtoConfig:
    values = {"baselines": baselines or ("ppo", "ddpo"), "gates.samples": 40, **changes}
    return tiny().with_overrides(values)


def means(reward: float, kl: float, length: float = 12.0) -> dict[str, float]:
    found = {"reward": reward, "score": reward / 2, "kl": kl, "log_ratio": kl, "length": length, "truncated": 0.0}
    return found | {f"{name}_error": 0.01 for name in found}


def training(rewards: list[float], kls: list[float], rollouts: int = 32, **more: Any) -> Training:
    """An arm whose curve runs through these points, the last of them the final policy."""
    curves = {
        "rollouts": [float(rollouts * place) for place in range(len(rewards))],
        "reward": rewards,
        "kl": kls,
        "length": [12.0] * len(rewards),
        "share_dpo": [0.5] * (len(rewards) - 1),
        "share_kl": [0.1] * (len(rewards) - 1),
        "share_score": [0.4] * (len(rewards) - 1),
        "log_ratio_clip_fraction": [0.25] * (len(rewards) - 1),
    }
    return Training(curves | more.pop("curves", {}), means(rewards[-1], kls[-1]), **more)


def seed_of(number: int, faster: float = 1.0) -> Seed:
    """RTO rises to 4 in a straight line, PPO to 2; DDPO stays behind PPO."""
    arms = {
        "rto": training([0.0, 2.0 * faster, 4.0 * faster], [0.0, 10.0, 20.0]),
        "ppo": training([0.0, 1.0, 2.0], [0.0, 5.0, 10.0]),
        "ddpo": training([0.0, 0.5, 1.0], [0.0, 5.0, 10.0]),
    }
    return Seed(number, means(0.0, 0.0), means(1.5, 8.0), PAIRS, arms)


def measured(config: EvaluationStage, rewards: dict[str, float], kls: dict[str, float]) -> dict[str, PolicyFound]:
    """Samples of every policy with these means; all policies share their luck."""
    luck_S = np.random.default_rng(0).normal(size=config.samples)
    shown = [
        ShownResponse("class0", ("a ", "b "), (0.01, -0.2), {"reward": 1.0, "kl": 2.0, "length": 2.0, "truncated": 0.0})
    ]
    found = {}
    for name, reward in rewards.items():
        columns = {
            "reward": reward + luck_S - luck_S.mean(),
            "kl": np.full(config.samples, kls[name]),
            "log_ratio": np.full(config.samples, kls[name]),
            "length": np.full(config.samples, 12.0),
            "truncated": np.zeros(config.samples),
        }
        found[name] = PolicyFound(7, Measured(columns), shown, 0.23 if name == "start" else None)
    return found


def learner_curves(rewards: list[float], kls: list[float], rollouts: int, updates: int) -> dict[str, list[float]]:
    """What PPO's learner records: the numbers of each rollout, once for each of its updates."""
    times = range(len(rewards))
    values = {
        "rollouts": [float(rollouts * place) for place in times],
        "true_reward": rewards,
        "kl": kls,
        "response_length": [12.0 for _ in times],
        "share_dpo": [0.5 for _ in times],
    }
    return {name: [value for value in each for _ in range(updates)] for name, each in values.items()}
