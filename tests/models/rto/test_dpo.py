"""DPO: where it begins, its reference cached or live, what it learns, and what it refuses."""

# B pairs   2 chosen, rejected

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from infra.clusters import LAPTOP
from models.common.contract import LearnerState, Metrics, World
from models.common.errors import CheckpointError, ConfigError, TrainingError
from models.rto.batches import over_pairs
from models.rto.config import DpoStage
from models.rto.data_config import LengthTrapTask, PreferenceData, TreeTask
from models.rto.dpo import DpoLearner
from models.rto.network import make_policy, read_policy
from models.rto.preferences import Preferences, sequences
from models.rto.ragged import Ragged
from models.rto.reference import check_agreement, response_log_probs
from models.rto.tree import Tree
from tests.fixtures.ranks import run_ranks
from tests.fixtures.worlds import world_of
from tests.models.rto.ppo_worlds import NETWORK, RATE, prepared, saved

STAGE = DpoStage(policy=NETWORK, max_steps=30, batch_size=8, optimizer=RATE)
TRAP = PreferenceData(
    task=LengthTrapTask(longest=10, mean_length=4.0), pairs=23, held_out_pairs=4, demonstrations=8, seed=3
)
LOSSES = ("sigmoid", "ipo", "r_dpo", "simpo", "tdpo")


def given(folder: Path, data: PreferenceData = TRAP) -> tuple[dict[str, Path], Path]:
    """A dataset, and a reference whose weights are its own."""
    inputs = {"preferences": prepared(folder / "data", data)}
    torch.manual_seed(4)
    policy = make_policy(NETWORK, Preferences.read(folder / "data").vocabulary)
    with torch.no_grad():
        for value in policy.parameters():
            value.add_(0.1 * torch.randn_like(value))
    return inputs, saved(policy, folder / "sft")


def stage_of(loss: str, **more: object) -> DpoStage:
    reference = "live" if loss == "tdpo" else "cached"
    return STAGE.with_overrides({"loss": loss, "reference": reference, "length_penalty": 0.05, **more})


@pytest.mark.parametrize("reference", ["cached", "live"])
def test_the_first_loss_is_exactly_log_two_as_the_policy_is_the_reference(reference: str, tmp_path: Path) -> None:
    learner = DpoLearner(STAGE.with_overrides({"reference": reference}), world_of(*given(tmp_path)))
    first = learner.step()
    assert first["loss"] == pytest.approx(math.log(2.0), abs=1e-6)
    assert first["margin"] == pytest.approx(0.0, abs=1e-5)
    assert first["kl_from_pairs"] == pytest.approx(0.0, abs=1e-5)


def _but_ties(told: Metrics) -> Metrics:
    """The metrics but the accuracy, which at the first step rounding decides: all margins are 0."""
    return {name: value for name, value in told.items() if name != "accuracy"}


