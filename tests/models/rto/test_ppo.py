"""PPO's learner: what an update does, that a resumed run equals an unbroken one, and what is refused."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from infra.clusters import LAPTOP, Cluster
from models.common.contract import LearnerState, Metrics
from models.common.errors import ConfigError, DataError, TrainingError
from models.rto import ppo_inputs
from models.rto.buffer import Buffer, distinct, draw_prompts
from models.rto.data_config import LengthTrapTask, PreferenceData
from models.rto.network import entropy, token_log_probs
from models.rto.policies import policies_for
from models.rto.ppo import PpoLearner
from models.rto.ragged import Ragged
from tests.fixtures.ranks import run_ranks
from tests.fixtures.worlds import FINGERPRINT, world_of
from tests.models.rto.ppo_worlds import STAGE, write_inputs

Given = tuple[dict[str, Path], Path]
WITH_ENDS = PreferenceData(
    task=LengthTrapTask(longest=6, mean_length=3.0), pairs=24, held_out_pairs=8, demonstrations=8
)


@pytest.fixture
def given(tmp_path: Path) -> Given:
    return write_inputs(tmp_path)


@pytest.fixture
def with_ends(tmp_path: Path) -> Given:
    return write_inputs(tmp_path, WITH_ENDS)


def _learner(
    given: Given, overrides: dict[str, Any] | None = None, *, cluster: Cluster | None = None, seed: int = 3
) -> PpoLearner:
    return PpoLearner(STAGE.with_overrides(overrides or {}), world_of(*given, cluster, seed))


def _steps(learner: PpoLearner, count: int) -> list[Metrics]:
    return [learner.step() for _ in range(count)]


def _moved(learner: PpoLearner, start: dict[str, Tensor]) -> bool:
    return any(not torch.equal(value, start[name]) for name, value in learner.weights().items())


ARMS: dict[str, dict[str, Any]] = {
    "rto": {},
    "ppo": {"reward.layout": "ppo"},
    "reinforce": {"algorithm": "reinforce"},
    "group": {"algorithm": "group", "responses_per_prompt": 2},
    "pieces": {"micro_batch": 1, "kl_loss_weight": 0.1, "entropy_weight": 0.01, "reduction": "token"},
}


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("broken_after", [1, 4, 6])
def test_a_run_broken_off_between_any_two_updates_goes_on_as_if_it_had_not_been(
    arm: str, broken_after: int, given: Given
) -> None:
    unbroken, first = (_learner(given, ARMS[arm]) for _ in range(2))
    _steps(first, broken_after)
    file = io.BytesIO()
    state = first.state_dict()
    assert state.own == {}  # without ZeRO any number of workers goes on
    torch.save((state.shared, state.own), file)
    file.seek(0)
    second = _learner(given, ARMS[arm])
    second.load_state_dict(LearnerState(*torch.load(file, weights_only=True)))
    assert _steps(unbroken, 8)[broken_after:] == _steps(second, 8 - broken_after)
    one, two = unbroken.weights(), second.weights()
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


def test_another_seed_draws_other_responses(given: Given) -> None:
    assert _learner(given, seed=3).step()["true_reward"] != _learner(given, seed=4).step()["true_reward"]


@pytest.mark.parametrize("fixture", ["given", "with_ends"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_at_the_first_update_policy_and_reference_agree_and_every_ratio_is_one(
    fixture: str, precision: str, request: pytest.FixtureRequest
) -> None:
    cluster = LAPTOP.but(engine="torch", precision=precision)
    learner = _learner(request.getfixturevalue(fixture), {"least_response": 2}, cluster=cluster)
    # A bound that a ratio passes on the smallest difference: two roundings in float32, and none in bf16.
    learner.config = learner.config.but(clip=1e-5)
    first = learner.step()
    assert learner.experience.computes_in == {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    assert first["clip_fraction"] == 0.0
    assert first["kl"] == pytest.approx(0.0, abs=1e-4)
    assert first["explained_variance"] == 0.0  # the critic begins with a value of 0 everywhere


def test_the_first_policy_loss_is_minus_the_mean_advantage_of_its_minibatch(given: Given) -> None:
    learner = _learner(given, {"reduction": "token"})
    first = learner.step()
    buffer = learner.buffer
    assert buffer is not None
    rows = learner._minibatch(0, 0)
    assert first["policy_loss"] == pytest.approx(-float(buffer.advantage_SR[rows].mean()), abs=1e-5)
    assert float(buffer.advantage_SR.mean()) == pytest.approx(0.0, abs=1e-6)
    everyone = torch.cat([learner._minibatch(0, update) for update in range(2)])
    assert sorted(everyone.tolist()) == list(range(8))


def test_micro_batches_change_neither_losses_nor_weights(given: Given) -> None:
    whole = _learner(given)
    told = _steps(whole, 8)
    for size in (1, 3):
        pieces = _learner(given, {"micro_batch": size})
        for one, other in zip(told, _steps(pieces, 8), strict=True):
            assert other == pytest.approx(one, rel=1e-3, abs=1e-4)
        for name, value in whole.weights().items():
            assert torch.allclose(pieces.weights()[name], value, atol=1e-4)


def _on_ranks(rank: int, folder: str, overrides: dict[str, Any]) -> tuple[list[Metrics], dict[str, Tensor]]:
    place = Path(folder)
    inputs = {name: place / name for name in ("preferences", "dpo", "reward_model")}
    learner = _learner((inputs, place / "sft"), overrides)
    return _steps(learner, 6), learner.weights()


@pytest.mark.parametrize("overrides", [{}, ARMS["group"]], ids=["ppo", "group"])
def test_two_workers_write_and_learn_what_one_does(overrides: dict[str, Any], tmp_path: Path) -> None:
    given = write_inputs(tmp_path, WITH_ENDS)
    alone = _learner(given, overrides)
    told = _steps(alone, 6)
    (first, weights), (second, others) = run_ranks(_on_ranks, 2, str(tmp_path), overrides)
    assert first == second
    for one, other in zip(told, first, strict=True):
        assert other == pytest.approx(one, rel=1e-3, abs=1e-4)
    for name, value in alone.weights().items():
        assert torch.equal(weights[name], others[name])
        assert torch.allclose(weights[name], value, atol=2e-3)


def test_in_its_warm_up_only_the_critic_learns(given: Given) -> None:
    learner = _learner(given, {"critic.warmup_iterations": 1})
    start = learner.weights()
    assert learner.critic is not None
    values = {name: value.clone() for name, value in learner.critic.engine.weights().items()}
    _steps(learner, 4)
    assert not _moved(learner, start)
    assert any(not torch.equal(value, values[name]) for name, value in learner.critic.engine.weights().items())
    learner.step()
    assert _moved(learner, start)


def test_metrics_of_a_rollout_are_told_by_each_of_its_updates(given: Given) -> None:
    told = _steps(_learner(given), 8)
    assert [metrics["rollouts"] for metrics in told] == [0.0] * 4 + [8.0] * 4
    assert len({metrics["true_reward"] for metrics in told[:4]}) == 1
    assert told[0]["gradient_norm"] > told[0]["critic_gradient_norm"] > 0.0
    assert sum(told[0][f"share_{part}"] for part in ("dpo", "kl", "score")) == pytest.approx(1.0)


def test_what_an_update_moves_up_a_loss_term_moves_down(given: Given) -> None:
    def law(learner: PpoLearner, buffer: Buffer) -> tuple[float, float]:
        sequences = buffer.sequences
        with torch.no_grad():
            logits_NV = learner.actor.engine(sequences)
        log_probs_N = token_log_probs(logits_NV, sequences.targets_N())
        reference_N = buffer.reference_SR[buffer.real_SR]
        k3_N = torch.exp(reference_N - log_probs_N) - 1.0 - (reference_N - log_probs_N)
        return float(entropy(logits_NV).mean()), float(k3_N.mean())

    plain, held, spread = (
        _learner(given, {"iterations": 1, "epochs": 4} | more)
        for more in ({}, {"kl_loss_weight": 50.0}, {"entropy_weight": 10.0})
    )
    after = []
    for learner in (plain, held, spread):
        _steps(learner, 7)
        assert learner.buffer is not None
        after.append(law(learner, learner.buffer))
    assert after[1][1] < after[0][1]
    assert after[2][0] > after[0][0]


def test_prompts_come_round_after_round_each_in_an_order_of_its_own() -> None:
    prompts = Ragged.of([[number, 9] for number in (3, 1, 2, 0, 1, 3, 3)])
    drawn = [tuple(int(prompt[0]) for prompt in draw_prompts(distinct(prompts), 6, it, (0,))) for it in range(40)]
    stream = [number for iteration in drawn for number in iteration]
    rounds = [tuple(stream[start : start + 4]) for start in range(0, len(stream), 4)]
    assert {tuple(sorted(each)) for each in rounds} == {(0, 1, 2, 3)}
    assert len(set(rounds)) > 12
    assert drawn == [tuple(int(p[0]) for p in draw_prompts(distinct(prompts), 6, it, (0,))) for it in range(40)]


def test_what_no_part_of_the_reward_needs_is_not_read(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, start = given
    only = {"preferences": inputs["preferences"]}
    _learner((only | {"reward_model": inputs["reward_model"]}, start), {"reward.beta1": 0.0}).step()
    _learner((only | {"reward_model": inputs["reward_model"]}, start), {"reward.layout": "ppo"}).step()
    _learner((only | {"dpo": inputs["dpo"]}, start), {"reward.beta3": 0.0}).step()
    seen = []
    monkeypatch.setattr(ppo_inputs, "policies_for", lambda *a, **k: seen.append(k["dpo"]) or policies_for(*a, **k))
    _learner(given, {"reward.layout": "ppo"})
    assert seen == [None]


def test_without_a_score_none_is_told(given: Given) -> None:
    told = _learner(given, {"reward.beta3": 0.0}).step()
    assert "score" not in told
    assert told["share_score"] == 0.0


def test_a_response_that_is_cut_off_may_earn_nothing_yet_or_less(with_ends: Given) -> None:
    told: dict[str, Metrics] = {}
    for choice in ("score", "bootstrap", "penalty"):
        learner = _learner(
            with_ends, {"score.truncated": choice, "score.truncation_penalty": 5.0, "reward.layout": "ppo"}
        )
        told[choice] = learner.step()
    share = told["score"]["truncated_share"]
    assert 0.0 < share < 1.0
    assert told["penalty"]["loss"] == pytest.approx(told["score"]["loss"] + 5.0 * share, abs=1e-4)
    assert told["bootstrap"]["loss"] != told["score"]["loss"]


def test_a_critic_may_begin_with_the_reward_model_s_weights(given: Given) -> None:
    learner = _learner(given, {"critic.start": "reward_model"})
    assert learner.critic is not None
    folder = given[0]["reward_model"]
    begun = learner.critic.engine.weights()
    expected = load_file(folder / "weights.safetensors")
    assert all(torch.equal(begun[name], value) for name, value in expected.items() if name.startswith("backbone."))
    assert not begun["head.weight"].any()


def test_a_reward_that_is_not_a_number_stops_the_run_before_the_weights_move(
    given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = _learner(given)
    start = learner.weights()
    scored = learner.experience.given.scoring
    assert scored is not None
    monkeypatch.setattr(scored, "raw", lambda batch: torch.full(batch.lengths_BG.shape, torch.nan))
    with pytest.raises(TrainingError, match=r"stopped before step 1: of the rollout, .*score is nan"):
        learner.step()
    assert not _moved(learner, start)


def test_a_guard_stops_the_run_and_its_count_goes_through_a_checkpoint(given: Given) -> None:
    overrides = {"guards.least_entropy": 19.0, "guards.patience": 2}
    learner = _learner(given, overrides)
    _steps(learner, 4)
    again = _learner(given, overrides)
    again.load_state_dict(learner.state_dict())
    for each in (learner, again):
        with pytest.raises(TrainingError, match=r"stopped before step 5, .* guards.least_entropy is 19"):
            each.step()


def nan_for_the_third(prompts: list[str], responses: list[str]) -> list[float]:
    return [float("nan") if row == 2 else 0.0 for row, _ in enumerate(prompts)]


def how_many_words(prompts: list[str], responses: list[str]) -> list[float]:
    return [float(len(response.split())) for response in responses]


def test_a_function_may_score_the_text_and_is_told_its_row_where_it_returns_no_number(with_ends: Given) -> None:
    settings = {"score.source": "function", "score.normalise": "none", "score.function": f"{__name__}:how_many_words"}
    told = _learner(with_ends, settings).step()
    assert told["score"] == pytest.approx(told["response_length"])
    with pytest.raises(DataError, match="row 2"):
        _learner(with_ends, settings | {"score.function": f"{__name__}:nan_for_the_third"}).step()


@pytest.mark.parametrize(
    ("missing", "overrides", "message"),
    [
        ("dpo", {}, "no input 'dpo': reward.beta1 is above 0"),
        ("preferences", {}, "no input 'preferences'"),
        ("reward_model", {}, "reward.beta3 is above 0 and score.source is model"),
        ("reward_model", {"critic.start": "reward_model", "reward.beta3": 0.0}, "critic.start is reward_model"),
        ("", {"most_response": 64}, "the policy's context is 16\ntry policy.context=65"),
        ("", {"reward.layout": "semi_rto"}, "neither the settings nor the data say where a sentence ends"),
    ],
)
def test_what_does_not_fit_together_is_refused_before_anything_is_sampled(
    missing: str, overrides: dict[str, Any], message: str, given: Given
) -> None:
    inputs, start = given
    with pytest.raises(ConfigError, match=message):
        _learner(({name: folder for name, folder in inputs.items() if name != missing}, start), overrides)


def test_a_dpo_policy_trained_from_another_reference_is_refused(given: Given) -> None:
    inputs, _ = given
    (inputs["dpo"] / "parents.json").write_text(json.dumps({"start_from": "00" * 32}))
    with pytest.raises(
        ConfigError, match=f"from reference {'0' * 12}, and this stage starts from reference {FINGERPRINT[:12]}"
    ):
        _learner(given)
    (inputs["dpo"] / "parents.json").write_text("{}")
    with pytest.raises(ConfigError, match="from the pretrained weights, and this stage"):
        _learner(given)
    (inputs["dpo"] / "parents.json").unlink()
    with pytest.raises(ConfigError, match=r"holds no parents.json"):
        _learner(given)


def test_workers_that_the_prompts_do_not_divide_over_are_refused(given: Given) -> None:
    import dataclasses

    world = dataclasses.replace(world_of(*given), size=4)
    stage = STAGE.but(algorithm="group", responses_per_prompt=4)
    with pytest.raises(ConfigError, match=r"2 prompts of an iteration .* do not divide over 4 workers; try 2 workers"):
        PpoLearner(stage, world)
