"""An iteration's experience: responses are sampled, scored and turned into rewards and advantages."""

# B prompts of this rank   G responses of each   S responses of all ranks   P prompt tokens   R response tokens
# T = R + 1 states   N real response tokens

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.common.contract import Engine, Metrics, World
from models.rto.advantage import explained_variance, generalized_advantage, group_advantage, return_to_go, whitened
from models.rto.buffer import Buffer, distinct, draw_prompts, gather_rows, rows_of_prompts
from models.rto.config import PpoStage
from models.rto.network import token_log_probs
from models.rto.policies import FrozenPolicy
from models.rto.ppo_config import WRITTEN_AT_ONCE
from models.rto.ppo_inputs import PpoInputs
from models.rto.ppo_losses import kl_k1
from models.rto.preferences import padded_prompts, pair_sequences, true_rewards
from models.rto.rollout import Rollout, generate, without_early_end
from models.rto.sequences import Sequences
from models.rto.token_reward import TokenReward, token_reward

# What a random stream is for, so that no two parts share one.
PROMPTS, TOKENS, MINIBATCHES = range(3)


class Experience:
    """Makes the buffer of an iteration. Responses depend on seed, iteration and policy, not on the ranks they are
    spread over."""

    def __init__(self, config: PpoStage, world: World, given: PpoInputs, actor: Engine, critic: Engine | None) -> None:
        self.config = config
        self.world = world
        self.given = given
        self.actor = actor
        self.critic = critic
        self.prompts = distinct(given.preferences.train.prompts)
        self.truth = given.preferences.truth()
        with torch.no_grad():
            self.computes_in = actor(pair_sequences(given.preferences.train, [0]).to(world.device)).dtype

    @torch.no_grad()
    def collect(self, iteration: int) -> tuple[Buffer, Metrics, float]:
        """The buffer, what is to be told of it, and the standard deviation of its scores."""
        rollout = self._write(iteration)
        rows = gather_rows(self._judged(rollout), self.world.gather)
        reward = self._rewarded(rows)
        advantage_SR, return_SR = self._advantages(reward.reward_SR, rows)
        kept = {name: value for name, value in rows.items() if name in Buffer.__dataclass_fields__}
        buffer = Buffer(**kept, return_SR=return_SR, advantage_SR=advantage_SR)
        spread = float(rows["score_S"].std(correction=0)) if "score_S" in rows else 0.0
        return buffer, self._told(iteration, rows, reward, buffer), spread

    def _write(self, iteration: int) -> Rollout:
        """This rank's share of the responses."""
        config, world, preferences = self.config, self.world, self.given.preferences
        count, group = config.rollouts // config.responses_per_prompt, config.responses_per_prompt
        drawn = draw_prompts(self.prompts, count, iteration, (world.seed, PROMPTS))
        prompts_BP, real_BP = (each[world.share(count)].to(world.device) for each in padded_prompts(drawn))
        uniforms = np.random.default_rng([world.seed, TOKENS, iteration]).random((count, group, config.most_response))
        uniforms_BGR = torch.from_numpy(uniforms[world.share(count)])
        policy: FrozenPolicy = self.actor.module  # pyright: ignore[reportAssignmentType]
        with self._in_the_actors_precision():
            parts = [
                generate(
                    policy,
                    prompts_BP[some],
                    real_BP[some],
                    group=group,
                    most=config.most_response,
                    least=config.least_response,
                    end=preferences.end,
                    uniforms_BGR=uniforms_BGR[some],
                )
                for some in self._pieces(len(prompts_BP), WRITTEN_AT_ONCE)
            ]
        return _joined(parts)

    def _judged(self, rollout: Rollout) -> dict[str, Tensor]:
        """This rank's rows: what each network says of its responses."""
        policies, scoring = self.given.policies, self.given.scoring
        columns: dict[str, list[Tensor]] = {}
        for some in self._pieces(len(rollout.truncated_BG)):
            whole = rollout.sequences
            batch = Sequences(
                whole.prompts_BP[some],
                whole.prompt_real_BP[some],
                whole.responses_BGR[some],
                whole.response_real_BGR[some],
            )
            row = {"log_probs_SR": rollout.log_probs_BGR[some]}
            if self.computes_in != torch.float32:
                # The pass that is trained rounds otherwise than the one that writes: at the first update the ratio of
                # the two would not be 1.
                row["log_probs_SR"] = self._log_probs(self.actor, batch)
            with self._in_the_actors_precision():
                row["reference_SR"] = self._log_probs(policies.reference, batch)
                if self.config.reward.weighs_dpo:
                    assert policies.dpo is not None
                    row["dpo_SR"] = self._log_probs(policies.dpo, batch)
                if scoring is not None:
                    row["score_S"] = scoring(batch)
            if self.critic is not None:
                row["value_ST"] = self.critic(batch)
            for name, value in row.items():
                columns.setdefault(name, []).append(value.float().flatten(0, 1))
        rows = rows_of_prompts(rollout.sequences) | {name: torch.cat(parts) for name, parts in columns.items()}
        rows["truncated_S"] = rollout.truncated_BG.flatten()
        if self.critic is None:
            rows["value_ST"] = torch.zeros_like(torch.nn.functional.pad(rows["reference_SR"], (0, 1)))
        if self.truth is not None:
            true_S = torch.from_numpy(true_rewards(self.truth, rollout.sequences)).flatten()
            rows["true_S"] = true_S.to(self.world.device, torch.float32)
        return rows

    def _log_probs(self, policy: FrozenPolicy | Engine, batch: Sequences) -> Tensor:
        """log p of each token [B, G, R] under the law that responses are written by."""
        logits_NV = self.written_law(policy(batch), batch)
        return batch.spread(token_log_probs(logits_NV, batch.targets_N()))

    def written_law(self, logits_NV: Tensor, batch: Sequences) -> Tensor:
        """The logits of the law that responses are written by, in which the first tokens may not be the end."""
        return without_early_end(logits_NV, batch, end=self.given.preferences.end, least=self.config.least_response)

    def _in_the_actors_precision(self) -> AbstractContextManager[Any]:
        """For networks called without an engine: the precision that the actor's engine computes in."""
        weights = next(self.actor.module.parameters()).dtype
        lower = self.computes_in not in (weights, torch.float32)
        return torch.autocast(self.world.device.type, dtype=self.computes_in) if lower else nullcontext()

    def _rewarded(self, rows: dict[str, Tensor]) -> TokenReward:
        score_S = None
        if self.given.scoring is not None:
            score_S = self.given.scoring.rewarded(rows["score_S"], rows["truncated_S"])
        return token_reward(
            self.given.reward,
            real_SR=rows["real_SR"],
            policy_SR=rows["log_probs_SR"],
            reference_SR=rows["reference_SR"],
            dpo_SR=rows.get("dpo_SR"),
            score_S=score_S,
            tokens_SR=rows["tokens_SR"],
        )

    def _advantages(self, reward_SR: Tensor, rows: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The advantages as the policy takes them, and the returns as the critic does."""
        config, real_SR = self.config, rows["real_SR"]
        if config.algorithm == "ppo":
            advantage_SR = generalized_advantage(
                reward_SR,
                rows["value_ST"],
                real_SR,
                discount=config.discount,
                gae_lambda=config.gae_lambda,
                bootstrap_S=rows["truncated_S"] if config.score.truncated == "bootstrap" else None,
            )
            return whitened(advantage_SR, real_SR), (advantage_SR + rows["value_ST"][:, :-1]) * real_SR
        return_SR = return_to_go(reward_SR, real_SR, config.discount)
        if config.algorithm == "reinforce":
            return whitened(return_SR, real_SR), return_SR
        return group_advantage(reward_SR, real_SR, config.discount, config.responses_per_prompt), return_SR

    def _told(self, iteration: int, rows: dict[str, Tensor], reward: TokenReward, buffer: Buffer) -> Metrics:
        """The rollout's metrics. loss: minus the mean return, which is what the algorithm makes as large as it can."""
        real_SR = buffer.real_SR
        kl_SR = torch.where(real_SR, kl_k1(buffer.log_probs_SR, buffer.reference_SR), 0.0)
        told = {
            "rollouts": float(iteration * self.config.rollouts),
            "loss": -float(reward.reward_SR.sum(dim=1).mean()),
            "kl": float(kl_SR.sum(dim=1).mean()),
            "entropy": -float(buffer.log_probs_SR[real_SR].mean()),
            "response_length": float(real_SR.sum(dim=1).float().mean()),
            "truncated_share": float(rows["truncated_S"].float().mean()),
            "log_ratio_clip_fraction": float(reward.clipped_SR[real_SR].float().mean()),
        }
        told |= {f"share_{name}": share for name, share in reward.shares_of_return().items()}
        if self.config.algorithm == "ppo":
            values_N, returns_N = buffer.value_ST[:, :-1][real_SR], buffer.return_SR[real_SR]
            told["explained_variance"] = explained_variance(values_N, returns_N)
        if self.config.reward.weighs_score:
            told["score"] = float(rows["score_S"].mean())
        if "true_S" in rows:
            told["true_reward"] = float(rows["true_S"].mean())
        return told

    def _pieces(self, prompts: int, times: int = 1) -> Iterator[slice]:
        """This rank's prompts, as many at once as may be."""
        most = self.config.micro_batch
        at_once = prompts if most is None else max(1, most * times // self.config.responses_per_prompt)
        return (slice(start, start + at_once) for start in range(0, prompts, at_once))


def _joined(parts: list[Rollout]) -> Rollout:
    """One rollout of all parts."""
    sequences = Sequences(
        torch.cat([part.sequences.prompts_BP for part in parts]),
        torch.cat([part.sequences.prompt_real_BP for part in parts]),
        torch.cat([part.sequences.responses_BGR for part in parts]),
        torch.cat([part.sequences.response_real_BGR for part in parts]),
    )
    return Rollout(
        sequences,
        torch.cat([part.log_probs_BGR for part in parts]),
        torch.cat([part.truncated_BG for part in parts]),
    )
