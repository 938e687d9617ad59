"""The supervised start: what is learnt, from which tokens, in whatever pieces."""

# N real response tokens   V vocabulary

from pathlib import Path

import pytest
import torch

from models.common.errors import ConfigError
from models.rto.config import SftStage
from models.rto.data_config import BigramTask, LengthTrapTask, PreferenceData
from models.rto.network import read_policy, token_log_probs
from models.rto.preferences import Preferences, sequences
from models.rto.sft import SftLearner, sft_loss
from tests.fixtures.worlds import world_of
from tests.models.rto.ppo_worlds import NETWORK, RATE, prepared, saved

STAGE = SftStage(policy=NETWORK, max_steps=20, batch_size=8, optimizer=RATE)
TRAP = PreferenceData(
    task=LengthTrapTask(longest=10, mean_length=4.0), pairs=8, held_out_pairs=4, demonstrations=32, seed=3
)


def test_the_loss_is_the_mean_over_tokens_that_torch_computes_and_parts_of_a_batch_add_up() -> None:
    logits_NV, targets_N = torch.randn(9, 5), torch.randint(5, (9,))
    whole = sft_loss(logits_NV, targets_N, 9.0)
    torch.testing.assert_close(whole, torch.nn.functional.cross_entropy(logits_NV, targets_N))
    torch.testing.assert_close(
        sft_loss(logits_NV[:4], targets_N[:4], 9.0) + sft_loss(logits_NV[4:], targets_N[4:], 9.0), whole
    )


def test_the_loss_of_a_step_is_the_mean_over_the_response_tokens_of_its_demonstrations(tmp_path: Path) -> None:
    """Rows of different lengths, one after the other and without padding."""
    world = world_of({"preferences": prepared(tmp_path / "data", TRAP)}, None)
    learner = SftLearner(STAGE.but(batch_size=32), world)
    data = Preferences.read(tmp_path / "data")
    total, tokens = 0.0, 0
    for prompt, response in zip(data.demonstration_prompts, data.demonstrations, strict=True):
        batch = sequences([prompt], [[response]])
        with torch.no_grad():
            total -= token_log_probs(learner.descent.engine(batch), batch.targets_N()).sum().item()
        tokens += len(response)
    assert learner.step()["loss"] == pytest.approx(total / tokens, rel=1e-5)


def test_the_gradient_is_the_same_in_pieces(tmp_path: Path) -> None:
    world = {"preferences": prepared(tmp_path / "data", TRAP)}
    found = []
    for micro_batch in (None, 3):
        learner = SftLearner(STAGE.but(micro_batch=micro_batch), world_of(world, None))
        found.append([learner.step() for _ in range(3)])
    for whole, parts in zip(*found, strict=True):
        assert parts == pytest.approx(whole, rel=1e-4)


def test_a_policy_learns_the_law_of_its_demonstrations(tmp_path: Path) -> None:
    task = BigramTask(classes=2, symbols=3, length=8, law_scale=2.0)
    data = PreferenceData(task=task, pairs=4, held_out_pairs=2, demonstrations=2048)
    world = world_of({"preferences": prepared(tmp_path / "data", data)}, None)
    rate = RATE.but(learning_rate=1e-2)
    learner = SftLearner(STAGE.but(max_steps=150, batch_size=64, optimizer=rate), world)
    curve = [learner.step()["loss"] for _ in range(150)]
    told = Preferences.read(tmp_path / "data")
    counts: dict[tuple[int, int], torch.Tensor] = {}
    for prompt, response in zip(told.demonstration_prompts, told.demonstrations, strict=True):
        for before, token in zip([-1, *response[:-1]], response, strict=True):
            counts.setdefault((int(prompt[0]), int(before)), torch.zeros(told.vocabulary))[int(token)] += 1
    table = torch.stack(list(counts.values()))
    frequency = table / table.sum(dim=1, keepdim=True)
    entropy = -(torch.xlogy(frequency, frequency) * table.sum(dim=1, keepdim=True)).sum() / table.sum()
    assert curve[0] > float(entropy) + 0.2
    assert sum(curve[-20:]) / 20 == pytest.approx(float(entropy), abs=0.03)


def test_a_stage_goes_on_from_where_another_ended(tmp_path: Path) -> None:
    inputs = {"preferences": prepared(tmp_path / "data")}
    first = SftLearner(STAGE, world_of(inputs, None))
    first.step()
    folder = saved(first.descent.engine.module, tmp_path / "first")
    second = SftLearner(STAGE, world_of(inputs, folder))
    policy = read_policy(NETWORK, folder, 12, torch.device("cpu"))
    assert all(torch.equal(second.weights()[name], value) for name, value in policy.named_parameters())


def test_what_is_longer_than_the_context_is_refused_with_its_row(tmp_path: Path) -> None:
    inputs = {"preferences": prepared(tmp_path / "data")}
    with pytest.raises(ConfigError, match=r"demonstration 0 has 7 tokens.*context is 6\ntry context=7"):
        SftLearner(STAGE.but(policy=NETWORK.but(context=6)), world_of(inputs, None))
    with pytest.raises(ConfigError, match="no input 'preferences'"):
        SftLearner(STAGE, world_of({}, None))
