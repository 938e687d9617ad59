"""The reward model: its loss, what it learns, where it starts, and how its scores are told to lie."""

# B pairs   2 chosen, rejected

import json
import math
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models.common.errors import ConfigError
from models.rto.config import RewardModelStage
from models.rto.data_config import BigramTask, LengthTrapTask, PreferenceData
from models.rto.network import make_policy, read_reward_model
from models.rto.preferences import Pairs, Preferences, sequences
from models.rto.ragged import Ragged
from models.rto.reward_model import RewardModelLearner, reward_model_loss
from tests.fixtures.ranks import run_ranks
from tests.fixtures.worlds import world_of
from tests.models.rto.ppo_worlds import NETWORK, RATE, prepared, saved

STAGE = RewardModelStage(network=NETWORK, max_steps=30, batch_size=8, optimizer=RATE)
TRAP = PreferenceData(
    task=LengthTrapTask(longest=10, mean_length=4.0), pairs=24, held_out_pairs=7, demonstrations=8, seed=3
)


def test_the_loss_is_how_surprised_bradley_and_terry_are_and_the_mean_square() -> None:
    scores = [[1.0, -0.5], [0.2, 0.9]]
    found_B = reward_model_loss(torch.tensor(scores), centring=0.3)
    by_hand = [math.log1p(math.exp(loser - winner)) + 0.3 * (winner**2 + loser**2) / 2 for winner, loser in scores]
    assert found_B.tolist() == pytest.approx(by_hand)


def test_only_the_centring_fixes_the_offset_of_a_prompt() -> None:
    scores_B2 = torch.randn(16, 2, dtype=torch.float64)
    torch.testing.assert_close(reward_model_loss(scores_B2, 0.0), reward_model_loss(scores_B2 + 7.0, 0.0))
    assert (reward_model_loss(scores_B2, 0.1) < reward_model_loss(scores_B2 + 7.0, 0.1)).all()


@pytest.mark.parametrize("form", ["token_sum", "last_token", "mean"])
def test_the_gradient_is_the_same_in_pieces(form: str, tmp_path: Path) -> None:
    inputs = {"preferences": prepared(tmp_path / "data", TRAP)}
    found = []
    for micro_batch in (None, 3):
        learner = RewardModelLearner(
            STAGE.with_overrides({"form": form, "micro_batch": micro_batch}), world_of(inputs, None)
        )
        found.append([learner.step() for _ in range(4)])
    for whole, parts in zip(*found, strict=True):
        assert parts == pytest.approx(whole, rel=1e-3, abs=1e-5)
    assert found[0][0]["loss"] == pytest.approx(math.log(2.0))
    assert found[0][0]["accuracy"] == 0.5


def test_it_learns_the_order_of_pairs_that_it_has_not_seen(tmp_path: Path) -> None:
    task = BigramTask(classes=2, symbols=4, length=8, reward_scale=2.0)
    data = PreferenceData(task=task, pairs=1024, held_out_pairs=128, demonstrations=2)
    inputs = {"preferences": prepared(tmp_path / "data", data)}
    rate = RATE.but(learning_rate=1e-2)
    learner = RewardModelLearner(STAGE.but(max_steps=100, batch_size=64, optimizer=rate), world_of(inputs, None))
    for _ in range(100):
        learner.step()
    save_file(learner.weights(), tmp_path / "weights.safetensors")
    held_out = Preferences.read(tmp_path / "data").held_out
    trained = read_reward_model(NETWORK, tmp_path, 6, "token_sum", torch.device("cpu"))
    with torch.no_grad():
        rows = zip(held_out.prompts, held_out.chosen, held_out.rejected, strict=True)
        scores = [trained.model(sequences([prompt], [[c, r]])).squeeze(0).tolist() for prompt, c, r in rows]
    assert sum(chosen > rejected for chosen, rejected in scores) > 0.8 * len(scores)

    told = {name: float(value) for name, value in trained.measured.items()}
    flat = [score for pair in scores for score in pair]
    assert told["mean"] == pytest.approx(statistics.fmean(flat), abs=1e-4)
    assert told["scale"] == pytest.approx(statistics.pstdev(flat), rel=1e-4)
    of_prompt: dict[bytes, list[float]] = {}
    for prompt, pair in zip(held_out.prompts, scores, strict=True):
        of_prompt.setdefault(prompt.tobytes(), []).extend(pair)
    within = sum(statistics.variance(each) * (len(each) - 1) for each in of_prompt.values())
    pooled = math.sqrt(within / (len(flat) - len(of_prompt)))
    assert told["scale_within_prompt"] == pytest.approx(pooled, rel=1e-4)


def measured(rank: int, folder: Path) -> dict[str, float]:
    learner = RewardModelLearner(STAGE.but(micro_batch=2), world_of({"preferences": folder}, None))
    learner.step()
    return {name: float(value) for name, value in learner.weights().items() if name.startswith("score.")}


def test_two_workers_measure_the_same_scores_on_an_odd_number_of_pairs(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "data", TRAP)
    alone = measured(0, folder)
    assert len(Preferences.read(folder).held_out) % 2
    assert set(alone) == {"score.mean", "score.scale", "score.scale_within_prompt"}
    assert all(found == pytest.approx(alone, rel=1e-3) for found in run_ranks(measured, 2, folder))


def test_it_starts_from_the_policy_where_that_is_the_same_network_and_afresh_where_it_is_not(tmp_path: Path) -> None:
    inputs = {"preferences": prepared(tmp_path / "data")}
    torch.manual_seed(9)
    folder = saved(make_policy(NETWORK, 12), tmp_path / "sft")
    (folder / "config.json").write_text(json.dumps({"policy": NETWORK.but(context=99).model_dump(mode="json")}))
    same = RewardModelLearner(STAGE, world_of(inputs, folder)).weights()
    torch.manual_seed(9)
    policy = {name: value for name, value in make_policy(NETWORK, 12).named_parameters() if "backbone" in name}
    assert all(torch.equal(same[name], value) for name, value in policy.items())
    smaller = NETWORK.but(feed_forward_width=8)
    RewardModelLearner(STAGE.but(network=smaller), world_of(inputs, folder)).step()


def test_a_response_without_tokens_is_refused_with_its_row(tmp_path: Path) -> None:
    data = Preferences.read(prepared(tmp_path / "data"))
    empty = Ragged.of([np.array([1]) if row != 5 else np.array([]) for row in range(24)])
    broken = replace(data, train=Pairs(data.train.prompts, data.train.chosen, empty))
    (tmp_path / "broken").mkdir()
    broken.write(tmp_path / "broken")
    with pytest.raises(ConfigError, match="pair 5 has a response without any token"):
        RewardModelLearner(STAGE, world_of({"preferences": tmp_path / "broken"}, None))