@pytest.mark.parametrize("loss", ["sigmoid", "ipo", "r_dpo"])
def test_a_cached_reference_trains_as_a_live_one(loss: str, tmp_path: Path) -> None:
    world = world_of(*given(tmp_path))
    cached, live = (
        [learner.step() for _ in range(5)]
        for learner in (DpoLearner(stage_of(loss, reference=kind), world) for kind in ("cached", "live"))
    )
    for one, other in zip(cached, live, strict=True):
        assert _but_ties(one) == pytest.approx(_but_ties(other), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_learns_the_order_and_takes_the_same_steps_in_pieces(loss: str, tmp_path: Path) -> None:
    world = world_of(*given(tmp_path))
    whole, parts = (DpoLearner(stage_of(loss, micro_batch=size), world) for size in (None, 3))
    for _ in range(4):
        assert _but_ties(parts.step()) == pytest.approx(_but_ties(whole.step()), rel=2e-3, abs=2e-4)
    accuracies = [whole.step()["accuracy"] for _ in range(40)]
    assert sum(accuracies[-4:]) / 4 > 0.8


def test_the_cache_holds_what_the_reference_says_of_each_response_alone(tmp_path: Path) -> None:
    inputs, start = given(tmp_path)
    learner = DpoLearner(STAGE.but(micro_batch=3), world_of(inputs, start))
    learner.step()
    assert learner.cache is not None
    cached_B2 = learner.cache.log_probs
    assert cached_B2 is not None
    data = Preferences.read(inputs["preferences"])
    policy = read_policy(NETWORK, start, data.vocabulary, torch.device("cpu"))
    for row, (prompt, *pair) in enumerate(zip(data.train.prompts, data.train.chosen, data.train.rejected, strict=True)):
        for place, response in enumerate(pair):
            batch = sequences([prompt], [[response]])
            with torch.no_grad():
                alone = response_log_probs(policy(batch), batch).item()
            assert cached_B2[row, place].item() == pytest.approx(alone, rel=1e-5)


def pass_over_pairs(rank: int, folder: Path) -> list[list[float]]:
    pairs = Preferences.read(folder).train
    return over_pairs(pairs, world_of({}, None), 4, lambda batch: batch.responses_BGR.sum(dim=-1)).tolist()


def test_workers_share_a_pass_over_an_odd_number_of_pairs_and_each_has_it_all(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "data", TRAP)
    pairs = Preferences.read(folder).train
    sums = [
        [float(np.sum(chosen)), float(np.sum(rejected))]
        for chosen, rejected in zip(pairs.chosen, pairs.rejected, strict=True)
    ]
    assert len(pairs) % 2
    assert run_ranks(pass_over_pairs, 2, folder) == [sums, sums]
    assert pass_over_pairs(0, folder) == sums


def test_a_resumed_training_keeps_the_first_reference_and_equals_an_unbroken_one(tmp_path: Path) -> None:
    world = world_of(*given(tmp_path))
    unbroken = DpoLearner(STAGE, world)
    for _ in range(3):
        unbroken.step()
    torch.save(unbroken.state_dict().shared, tmp_path / "state.pt")
    resumed = DpoLearner(STAGE, world)
    resumed.load_state_dict(LearnerState(torch.load(tmp_path / "state.pt")))
    for _ in range(4):
        assert resumed.step() == unbroken.step()
    assert all(torch.equal(a, b) for a, b in zip(resumed.weights().values(), unbroken.weights().values(), strict=True))


def test_a_checkpoint_with_another_reference_is_refused(tmp_path: Path) -> None:
    world = world_of(*given(tmp_path))
    learner = DpoLearner(STAGE, world)
    learner.step()
    other = DpoLearner(STAGE, replace(world, fingerprints={"start_from": "ab" * 32}))
    with pytest.raises(CheckpointError, match="reference 5f5f5f5f5f5f, and this stage starts from abababababab"):
        other.load_state_dict(learner.state_dict())


def test_a_policy_that_is_not_the_reference_is_noticed_before_it_is_trained(tmp_path: Path) -> None:
    learner = DpoLearner(STAGE.but(reference="live"), world_of(*given(tmp_path)))
    with torch.no_grad():
        dict(learner.descent.engine.module.named_parameters())["head.weight"][3] += 0.5
    with pytest.raises(TrainingError, match="step 0: policy and reference, which have the same weights, differ by"):
        learner.step()
    assert learner.descent.steps_done == 0


def test_what_agrees_in_bf16_does_not_in_float32_and_not_a_number_never_does() -> None:
    ratios_B2, lengths_B2 = torch.tensor([[0.3, -0.1]]), torch.tensor([[10.0, 10.0]])
    check_agreement(ratios_B2, lengths_B2, torch.bfloat16)
    for ratio_B2, dtype in ((ratios_B2, torch.float32), (ratios_B2 * float("nan"), torch.bfloat16)):
        with pytest.raises(TrainingError, match="look for dropout"):
            check_agreement(ratio_B2, lengths_B2, dtype)


def bf16_world(folder: Path) -> World:
    return world_of(*given(folder), LAPTOP.but(engine="torch", precision="bf16"))


@pytest.mark.parametrize("loss", ["sigmoid", "tdpo"])
def test_in_bf16_policy_and_reference_agree_as_well(loss: str, tmp_path: Path) -> None:
    learner = DpoLearner(stage_of(loss), bf16_world(tmp_path))
    assert learner.step()["loss"] == pytest.approx(math.log(2.0), abs=1e-3)
    assert math.isfinite(learner.step()["loss"])


def test_on_a_tree_dpo_learns_the_optimum_that_the_labels_follow(tmp_path: Path) -> None:
    """Enough pairs for the labels' chance to be small: log pi/pi_ref is then r less an offset, over beta."""
    data = PreferenceData(
        task=TreeTask(actions=2, depth=2, law_scale=0.3), pairs=20_000, held_out_pairs=2, demonstrations=2
    )
    inputs, start = given(tmp_path, data)
    preferences = Preferences.read(inputs["preferences"])
    rate = RATE.but(learning_rate=1e-2, schedule="cosine", final_rate=0.0)
    learner = DpoLearner(STAGE.but(max_steps=150, batch_size=512, beta=1.0, optimizer=rate), world_of(inputs, start))
    for _ in range(150):
        learner.step()
    leaves = sequences([[0]], [[[a, b] for a in range(2) for b in range(2)]])
    reference = read_policy(NETWORK, start, preferences.vocabulary, torch.device("cpu"))
    with torch.no_grad():
        found_Y, before_Y = (response_log_probs(p(leaves), leaves)[0] for p in (learner.descent.engine, reference))
    truth = preferences.truth()
    assert isinstance(truth, Tree)
    prompts = preferences.train.prompts.take([0] * 4)
    reward_Y = torch.from_numpy(truth.score(prompts, Ragged.of([[a, b] for a in range(2) for b in range(2)])))
    expected_Y = torch.softmax(before_Y.double() + reward_Y, dim=0)
    assert 0.5 * (found_Y.exp() - expected_Y).abs().sum().item() < 0.03


def test_what_cannot_work_is_refused_before_a_step(tmp_path: Path) -> None:
    inputs, start = given(tmp_path)
    with pytest.raises(ConfigError, match=r"set reference='live'"):
        STAGE.but(loss="tdpo")
    with pytest.raises(ConfigError, match="no pretrained weights"):
        DpoLearner(STAGE, world_of(inputs, None))
    with pytest.raises(ConfigError, match=r"pair \d+ has \d+ tokens"):
        DpoLearner(STAGE.but(policy=NETWORK.but(context=4)), world_of(inputs, start))
