"""What PPO is given: data, policies, scores and the critic's start, each checked before anything is sampled."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from models.common.contract import World
from models.common.errors import ConfigError
from models.rto.batches import read_preferences
from models.rto.config import PpoStage
from models.rto.network import Critic, start_critic
from models.rto.policies import PolicySet, policies_for
from models.rto.preferences import Preferences
from models.rto.reward_config import TokenRewardConfig
from models.rto.scoring import Scoring, make_scoring


@dataclass(frozen=True)
class PpoInputs:
    """reward: the settings with the data's delimiters where they name none.
    scoring: None where beta3 is 0. critic: None for algorithms without one."""

    preferences: Preferences
    policies: PolicySet
    reward: TokenRewardConfig
    scoring: Scoring | None
    critic: Critic | None


def read_inputs(config: PpoStage, world: World) -> PpoInputs:
    """Everything that the stage reads; raises ConfigError where it does not fit together."""
    preferences = read_preferences(world, config.policy)
    _check_workers(config, world)
    if config.algorithm == "ppo" or config.reward.weighs_score:
        preferences.check_tokenizer(config.scorer)
    _check_lengths(config, preferences)
    policies = policies_for(
        config.policy,
        preferences.vocabulary,
        start_from=world.start_from,
        dpo=_dpo_folder(world) if config.reward.weighs_dpo else None,
        device=world.device,
    )
    scoring = None
    if config.reward.weighs_score:
        scoring = make_scoring(
            config.score,
            preferences,
            network=config.scorer,
            form=config.reward_model_form,
            folder=world.inputs.get("reward_model"),
            device=world.device,
        )
    critic = _start_critic(config, world, preferences) if config.algorithm == "ppo" else None
    return PpoInputs(preferences, policies, _with_sentences(config.reward, preferences), scoring, critic)


def _folder(world: World, name: str, why: str) -> Path:
    if name not in world.inputs:
        raise ConfigError(
            f"the stage was given no input '{name}': {why}\ngiven: {', '.join(sorted(world.inputs)) or 'nothing'}"
        )
    return world.inputs[name]


def _dpo_folder(world: World) -> Path:
    """The DPO policy's folder; its log-ratios are rewards only against the reference that it was trained from."""
    folder = _folder(
        world, "dpo", "reward.beta1 is above 0, which weighs a DPO policy; give its folder, or set reward.beta1=0"
    )
    file = folder / "parents.json"
    if not file.exists():
        raise ConfigError(
            f"{folder} holds no parents.json, so that nobody can tell which reference its DPO policy was trained from\n"
            "give the folder of a DPO stage"
        )
    trained_from = json.loads(file.read_text()).get("start_from")
    reference = world.fingerprints.get("start_from")
    if trained_from != reference:
        raise ConfigError(
            f"the DPO policy in {folder} was trained from {_named(trained_from)}, and this stage starts from "
            f"{_named(reference)}\n"
            "its token reward is log pi_dpo / pi_ref, which needs the same reference in both\n"
            "train DPO from this reference, or start this stage from the DPO policy's"
        )
    return folder


def _named(fingerprint: str | None) -> str:
    return "the pretrained weights" if fingerprint is None else f"reference {fingerprint[:12]}"


def _check_workers(config: PpoStage, world: World) -> None:
    prompts = config.rollouts // config.responses_per_prompt
    if prompts % world.size:
        fits = [workers for workers in range(1, prompts + 1) if prompts % workers == 0 and workers < world.size]
        raise ConfigError(
            f"{prompts} prompts of an iteration (batch_size x minibatches / responses_per_prompt) do not divide over "
            f"{world.size} workers; try {max(fits)} workers, or minibatches={config.minibatches * world.size}"
        )


def _check_lengths(config: PpoStage, preferences: Preferences) -> None:
    """Raises ConfigError where prompt and response do not fit into a network's context."""
    longest = preferences.train.prompts.longest
    networks = {"policy": config.policy} | ({"scorer": config.scorer} if config.algorithm == "ppo" else {})
    for name, network in networks.items():
        if longest + config.most_response > network.context:
            raise ConfigError(
                f"the longest prompt has {longest} tokens and a response up to {config.most_response}, and the "
                f"{name}'s context is {network.context}\n"
                f"try {name}.context={longest + config.most_response}, or a smaller most_response"
            )


def _with_sentences(reward: TokenRewardConfig, preferences: Preferences) -> TokenRewardConfig:
    if reward.layout != "semi_rto" or reward.delimiters or reward.sentence is not None:
        return reward
    if not preferences.delimiters:
        raise ConfigError(
            "reward.layout is semi_rto, but neither the settings nor the data say where a sentence ends\n"
            "set reward.delimiters to the tokens that end one, or reward.sentence to its number of tokens"
        )
    return reward.but(delimiters=preferences.delimiters)


def _start_critic(config: PpoStage, world: World, preferences: Preferences) -> Critic:
    whose = config.critic.start
    folder = world.start_from
    if whose == "reward_model":
        why = "critic.start is reward_model; give the folder of one, or set critic.start=policy"
        folder = _folder(world, "reward_model", why)
    return start_critic(config.scorer, preferences.vocabulary, folder, whose)
