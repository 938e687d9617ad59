"""Responses of a policy to held-out prompts, and what is measured on them: reward, divergence, length."""

# S responses   R tokens of a response   N real response tokens   V vocabulary

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from models.common.contract import World
from models.common.errors import ConfigError
from models.rto.config import PpoStage
from models.rto.network import token_log_probs
from models.rto.policies import FrozenPolicy, policies_for
from models.rto.policy_config import PolicyConfig
from models.rto.preferences import Preferences, padded_prompts, true_rewards
from models.rto.ragged import Ragged
from models.rto.rollout import generate, without_early_end
from models.rto.scoring import Scoring, make_scoring
from models.rto.sequences import Sequences

Array = NDArray[np.float64]

_MOST_TOKENS = 2**16  # of a batch, prompts included, as its cache holds keys and values of all
_MOST_LOGITS = 2**25  # of a batch: a few copies of so many numbers fit any machine
_MOST_ROWS = 512
_STREAM = 101  # of random numbers, so that no rollout of a training shares it


@dataclass(frozen=True)
class Measured:
    """What was found on each response, by name.

    reward: the true reward; where nobody knows it, the score; absent where there is neither
    score: as PPO has it, normalised; absent where there is none
    kl: from the reference, in nats: the sum over the states passed through of the exact divergence there
    log_ratio: log pi/pi_ref of the response, the other unbiased estimate (k1)
    length, truncated: in tokens; 1 where a response was cut off, else 0
    """

    columns_S: dict[str, Array]

    def means(self) -> dict[str, float]:
        """Mean of each, by name, and `NAME_error`, its standard error."""
        found: dict[str, float] = {}
        for name, values_S in self.columns_S.items():
            found[name] = float(values_S.mean())
            found[f"{name}_error"] = float(values_S.std(ddof=1) / np.sqrt(len(values_S)))
        return found

    @classmethod
    def joined(cls, parts: list[Measured]) -> Measured:
        return cls({name: np.concatenate([part.columns_S[name] for part in parts]) for name in parts[0].columns_S})


@dataclass(frozen=True)
class Judge:
    """What policies are judged by: the same prompts and the same random numbers for all of them.

    most, least: tokens of a response, as `generate` has them.
    """

    preferences: Preferences
    most: int
    least: int
    scoring: Scoring | None
    seed: int
    device: torch.device

    def responses(self, policy: FrozenPolicy, samples: int) -> Iterator[tuple[Sequences, Tensor]]:
        """So many sampled responses, batch by batch, one to each held-out prompt in turn; and which were cut off."""
        prompts = self.preferences.held_out.prompts
        rows = np.arange(samples) % len(prompts)
        return sampled_responses(
            policy,
            prompts.take(rows),
            np.random.default_rng([self.seed, _STREAM]),
            most=self.most,
            least=self.least,
            end=self.preferences.end,
            device=self.device,
        )

    def measure(self, policy: FrozenPolicy, reference: FrozenPolicy, samples: int) -> Measured:
        """The policy on so many sampled responses."""
        return Measured.joined(
            [
                self.measure_batch(policy, reference, sequences, truncated_S)
                for sequences, truncated_S in self.responses(policy, samples)
            ]
        )

    def measure_batch(
        self, policy: FrozenPolicy, reference: FrozenPolicy, sequences: Sequences, truncated_S: Tensor
    ) -> Measured:
        columns: dict[str, Array] = {}
        if self.scoring is not None:
            columns["score"] = columns["reward"] = _array(self.scoring(sequences)[:, 0])
        truth = self.preferences.truth()
        if truth is not None:
            columns["reward"] = true_rewards(truth, sequences)[:, 0]
        kl_S, log_ratio_S = self.divergence(policy, reference, sequences)
        values = {"kl": kl_S, "log_ratio": log_ratio_S, "length": sequences.lengths_BG[:, 0], "truncated": truncated_S}
        return Measured(columns | {name: _array(value_S) for name, value_S in values.items()})

    @torch.no_grad()
    def divergence(self, policy: FrozenPolicy, reference: FrozenPolicy, sequences: Sequences) -> tuple[Tensor, Tensor]:
        """Two estimates of each response's KL from the reference [S], whose means are the same.

            sum_h KL(pi(.|s_h) || pi_ref(.|s_h))    and    sum_h log pi(y_h|s_h) / pi_ref(y_h|s_h)

        The first has the smaller variance: it leaves nothing to chance but which states a response comes through.
        """
        end, least = self.preferences.end, self.least
        found = []
        rows_of = sequences.responses_BGR.shape[2] * policy.vocabulary
        for rows in batches(len(sequences.prompts_BP), rows_of, _MOST_LOGITS):
            part = sequences.of(slice(rows.start, rows.stop))
            log_p_NV, log_q_NV = (
                F.log_softmax(without_early_end(each(part), part, end=end, least=least).float(), dim=-1)
                for each in (policy, reference)
            )
            # A token that is ruled out has p = 0 and log p = log q = -inf.
            difference_NV = torch.where(log_p_NV.isneginf(), 0.0, log_p_NV - log_q_NV)
            kl_N = (log_p_NV.exp() * difference_NV).sum(dim=-1)
            log_ratio_N = difference_NV.gather(-1, part.targets_N()[:, None])[:, 0]
            found.append(torch.stack([part.spread(values_N).sum(dim=-1)[:, 0] for values_N in (kl_N, log_ratio_N)]))
        kl_S, log_ratio_S = torch.cat(found, dim=1)
        return kl_S, log_ratio_S


