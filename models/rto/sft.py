"""The supervised start: a policy that writes as the demonstrations do."""

# N real response tokens   V vocabulary

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from models.common.contract import LearnerState, Metrics, World
from models.common.rows import Rows, draw_rows
from models.common.warmup_descent import Descent
from models.rto.batches import SFT, check_lengths, pieces, read_preferences
from models.rto.config import SftStage
from models.rto.network import make_policy, read_policy, token_log_probs
from models.rto.preferences import ragged_sequences


def sft_loss(logits_NV: Tensor, targets_N: Tensor, tokens: float) -> Tensor:
    """How surprised the policy is by the demonstrations' responses, given their prompts. Scalar, in nats a token.

        L = -(1 / tokens) sum_i sum_t log pi(y_i,t | x_i, y_i,<t)

    tokens: all that there are to learn, of which these may be a part.
    """
    return -token_log_probs(logits_NV, targets_N).sum() / tokens


class SftLearner:
    """Trains a policy on demonstrations: a fresh or pretrained one, or further from where another stage ended."""

    def __init__(self, config: SftStage, world: World) -> None:
        self.config = config
        self.world = world
        data = read_preferences(world, config.policy)
        self.prompts, self.responses = data.demonstration_prompts, data.demonstrations
        self.lengths = self.prompts.lengths + self.responses.lengths
        check_lengths(self.prompts, (self.responses,), config.policy.context, "demonstration")
        if world.start_from is None:
            policy = make_policy(config.policy, data.vocabulary)
        else:
            policy = read_policy(config.policy, world.start_from, data.vocabulary, world.device)
        self.descent = Descent(policy, config.optimizer, config.max_steps, world)
        self.finished, self.sound = False, True

    def step(self) -> Metrics:
        config, world = self.config, self.world
        rows_B = draw_rows(len(self.responses), config.batch_size, self.descent.steps_done, (world.seed, SFT))
        parts = pieces(rows_B[world.share(config.batch_size)], self.lengths, config.micro_batch)
        tokens = float(self.responses.lengths[rows_B].sum()) / world.size  # the engine takes the mean over ranks
        told: list[Tensor] = []
        rate, gradient_norm = self.descent.update(self._losses(parts, tokens, told), len(parts))
        return {
            "loss": float(world.mean(torch.stack(told).sum())),
            "learning_rate": rate,
            "gradient_norm": gradient_norm,
        }

    def _losses(self, parts: list[Rows], tokens: float, told: list[Tensor]) -> Iterator[Tensor]:
        """The loss of each piece of this rank's rows; adds it to what is told."""
        for rows in parts:
            batch = ragged_sequences(self.prompts, (self.responses,), rows).to(self.world.device)
            loss = sft_loss(self.descent.engine(batch), batch.targets_N(), tokens)
            told.append(loss.detach())
            yield loss

    def state_dict(self) -> LearnerState:
        return self.descent.state_dict()

    def load_state_dict(self, state: LearnerState) -> None:
        self.descent.load_state_dict(state)

    def weights(self) -> dict[str, Tensor]:
        return self.descent.engine.weights()
