"""PPO on token rewards (arXiv 2404.18922, algorithm 2), and its relatives without a critic."""

# S responses of the buffer   M responses of an update   R response tokens   N real response tokens of a piece

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from models.common.contract import LearnerState, Metrics, World
from models.common.warmup_descent import Descent
from models.rto.buffer import Buffer
from models.rto.config import PpoStage
from models.rto.experience import MINIBATCHES, Experience
from models.rto.guards import Guards
from models.rto.network import entropy, token_log_probs
from models.rto.ppo_inputs import read_inputs
from models.rto.ppo_losses import clip_fraction, kl_k3, policy_loss, token_weights, value_loss


class PpoLearner:
    """Updates policy and critic on rollouts; a step is one update, and every `updates`-th begins with a rollout."""

    def __init__(self, config: PpoStage, world: World) -> None:
        self.config = config
        self.world = world
        given = read_inputs(config, world)
        warmup = config.critic.warmup_iterations * config.updates if given.critic is not None else 0
        self.actor = Descent(given.policies.actor, config.optimizer, max(1, config.max_steps - warmup), world)
        self.critic = (
            None if given.critic is None else Descent(given.critic, config.critic.optimizer, config.max_steps, world)
        )
        given.policies.follow_actor()
        self.experience = Experience(
            config, world, given, self.actor.engine, None if self.critic is None else self.critic.engine
        )
        self.guards = Guards(config.guards)
        self.steps_done = 0
        self.buffer: Buffer | None = None  # of the iteration that the next step belongs to, once it is there
        self.rollout: Metrics = {}
        self.finished, self.sound = False, False

    def step(self) -> Metrics:
        config = self.config
        iteration, update = divmod(self.steps_done, config.updates)
        if self.buffer is None:
            self._roll_out(iteration)
        assert self.buffer is not None
        rows_M = self._minibatch(iteration, update)
        weight_MR = token_weights(self.buffer.real_SR[rows_M], config.reduction)
        told: Metrics = {"policy_loss": 0.0, "clip_fraction": 0.0}  # of this rank, until it is averaged
        rate, norm = 0.0, 0.0
        if self.critic is None or iteration >= config.critic.warmup_iterations:
            losses = self._policy_losses(self.buffer, rows_M, weight_MR, told)
            rate, norm = self.actor.update(losses, self._piece_count)
        norms = {"learning_rate": rate, "gradient_norm": norm}
        if self.critic is not None:
            told["value_loss"] = 0.0
            losses = self._value_losses(self.buffer, rows_M, weight_MR, told)
            _, critic_norm = self.critic.update(losses, self._piece_count)
            norms |= {"gradient_norm": math.hypot(norm, critic_norm), "critic_gradient_norm": critic_norm}
        self.steps_done += 1
        # What the guards have just seen is one update old at most; what later updates do, the next rollout will show.
        self.sound = update == 0 and self.guards.are_content
        if update + 1 == config.updates:
            self.buffer = None
        means = self.world.mean(torch.tensor(list(told.values()), dtype=torch.float64, device=self.world.device))
        return self.rollout | dict(zip(told, means.tolist(), strict=True)) | norms

    def state_dict(self) -> LearnerState:
        parts = {"actor": self.actor} | ({} if self.critic is None else {"critic": self.critic})
        return LearnerState.joined(
            {name: part.state_dict() for name, part in parts.items()},
            steps_done=self.steps_done,
            buffer=None if self.buffer is None else self.buffer.state_dict(),
            rollout=dict(self.rollout),
            guards=self.guards.state_dict(),
        )

    def load_state_dict(self, state: LearnerState) -> None:
        self.actor.load_state_dict(state.part("actor"))
        if self.critic is not None:
            self.critic.load_state_dict(state.part("critic"))
        self.steps_done = state.shared["steps_done"]
        buffer = state.shared["buffer"]
        self.buffer = None if buffer is None else Buffer.of_state(buffer, self.world.device)
        self.rollout = dict(state.shared["rollout"])
        self.guards.load_state_dict(state.shared["guards"])

    def weights(self) -> dict[str, Tensor]:
        return self.actor.engine.weights()

    def _roll_out(self, iteration: int) -> None:
        buffer, rollout, score_spread = self.experience.collect(iteration)
        self.guards.check(self.steps_done, rollout, score_spread)
        self.buffer, self.rollout = buffer, rollout

    def _minibatch(self, iteration: int, update: int) -> Tensor:
        """The rows of this update, of all ranks: each pass through the buffer has an order of its own."""
        epoch, place = divmod(update, self.config.minibatches)
        order_S = np.random.default_rng([self.world.seed, MINIBATCHES, iteration, epoch]).permutation(
            self.config.rollouts
        )
        size = self.config.batch_size
        return torch.from_numpy(order_S[place * size : (place + 1) * size]).to(self.world.device)

    @property
    def _piece_count(self) -> int:
        own = self.config.batch_size // self.world.size
        return math.ceil(own / (self.config.micro_batch or own))

    def _pieces(self, buffer: Buffer, rows_M: Tensor, weight_MR: Tensor) -> Iterator[tuple[Buffer, Tensor, Tensor]]:
        """This rank's rows as many at once as may be, which of their tokens are real, and the weights of these.

        The weights are of the mean over ranks, as the engine takes it.
        """
        mine = self.world.share(self.config.batch_size)
        at_once = self.config.micro_batch or self.config.batch_size
        for rows, weight_SR in zip(rows_M[mine].split(at_once), weight_MR[mine].split(at_once), strict=True):
            piece = buffer.of(rows)
            real_SR = piece.real_SR
            yield piece, real_SR, weight_SR[:, : real_SR.shape[1]][real_SR] * self.world.size

    def _policy_losses(self, buffer: Buffer, rows_M: Tensor, weight_MR: Tensor, told: Metrics) -> Iterator[Tensor]:
        """The policy's loss on each piece of the batch; adds to what is told."""
        config = self.config
        for piece, real_SR, weight_N in self._pieces(buffer, rows_M, weight_MR):
            sequences = piece.sequences
            logits_NV = self.experience.written_law(self.actor.engine(sequences), sequences)
            log_probs_N = token_log_probs(logits_NV, piece.tokens_SR[real_SR])
            old_N = piece.log_probs_SR[real_SR]
            loss_N = policy_loss(log_probs_N, old_N, piece.advantage_SR[real_SR], config.clip)
            told["policy_loss"] += float((weight_N * loss_N.detach()).sum())
            beyond_N = clip_fraction(log_probs_N.detach(), old_N, config.clip)
            told["clip_fraction"] += float((weight_N * beyond_N).sum())
            if config.kl_loss_weight:
                loss_N = loss_N + config.kl_loss_weight * kl_k3(log_probs_N, piece.reference_SR[real_SR])
            if config.entropy_weight:
                loss_N = loss_N - config.entropy_weight * entropy(logits_NV)
            yield (weight_N * loss_N).sum()

    def _value_losses(self, buffer: Buffer, rows_M: Tensor, weight_MR: Tensor, told: Metrics) -> Iterator[Tensor]:
        """The critic's loss on each piece of the batch; adds to what is told."""
        assert self.critic is not None
        for piece, real_SR, weight_N in self._pieces(buffer, rows_M, weight_MR):
            value_N = self.critic.engine(piece.sequences).squeeze(1)[:, :-1][real_SR]
            old_N, return_N = piece.value_ST[:, :-1][real_SR], piece.return_SR[real_SR]
            loss = (weight_N * value_loss(value_N, old_N, return_N, self.config.critic.value_clip)).sum()
            told["value_loss"] += float(loss.detach())
            yield loss
