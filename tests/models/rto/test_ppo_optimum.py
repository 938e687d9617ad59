"""PPO with each layout finds the policy that its reward makes best, which on a tree is known exactly."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from models.rto import ppo
from models.rto.data_config import PreferenceData, TreeTask
from models.rto.policies import PolicySet
from models.rto.ppo import PpoLearner
from models.rto.ppo_config import CriticConfig
from models.rto.ppo_inputs import PpoInputs
from models.rto.preferences import Preferences, true_rewards
from models.rto.reward_config import ScoreConfig, TokenRewardConfig
from models.rto.scoring import Scoring
from models.rto.sequences import Sequences
from models.rto.tree import Tree
from tests.fixtures.worlds import world_of
from tests.models.rto.on_tree import DecodersOnTree, total_variation
from tests.models.rto.ppo_worlds import RATE, STAGE, prepared
from tests.models.rto.tabular import TableCritic, TablePolicy

DPO_BETA = 2.0
REWARD = TokenRewardConfig(beta1=0.5, beta2=1.0, beta3=1.0, log_ratio_clip=None, sentence=2)
SETTINGS = {
    "iterations": 60,
    "batch_size": 512,
    "minibatches": 4,
    "epochs": 2,
    "most_response": 5,
    "reduction": "token",
    "optimizer": RATE.but(learning_rate=0.05, schedule="cosine", final_rate=0.02),
    "critic": CriticConfig(optimizer=RATE.but(learning_rate=0.1, schedule="cosine", final_rate=0.05), value_clip=None),
}


class OnTree:
    """A tree's PPO with tables for networks: reference the law, DPO policy the exact optimum at a beta of its own."""

    def __init__(self, folder: Path, **settings: object) -> None:
        data = PreferenceData(task=TreeTask(), pairs=4, held_out_pairs=4, demonstrations=4)
        self.preferences = Preferences.read(prepared(folder / "preferences", data))
        tree = self.preferences.truth()
        assert isinstance(tree, Tree)
        self.tree = tree
        self.reference_KA = tree.law_log_probs_KA
        self.dpo_KA = tree.exact_optimum(DPO_BETA).log_probs_KA
        self.stage = STAGE.but(**SETTINGS).but(**settings)
        self.stage = self.stage.but(max_steps=self.stage.iterations * self.stage.updates)

    def inputs(self) -> PpoInputs:
        """Tables in the place of networks."""

        def true_scores(batch: Sequences) -> torch.Tensor:
            return torch.from_numpy(true_rewards(self.tree, batch)).float()

        reference, dpo = (cast(Any, TablePolicy(torch.from_numpy(table))) for table in (self.reference_KA, self.dpo_KA))
        return PpoInputs(
            preferences=self.preferences,
            policies=PolicySet(TablePolicy(torch.from_numpy(self.reference_KA)), reference, dpo),
            reward=self.stage.reward,
            scoring=Scoring(ScoreConfig(normalise="none", most=100.0), true_scores, {})
            if self.stage.reward.beta3
            else None,
            critic=cast(Any, TableCritic(self.tree)) if self.stage.algorithm == "ppo" else None,
        )

    def trained(self, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
        """The probability of each leaf after PPO."""
        monkeypatch.setattr(ppo, "read_inputs", lambda *_: self.inputs())
        learner = PpoLearner(self.stage, world_of({}, None))
        for _ in range(self.stage.max_steps):
            learner.step()
        return self.leaves(torch.log_softmax(learner.weights()["logits_KA"], dim=1).double().numpy())

    def leaves(self, log_probs_KA: np.ndarray) -> np.ndarray:
        return np.exp(self.tree.leaf_sums(log_probs_KA))

    def optimum(self) -> np.ndarray:
        """pi_ref^(1 - b1/b2) pi_dpo^(b1/b2) exp(b3 r/b2), normalised; b1 is 0 where the
        return has no DPO part. With a clip the log-ratios are clipped token by token."""
        reward = self.stage.reward
        ratio_KA = self.dpo_KA - self.reference_KA
        if reward.log_ratio_clip is not None:
            ratio_KA = ratio_KA.clip(-reward.log_ratio_clip, reward.log_ratio_clip)
        beta1 = 0.0 if reward.layout in ("ppo", "rs_ppo") else reward.beta1
        gained = beta1 * self.tree.leaf_sums(ratio_KA) + reward.beta3 * self.tree.leaf_sums(self.tree.rewards_KA)
        weight = self.leaves(self.reference_KA) * np.exp(gained / reward.beta2)
        return weight / weight.sum()


@pytest.mark.parametrize("layout", ["ppo", "rto", "semi_rto", "ddpo", "rs_ppo"])
def test_ppo_converges_to_the_exact_optimum_of_each_layout(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = OnTree(tmp_path, reward=REWARD.but(layout=layout))
    optimum = case.optimum()
    assert total_variation(case.leaves(case.reference_KA), optimum) > 0.3
    assert total_variation(case.trained(monkeypatch), optimum) < 0.05


@pytest.mark.slow
def test_so_do_decoders_that_begin_with_what_the_stages_before_them_left(tmp_path: Path) -> None:
    # All layouts, and a longer training: benchmarks/rto_optimum.py.
    case = DecodersOnTree(tmp_path, "rto", iterations=90)
    optimum = case.optimum()
    assert total_variation(case.probabilities(case.reference), optimum) > 0.5
    assert total_variation(case.trained(), optimum) < 0.05


def test_with_the_log_ratio_clipped_ppo_converges_to_the_optimum_of_the_clipped_reward(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = OnTree(tmp_path, reward=REWARD.but(log_ratio_clip=0.3, beta1=1.0))
    unclipped = OnTree(tmp_path / "unclipped", reward=REWARD.but(beta1=1.0)).optimum()
    assert total_variation(case.optimum(), unclipped) > 0.1
    assert total_variation(case.trained(monkeypatch), case.optimum()) < 0.05


def test_with_beta1_equal_to_beta2_and_no_score_ppo_returns_the_dpo_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = OnTree(tmp_path, reward=REWARD.but(beta1=0.7, beta2=0.7, beta3=0.0))
    dpo = case.leaves(case.dpo_KA)
    assert total_variation(case.optimum(), dpo) < 1e-9
    assert total_variation(case.leaves(case.reference_KA), dpo) > 0.3
    assert total_variation(case.trained(monkeypatch), dpo) < 0.05


@pytest.mark.parametrize("settings", [{"algorithm": "reinforce"}, {"gae_lambda": 1.0}])
def test_so_do_reinforce_and_lambda_of_one(
    settings: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = OnTree(tmp_path, reward=REWARD, **settings)
    assert total_variation(case.trained(monkeypatch), case.optimum()) < 0.05


def test_a_group_s_own_spread_pulls_it_off_the_optimum_the_more_the_smaller_the_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    off = {}
    for group in (8, 512):
        case = OnTree(tmp_path / str(group), reward=REWARD, algorithm="group", responses_per_prompt=group)
        off[group] = total_variation(case.trained(monkeypatch), case.optimum())
    assert off[512] < 0.05 < off[8]
