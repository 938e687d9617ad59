"""Inputs just large enough to try a stage alone: a small dataset, and folders as earlier stages leave them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.common.contract import Inputs
from models.rto.config import DpoStage, PpoStage, SftStage
from models.rto.data_config import BigramTask, PreferenceData
from models.rto.network import Policy, RewardModel, make_policy, make_reward_model
from models.rto.policy_config import PolicyConfig
from models.rto.preferences import Preferences, pair_sequences
from models.rto.score_scale import measure_scores, score_weights

_LENGTH = 12  # tokens of a response, where the context has room for them
_SEED = 5


def rehearse_sft(stage: SftStage, folder: Path) -> Inputs:
    """Data for the supervised start."""
    return Inputs({"preferences": _prepare(folder, stage.policy, _LENGTH)})


def rehearse_preferences(network: PolicyConfig, folder: Path) -> Inputs:
    """Data for the reward model."""
    return Inputs({"preferences": _prepare(folder, network, _LENGTH)})


def rehearse_dpo(stage: DpoStage, folder: Path) -> Inputs:
    """Data and a reference, whose weights are fresh."""
    data = _prepare(folder, stage.policy, _LENGTH)
    policy = _fresh_policy(stage.policy, data)
    _write_stage(folder / "start", {"policy": stage.policy}, _trained(policy), {})
    return Inputs({"preferences": data}, start_from=folder / "start")


def rehearse_ppo(stage: PpoStage, folder: Path) -> Inputs:
    """Data, a reference, a DPO policy a little away from it, and a reward model that prefers some tokens to others."""
    data = _prepare(folder, stage.policy, min(_LENGTH, stage.most_response))
    policy = _fresh_policy(stage.policy, data)
    _write_stage(folder / "start", {"policy": stage.policy}, _trained(policy), {})
    reference = _seal(folder / "start")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        moved = {name: value + 0.1 * value.std() * torch.randn_like(value) for name, value in _trained(policy).items()}
    _write_stage(folder / "dpo", {"policy": stage.policy}, moved, {"start_from": reference})
    _write_stage(folder / "reward_model", {"network": stage.scorer}, _reward_model_weights(stage, data), {})
    inputs = {"preferences": data, "dpo": folder / "dpo", "reward_model": folder / "reward_model"}
    return Inputs(inputs, start_from=folder / "start")


def _prepare(folder: Path, network: PolicyConfig, length: int) -> Path:
    """A folder with a small dataset of bigrams, whose prompts have one token."""
    task = BigramTask(length=min(length, network.context - 1), reward_scale=0.5)
    data = folder / "preferences"
    data.mkdir()
    PreferenceData(task=task, pairs=128, held_out_pairs=16, demonstrations=128).prepare(data)
    return data


def _fresh_policy(config: PolicyConfig, data: Path) -> Policy:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        return make_policy(config, Preferences.read(data).vocabulary)


def _reward_model_weights(stage: PpoStage, data: Path) -> dict[str, Tensor]:
    preferences = Preferences.read(data)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(_SEED)
        model: RewardModel = make_reward_model(stage.scorer, preferences.vocabulary, stage.reward_model_form)
        nn.init.normal_(model.head.weight, std=model.head.in_features**-0.5)
        scores_B2 = model(pair_sequences(preferences.held_out))
    return _trained(model) | score_weights(measure_scores(scores_B2, preferences.held_out.prompts))


def _trained(module: nn.Module) -> dict[str, Tensor]:
    """The weights that a stage would publish."""
    return {name: value.detach().clone() for name, value in module.named_parameters() if value.requires_grad}


def _write_stage(
    folder: Path, config: dict[str, PolicyConfig], weights: dict[str, Tensor], parents: dict[str, str]
) -> None:
    """A folder as the frame leaves it of a trained stage."""
    folder.mkdir()
    save_file(weights, folder / "weights.safetensors")
    _write_json(folder / "config.json", {name: network.model_dump(mode="json") for name, network in config.items()})
    _write_json(folder / "parents.json", parents)


def _seal(folder: Path) -> str:
    """Writes the folder's manifest, as the frame would only do later; returns its SHA-256.

    The DPO policy has to name it as its reference.
    """
    files = {
        file.name: {"sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "bytes": file.stat().st_size}
        for file in folder.iterdir()
    }
    _write_json(folder / "manifest.json", {"format": 1, "about": {}, "files": files})
    return hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()


def _write_json(file: Path, values: Any) -> None:
    file.write_text(json.dumps(values, indent=1, sort_keys=True) + "\n")
