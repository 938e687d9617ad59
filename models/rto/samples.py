"""Sample responses, token by token, with what DPO's part of the reward gives each token."""

# S responses   R tokens of a response

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.common.report import Sample, SampleLine, TokenLine
from models.rto.measurement import Measured, response_log_probs
from models.rto.policies import FrozenPolicy
from models.rto.preferences import Preferences, unpadded
from models.rto.reward_config import TokenRewardConfig
from models.rto.sequences import Sequences
from models.rto.token_reward import token_reward

SHOWN = 3  # responses of each policy


@dataclass(frozen=True)
class ShownResponse:
    """A response with the reward of each token, and what else was found on it."""

    prompt: str
    tokens: tuple[str, ...]
    values: tuple[float, ...]
    found: dict[str, float]


def dpo_rewards(config: TokenRewardConfig, dpo: FrozenPolicy, reference: FrozenPolicy, sequences: Sequences) -> Tensor:
    """DPO's part of RTO's reward at each token of the first response to each prompt [S, R]: beta1, clipped."""
    reference_SR = response_log_probs(reference, sequences)[:, 0]
    part = token_reward(
        config.but(layout="rto", beta2=0.0, beta3=0.0),
        real_SR=sequences.response_real_BGR[:, 0],
        policy_SR=torch.zeros_like(reference_SR),
        reference_SR=reference_SR,
        dpo_SR=response_log_probs(dpo, sequences)[:, 0],
        score_S=None,
    )
    return part.dpo_SR


def shown_responses(
    preferences: Preferences, sequences: Sequences, rewards_SR: Tensor, measured: Measured
) -> list[ShownResponse]:
    """The first responses of a batch, which is that of the first measured ones."""
    prompts, responses = unpadded(sequences)
    blank = " " if preferences.tokenizer is None else ""  # a tokenizer's tokens bring their own
    return [
        ShownResponse(
            prompt=preferences.text(prompts[place]),
            tokens=tuple(text + blank for text in preferences.token_texts(responses[place])),
            values=tuple(float(value) for value in rewards_SR[place, : len(responses[place])]),
            found={name: float(values_S[place]) for name, values_S in measured.columns_S.items()},
        )
        for place in range(min(SHOWN, len(responses)))
    ]


def make_samples(
    shown: Mapping[str, Sequence[ShownResponse]], labels: Mapping[str, str], config: TokenRewardConfig, reward: str
) -> list[Sample]:
    """A card for each prompt, with each policy's response to it. reward: what `found["reward"]` is called."""
    most = None
    if config.beta1 and config.log_ratio_clip is not None:
        most = config.beta1 * config.log_ratio_clip
    return [
        Sample(
            title=f"Sample {number}",
            token_values=f"token reward beta1 log pi_dpo/pi_ref, beta1 = {config.beta1:g}",
            most=most,
            lines=(
                SampleLine(label="prompt", text=responses[0].prompt),
                *(
                    TokenLine(label=labels[name], tokens=each.tokens, values=each.values, note=_note(each, reward))
                    for name, each in zip(shown, responses, strict=True)
                ),
            ),
        )
        for number, responses in enumerate(zip(*shown.values(), strict=True), start=1)
    ]


def _note(response: ShownResponse, reward: str) -> str:
    found = response.found
    told = [f"{reward} {found['reward']:.3g}"] if "reward" in found else []
    told += [f"sum of the token rewards {sum(response.values):.3g}", f"KL {found['kl']:.3g} nats"]
    return f"{', '.join(told)}, {found['length']:.0f} tokens{', cut off' if found['truncated'] else ''}"
