"""PPO on a tree (T3) with decoders for networks, from the folders that the stages before it leave."""

# H tokens of a response   A actions   K inner nodes   Y leaves   N response tokens of all leaves

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.rto.config import PpoStage
from models.rto.data_config import PreferenceData, TreeTask
from models.rto.network import Policy, RewardModel, make_policy, make_reward_model, token_log_probs
from models.rto.policy_config import DecoderConfig
from models.rto.ppo import PpoLearner
from models.rto.ppo_config import CriticConfig
from models.rto.preferences import Preferences
from models.rto.reward_config import Layout, ScoreConfig, TokenRewardConfig
from models.rto.sequences import Sequences
from models.rto.tree import Table, Tree
from tests.fixtures.worlds import world_of
from tests.models.rto.ppo_worlds import RATE, prepared, saved

DPO_BETA = 2.0
REWARD = TokenRewardConfig(beta1=0.25, beta2=0.5, beta3=1.0, log_ratio_clip=None, sentence=2)
NETWORK = DecoderConfig(layers=2, width=32, heads=2, feed_forward_width=64, context=8)
# Advantages are whitened, so that near the optimum their noise has variance 1 as well: the learning rate alone decides
# how far from it the policy ends, and has to fall to nearly 0. Table policies bear a rate of 0.05; it ruins a decoder.
FALLING = RATE.but(learning_rate=1e-3, schedule="cosine", final_rate=0.002, beta_2=0.99)
STAGE = PpoStage(
    policy=NETWORK,
    scorer=NETWORK,
    iterations=180,
    batch_size=256,
    minibatches=4,
    epochs=2,
    most_response=5,
    clip=0.1,
    reduction="token",
    reward=REWARD,
    score=ScoreConfig(normalise="none", most=100.0),
    optimizer=FALLING,
    critic=CriticConfig(
        start="policy", optimizer=FALLING.but(learning_rate=3e-3, final_rate=0.05, beta_2=0.95), value_clip=None
    ),
)


class DecodersOnTree:
    """A tree's reference, DPO policy and reward model, each a decoder fitted to the exact table.

    No decoder fits its table to the last digit. The optimum is that of the decoders, not of the tables.
    """

    def __init__(self, folder: Path, layout: Layout, *, seed: int = 0, iterations: int = STAGE.iterations) -> None:
        data = PreferenceData(task=TreeTask(), pairs=4, held_out_pairs=4, demonstrations=4, seed=seed)
        preferences = prepared(folder / "preferences", data)
        tree = Preferences.read(preferences).truth()
        assert isinstance(tree, Tree)
        self.leaves = leaves_of(tree)
        torch.manual_seed(seed)
        self.reference, self.dpo = (make_policy(NETWORK, tree.task.actions) for _ in range(2))
        fit_policy(self.reference, tree, tree.law_log_probs_KA)
        fit_policy(self.dpo, tree, tree.exact_optimum(DPO_BETA).log_probs_KA)
        self.reward_model = make_reward_model(NETWORK, tree.task.actions, "token_sum")
        fit_reward_model(self.reward_model, tree)
        stage = STAGE.but(iterations=iterations, reward=REWARD.but(layout=layout))
        self.stage = stage.but(max_steps=stage.iterations * stage.updates)
        inputs = {
            "preferences": preferences,
            "dpo": saved(self.dpo, folder / "dpo"),
            "reward_model": saved(self.reward_model, folder / "reward_model"),
        }
        self.world = world_of(inputs, saved(self.reference, folder / "sft", start_from=None), seed=seed)

    def trained(self) -> NDArray[np.float64]:
        """The probability of each leaf after PPO."""
        learner = self.stage.build(self.world)
        assert isinstance(learner, PpoLearner)
        for _ in range(self.stage.max_steps):
            learner.step()
        policy = make_policy(NETWORK, self.reference.vocabulary)
        policy.load_state_dict(learner.weights())
        return self.probabilities(policy)

    @torch.no_grad()
    def probabilities(self, policy: Policy) -> NDArray[np.float64]:
        """Of each leaf."""
        log_probs_N = token_log_probs(policy(self.leaves).double(), self.leaves.targets_N())
        return self.leaves.spread(log_probs_N).sum(dim=-1)[0].exp().numpy()

    @torch.no_grad()
    def optimum(self) -> NDArray[np.float64]:
        """pi_ref^(1 - b1/b2) pi_dpo^(b1/b2) exp(b3 score/b2), normalised; b1 is 0 where the
        return has no DPO part."""
        reward = self.stage.reward
        beta1 = 0.0 if reward.layout in ("ppo", "rs_ppo") else reward.beta1
        reference_Y, dpo_Y = self.probabilities(self.reference), self.probabilities(self.dpo)
        gained_Y = beta1 * np.log(dpo_Y / reference_Y) + reward.beta3 * self.reward_model(self.leaves)[0].numpy()
        weight_Y = reference_Y * np.exp(gained_Y / reward.beta2)
        return weight_Y / weight_Y.sum()


def total_variation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(0.5 * np.abs(one - other).sum())


def leaves_of(tree: Tree) -> Sequences:
    """All responses, to the one prompt."""
    responses_1YH = torch.from_numpy(tree.leaves_YH).long()[None]
    prompt_11 = torch.zeros(1, 1, dtype=torch.long)
    real_1YH = torch.ones_like(responses_1YH, dtype=torch.bool)
    return Sequences(prompt_11, torch.ones_like(prompt_11, dtype=torch.bool), responses_1YH, real_1YH)


def fit_policy(policy: Policy, tree: Tree, log_probs_KA: Table) -> None:
    """Moves the policy to the table's law in each node."""
    target_NA = torch.from_numpy(log_probs_KA).float()[_nodes_N(tree)]

    def loss_N(leaves: Sequences) -> Tensor:
        return (target_NA.exp() * (target_NA - policy(leaves).log_softmax(dim=1))).sum(dim=1)

    _fit(policy, tree, loss_N)


def fit_reward_model(model: RewardModel, tree: Tree) -> None:
    """Moves the model's value of each token to its true reward."""
    target_NA = torch.from_numpy(tree.rewards_KA).float()[_nodes_N(tree)]

    def loss_N(leaves: Sequences) -> Tensor:
        return (model.head(model.backbone.states(leaves, final=False)) - target_NA).square().sum(dim=1)

    _fit(model, tree, loss_N)


def _fit(module: nn.Module, tree: Tree, loss_N: Callable[[Sequences], Tensor], steps: int = 150) -> None:
    leaves, nodes_N = leaves_of(tree), _nodes_N(tree)
    weight_N = 1.0 / nodes_N.bincount()[nodes_N]  # a node near the root is in many responses
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3, betas=(0.9, 0.95), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        ((weight_N * loss_N(leaves)).sum() / weight_N.sum()).backward()
        optimizer.step()
        schedule.step()


def _nodes_N(tree: Tree) -> Tensor:
    return torch.from_numpy(tree.nodes(tree.leaves_YH)).flatten()
