"""Small inputs of PPO on disk."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from models.common.optimizer_config import OptimizerConfig
from models.rto.config import PpoStage
from models.rto.data_config import BigramTask, PreferenceData
from models.rto.network import make_policy, make_reward_model
from models.rto.policy_config import DecoderConfig
from models.rto.ppo_config import CriticConfig
from models.rto.preferences import Preferences
from models.rto.reward_config import TokenRewardConfig
from tests.fixtures.worlds import FINGERPRINT

NETWORK = DecoderConfig(layers=1, width=16, heads=2, feed_forward_width=32, context=16)
RATE = OptimizerConfig(learning_rate=3e-3, schedule="constant", warmup_share=0.0)
STAGE = PpoStage(
    policy=NETWORK,
    scorer=NETWORK,
    max_steps=8,
    iterations=2,
    batch_size=4,
    minibatches=2,
    epochs=2,
    most_response=6,
    optimizer=RATE,
    critic=CriticConfig(start="policy", optimizer=RATE),
    reward=TokenRewardConfig(beta1=0.2),
)


def prepared(folder: Path, data: PreferenceData | None = None) -> Path:
    """A small dataset of T1, unless another is given."""
    data = data or PreferenceData(task=BigramTask(length=6), pairs=24, held_out_pairs=8, demonstrations=8)
    folder.mkdir(parents=True)
    data.prepare(folder)
    return folder


def saved(
    module: nn.Module, folder: Path, *, start_from: str | None = FINGERPRINT, more: dict[str, float] | None = None
) -> Path:
    """The folder of a stage that was trained to these weights."""
    folder.mkdir(parents=True)
    weights = {name: value.detach().clone() for name, value in module.named_parameters()}
    save_file(
        weights | {name: torch.tensor([value]) for name, value in (more or {}).items()}, folder / "weights.safetensors"
    )
    (folder / "parents.json").write_text(json.dumps({} if start_from is None else {"start_from": start_from}))
    return folder


def write_inputs(folder: Path, data: PreferenceData | None = None) -> tuple[dict[str, Path], Path]:
    """Inputs by name and the reference: networks of random weights."""
    preferences = Preferences.read(prepared(folder / "preferences", data))
    torch.manual_seed(0)
    reference, dpo = (make_policy(NETWORK, preferences.vocabulary) for _ in range(2))
    judge = make_reward_model(NETWORK, preferences.vocabulary, "token_sum")
    nn.init.normal_(judge.head.weight)
    measured = {"score.mean": 0.5, "score.scale": 2.0, "score.scale_within_prompt": 1.5}
    inputs = {
        "preferences": folder / "preferences",
        "dpo": saved(dpo, folder / "dpo"),
        "reward_model": saved(judge, folder / "reward_model", more=measured),
    }
    return inputs, saved(reference, folder / "sft", start_from=None)