def sampled_responses(
    policy: FrozenPolicy,
    prompts: Ragged,
    random: np.random.Generator,
    *,
    most: int,
    least: int,
    end: int | None,
    device: torch.device,
) -> Iterator[tuple[Sequences, Tensor]]:
    """A response to each prompt, batch by batch, and which of them were cut off.

    Each token is read off the policy's law with the next of `random`'s numbers, so that policies that are given equal
    ones share their luck. The other arguments are as `generate` has them.
    """
    for rows in batches(len(prompts), prompts.longest + most, _MOST_TOKENS):
        prompts_SP, prompt_real_SP = padded_prompts(prompts.take(np.array(rows)))
        rollout = generate(
            policy,
            prompts_SP.to(device),
            prompt_real_SP.to(device),
            group=1,
            most=most,
            least=least,
            end=end,
            uniforms_BGR=torch.from_numpy(random.random((len(rows), 1, most))),
        )
        yield rollout.sequences, rollout.truncated_BG[:, 0]


def make_judge(world: World, preferences: Preferences, arm: PpoStage) -> Judge:
    """The judge of arms such as this one; raises ConfigError where nothing says how good a response is."""
    folder = world.inputs.get("reward_model")
    scoring = None
    if folder is not None or arm.score.source != "model":
        scoring = make_scoring(
            arm.score,
            preferences,
            network=arm.scorer,
            form=arm.reward_model_form,
            folder=folder,
            device=world.device,
        )
    elif preferences.truth() is None:
        raise ConfigError(
            "nothing says how good a response is: the data has no true reward, and there is no score\n"
            "fits: a reward_model, or score.source=function or text_model"
        )
    return Judge(preferences, arm.most_response, arm.least_response, scoring, world.seed, world.device)


def policy_and_reference(
    config: PolicyConfig, vocabulary: int, world: World, folder: Path | None
) -> tuple[FrozenPolicy, FrozenPolicy]:
    """The policy in a folder (None: the start itself), and the reference that it began with, in the input 'sft'."""
    # DPO's place in the set is for any policy that began with the reference, whose network it may share.
    policies = policies_for(config, vocabulary, start_from=world.inputs.get("sft"), dpo=folder, device=world.device)
    return policies.reference if policies.dpo is None else policies.dpo, policies.reference


@torch.no_grad()
def response_log_probs(policy: FrozenPolicy, sequences: Sequences) -> Tensor:
    """log p of each response token at its place [B, G, R]; zero where not real."""
    found = []
    rows_of = sequences.responses_BGR[0].numel() * policy.vocabulary
    for rows in batches(len(sequences.prompts_BP), rows_of, _MOST_LOGITS):
        part = sequences.of(slice(rows.start, rows.stop))
        log_probs_BGR = part.spread(token_log_probs(policy(part), part.targets_N()))
        found.append(F.pad(log_probs_BGR, (0, sequences.responses_BGR.shape[2] - log_probs_BGR.shape[2])))
    return torch.cat(found)


def batches(rows: int, size: int, most: int) -> Iterator[range]:
    """The rows in order, in batches that are no larger than `most` where each row has this size."""
    at_once = max(1, min(_MOST_ROWS, most // max(1, size)))
    for start in range(0, rows, at_once):
        yield range(start, min(rows, start + at_once))


def _array(values_S: Tensor) -> Array:
    return values_S.double().cpu().numpy()
