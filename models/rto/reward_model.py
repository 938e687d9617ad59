"""The score of a whole response, learnt from preference pairs."""

# B pairs   2 chosen, rejected

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from models.common.contract import LearnerState, Metrics, World
from models.common.rows import Rows, draw_rows
from models.common.warmup_descent import Descent
from models.rto.batches import REWARD_MODEL, check_lengths, over_pairs, pair_lengths, pieces, read_preferences
from models.rto.config import RewardModelStage
from models.rto.network import RewardModel, load_backbone, make_reward_model
from models.rto.policy_config import PolicyConfig
from models.rto.preference_losses import logistic_loss
from models.rto.preferences import pair_sequences
from models.rto.score_scale import measure_scores, score_weights

_WITHOUT_WEIGHTS = ("context", "recompute")  # settings of a network that may differ where its weights are shared


def reward_model_loss(scores_B2: Tensor, centring: float) -> Tensor:
    """How surprised the scores are by each label, and how far they are from zero, [B].

        l = -log sigmoid(r_chosen - r_rejected) + c (r_chosen^2 + r_rejected^2) / 2

    The first part is Bradley-Terry's (Ouyang et al. 2022, eq. 1), which fixes no offset of a prompt's scores. The
    second does; unlike Eisenstein et al. (2023, section 2), who square the sum of both, it also holds the scale.
    """
    margin_B = scores_B2[:, 0] - scores_B2[:, 1]
    return logistic_loss(margin_B, label_smoothing=0.0) + centring * scores_B2.square().mean(dim=-1)


class RewardModelLearner:
    """Trains the reward model; it publishes how its scores lie over the held-out pairs with its weights."""

    def __init__(self, config: RewardModelStage, world: World) -> None:
        self.config = config
        self.world = world
        data = read_preferences(world, config.network)
        self.pairs, self.held_out = data.train, data.held_out
        self.lengths = pair_lengths(self.pairs)
        for name, pairs in (("pair", self.pairs), ("held-out pair", self.held_out)):
            check_lengths(pairs.prompts, (pairs.chosen, pairs.rejected), config.network.context, name)
        model = start_reward_model(config, data.vocabulary, world.start_from)
        self.descent = Descent(model, config.optimizer, config.max_steps, world)
        self.finished, self.sound = False, True

    def step(self) -> Metrics:
        config, world = self.config, self.world
        rows_B = draw_rows(len(self.pairs), config.batch_size, self.descent.steps_done, (world.seed, REWARD_MODEL))
        parts = pieces(rows_B[world.share(config.batch_size)], self.lengths, config.micro_batch)
        told: list[Tensor] = []
        rate, gradient_norm = self.descent.update(self._losses(parts, told), len(parts))
        names = ("loss", "accuracy", "margin", "score")
        means = dict(zip(names, world.mean(torch.stack(told).sum(dim=0)).tolist(), strict=True))
        return means | {"learning_rate": rate, "gradient_norm": gradient_norm}

    def _losses(self, parts: list[Rows], told: list[Tensor]) -> Iterator[Tensor]:
        """The loss of each piece of this rank's pairs; adds it to what is told."""
        share = self.config.batch_size // self.world.size
        for rows in parts:
            scores_B2 = self.descent.engine(pair_sequences(self.pairs, rows).to(self.world.device)).float()
            loss = reward_model_loss(scores_B2, self.config.centring).sum() / share
            margin_B = (scores_B2[:, 0] - scores_B2[:, 1]).detach()
            right_B = torch.heaviside(margin_B, margin_B.new_tensor(0.5))
            sums = torch.stack([right_B.sum(), margin_B.sum(), scores_B2.detach().mean(dim=-1).sum()])
            told.append(torch.cat([loss.detach()[None], sums / share]))
            yield loss

    def state_dict(self) -> LearnerState:
        return self.descent.state_dict()

    def load_state_dict(self, state: LearnerState) -> None:
        self.descent.load_state_dict(state)

    def weights(self) -> dict[str, Tensor]:
        """The network's weights, and 'score.NAME': what scores are normalised by (`score_scale.py`)."""
        config, world = self.config, self.world
        at_once = config.micro_batch or max(1, config.batch_size // world.size)
        scores_B2 = over_pairs(self.held_out, world, at_once, self.descent.engine)
        measured = measure_scores(scores_B2, self.held_out.prompts)
        return self.descent.engine.weights() | score_weights(measured)


def start_reward_model(config: RewardModelStage, vocabulary: int, start_from: Path | None) -> RewardModel:
    """A reward model that scores every response with 0, on the backbone of the policy that it starts from.

    Where that policy is another network than this one's, as a smaller or a larger one, or there is none, the backbone
    is fresh, or the pretrained one.
    """
    model = make_reward_model(config.network, vocabulary, config.form)
    if start_from is not None and _is_policy_of(config.network, start_from):
        load_backbone(model, start_from)
    return model


def _is_policy_of(network: PolicyConfig, folder: Path) -> bool:
    """Whether the stage in this folder trained a policy with the weights of this network."""
    trained = json.loads((folder / "config.json").read_text()).get("policy") or {}
    own = network.model_dump(mode="json")
    return all(trained.get(name) == value for name, value in own.items() if name not in _WITHOUT_WEIGHTS)
