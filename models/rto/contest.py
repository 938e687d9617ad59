"""Two policies' answers to the same held-out prompts, and what they are worth."""

# S prompts, with a response each

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.common.contest import HELD_OUT, SIDES, Contest, paired, part_of, read_version
from models.common.contract import World
from models.common.errors import ConfigError
from models.rto.contest_config import SCORER, RtoContest
from models.rto.measurement import sampled_responses
from models.rto.network import RewardForm, read_policy
from models.rto.policy_config import DecoderConfig, PolicyConfig
from models.rto.preferences import Preferences, true_rewards
from models.rto.ragged import Ragged
from models.rto.scoring import Scoring, make_scoring
from models.rto.sequences import Sequences
from models.rto.tasks import read_problem

_STREAM = 102  # of random numbers; measurement.py has 101

Array = NDArray[np.float64]
Reward = Callable[[Sequences], Array]  # of each response [S]


def shards(config: RtoContest, inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Each policy."""
    if config.reads_reward_models:
        for side in SIDES:
            if not (inputs[side] / SCORER).is_dir():
                raise ConfigError(
                    f"the {side} was published without its reward model, and files have no true reward\n"
                    "fits: versions published with one; or a score of source function or text_model"
                )
    return [{"side": side} for side in SIDES]


@torch.no_grad()
def process(config: RtoContest, shard: dict[str, Any], world: World) -> Array:
    """The reward of the policy's response to each prompt [S]; both get the same prompts and random numbers."""
    preferences, folder = Preferences.read(world.inputs[HELD_OUT]), world.inputs[shard["side"]]
    version = read_version(folder)
    network: PolicyConfig = part_of(version, "policy", PolicyConfig)
    preferences.check_tokenizer(network)
    random = np.random.default_rng([config.seed, _STREAM])
    responses = sampled_responses(
        read_policy(network, folder, preferences.vocabulary, world.device),
        held_out_prompts(config, preferences, random),
        random,
        most=part_of(version, "rto.most_response", int),
        least=part_of(version, "rto.least_response", int),
        end=preferences.end,
        device=world.device,
    )
    reward = _reward(config, preferences, world)
    return np.concatenate([reward(sequences) for sequences, _ in responses])


def collect(config: RtoContest, parts: Sequence[Array], inputs: Mapping[str, Path], folder: Path) -> None:
    """Writes who won. The margin is told in the reward's own unit."""
    candidate_S, champion_S = parts
    preferences = Preferences.read(inputs[HELD_OUT])
    Contest(
        metric=_metric(config, preferences),
        items=len(candidate_S),
        margin=config.margin * float(champion_S.std(ddof=1)),
        **paired(candidate_S.tolist(), champion_S.tolist())._asdict(),
    ).write(folder)


def held_out_prompts(config: RtoContest, preferences: Preferences, random: np.random.Generator) -> Ragged:
    """Prompts that neither policy was trained on: of a made-up task new ones, of files those set aside, each once.

    Where a task has few prompts, such as classes, they come again, and what is new are the responses.
    """
    if preferences.truth() is not None:
        return read_problem(preferences.about["task"], preferences.tables).prompts(
            random, config.prompts, held_out=True
        )
    prompts = preferences.held_out.prompts
    return prompts.take(random.permutation(len(prompts))[: config.prompts])


def _metric(config: RtoContest, preferences: Preferences) -> str:
    truth = preferences.truth()
    if truth is not None:
        return truth.describe
    return "mean score of both reward models" if config.reads_reward_models else f"score of {config.score.source}"


def _reward(config: RtoContest, preferences: Preferences, world: World) -> Reward:
    """What a response is worth: by the true reward, by the score, or by the mean of the reward models' scores."""
    truth = preferences.truth()
    if truth is not None:
        return lambda sequences: true_rewards(truth, sequences)[:, 0]
    scorings = _scorings(config, preferences, world)

    def reward(sequences: Sequences) -> Array:
        return torch.stack([scoring(sequences)[:, 0] for scoring in scorings]).double().mean(dim=0).cpu().numpy()

    return reward


def _scorings(config: RtoContest, preferences: Preferences, world: World) -> list[Scoring]:
    """Those of both versions' reward models, on a scale that they share; or the one of a function or text model."""
    if not config.reads_reward_models:
        unread = {"network": DecoderConfig(), "form": "token_sum", "folder": None}  # of a reward model
        return [make_scoring(config.score, preferences, **unread, device=world.device)]
    scale = "overall" if config.score.normalise == "none" else config.score.normalise
    found = []
    for side in SIDES:
        version = read_version(world.inputs[side])
        found.append(
            make_scoring(
                config.score.but(normalise=scale),
                preferences,
                network=part_of(version, "scorer", PolicyConfig | None) or part_of(version, "policy", PolicyConfig),
                form=part_of(version, "reward_model.form", RewardForm),
                folder=world.inputs[side] / SCORER,
                device=world.device,
            )
        )
    return found
