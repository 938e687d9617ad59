"""Heads, and reading weights."""

# B prompts   G responses of each   T states   N real response tokens   V vocabulary

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.common.errors import ConfigError
from models.rto.network import (
    entropy,
    make_critic,
    make_policy,
    make_reward_model,
    read_policy,
    read_reward_model,
    start_critic,
    token_log_probs,
)
from models.rto.policy_config import DecoderConfig
from models.rto.sequences import Sequences

VOCABULARY = 7
CONFIG = DecoderConfig(layers=1, width=16, heads=2, feed_forward_width=20, context=32)
CPU = torch.device("cpu")


def batch() -> Sequences:
    torch.manual_seed(0)
    length_BG = torch.tensor([[3, 0], [1, 4]])
    return Sequences(
        torch.randint(VOCABULARY, (2, 3)),
        torch.tensor([[False, True, True], [True, True, True]]),
        torch.randint(VOCABULARY, (2, 2, 4)),
        torch.arange(4) < length_BG[..., None],
    )


def save(module: nn.Module, folder: Path, **more: Tensor) -> Path:
    """A stage's folder, as far as reading weights goes."""
    folder.mkdir()
    weights = {name: value.detach().clone() for name, value in module.named_parameters()}
    save_file(
        weights | {name.replace("__", "."): value for name, value in more.items()}, folder / "weights.safetensors"
    )
    return folder


def shaken(module: Any) -> Any:
    """The module with random weights."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter))
    return module


def test_log_probabilities_and_entropy_are_those_of_a_categorical_distribution():
    logits_NV, targets_N = 3 * torch.randn(5, VOCABULARY), torch.randint(VOCABULARY, (5,))
    law = torch.distributions.Categorical(logits=logits_NV)
    torch.testing.assert_close(token_log_probs(logits_NV, targets_N), law.log_prob(targets_N))
    torch.testing.assert_close(entropy(logits_NV), law.entropy())
    assert token_log_probs(logits_NV.bfloat16(), targets_N).dtype == torch.float32
    assert entropy(logits_NV.double()).dtype == torch.float64


def test_the_entropy_of_a_law_with_a_token_ruled_out_is_finite_with_its_gradient():
    logits_NV = torch.tensor([[0.0, 0.0, -math.inf]], requires_grad=True)
    found_N = entropy(logits_NV)
    assert found_N.item() == pytest.approx(math.log(2))
    (gradient_NV,) = torch.autograd.grad(found_N.sum(), logits_NV)
    assert gradient_NV.isfinite().all()


def test_a_fresh_critic_values_everything_at_zero_and_padding_stays_so():
    critic, sequences = make_critic(CONFIG, VOCABULARY), batch()
    assert critic(sequences).shape == (2, 2, 5)
    assert not critic(sequences).any()
    values_BGT = shaken(critic)(sequences)
    real_BGT = torch.arange(5) <= sequences.lengths_BG[..., None]
    assert (values_BGT != 0).equal(real_BGT)


def test_a_critics_values_are_its_head_of_the_backbones_states():
    critic, sequences = shaken(make_critic(CONFIG, VOCABULARY)), batch()
    states_BGTD = critic.backbone(sequences)
    torch.testing.assert_close(critic(sequences), (states_BGTD * critic.head.weight[0]).sum(dim=-1))


@pytest.mark.parametrize("form", ["token_sum", "last_token", "mean"])
def test_scores_are_a_loop_over_tokens(form):
    model, sequences = shaken(make_reward_model(CONFIG, VOCABULARY, form)), batch()
    values_BGTV = model.backbone(sequences) @ model.head.weight.T
    for row in range(2):
        for column in range(2):
            length = int(sequences.lengths_BG[row, column])
            values_TV, tokens_R = values_BGTV[row, column], sequences.responses_BGR[row, column]
            expected = {
                "token_sum": sum(values_TV[place, tokens_R[place]] for place in range(length))
                if form == "token_sum"
                else 0,
                "last_token": values_TV[length, 0],
                "mean": sum(values_TV[place + 1, 0] for place in range(length)) / max(1, length),
            }[form]
            assert model(sequences)[row, column].item() == pytest.approx(
                float(torch.as_tensor(expected).detach()), abs=1e-5
            )


@pytest.mark.parametrize("form", ["token_sum", "last_token", "mean"])
def test_a_fresh_reward_model_scores_zero_and_learns(form):
    model = make_reward_model(CONFIG, VOCABULARY, form)
    scores_BG = model(batch())
    assert not scores_BG.any()
    scores_BG[1, 1].backward()
    gradient_XD = model.head.weight.grad
    assert gradient_XD is not None
    assert gradient_XD.any()


def test_a_policy_is_read_as_it_was_written(tmp_path):
    policy = shaken(make_policy(CONFIG, VOCABULARY))
    read = read_policy(CONFIG, save(policy, tmp_path / "sft"), VOCABULARY, CPU)
    torch.testing.assert_close(read(batch()), policy(batch()), rtol=0, atol=0)


def test_a_tied_policy_has_no_head_of_its_own(tmp_path):
    config = CONFIG.but(tied=True)
    policy = shaken(make_policy(config, VOCABULARY))
    assert not [name for name, _ in policy.named_parameters() if name.startswith("head")]
    read = read_policy(config, save(policy, tmp_path / "sft"), VOCABULARY, CPU)
    torch.testing.assert_close(read(batch()), policy(batch()), rtol=0, atol=0)


def test_a_decoder_without_a_folder_is_refused():
    with pytest.raises(ConfigError, match="no pretrained weights"):
        read_policy(CONFIG, None, VOCABULARY, CPU)


@pytest.mark.parametrize("whose", ["policy", "reward_model"])
def test_a_critic_starts_with_the_backbone_of_another_network_and_values_zero(tmp_path, whose):
    other = make_policy(CONFIG, VOCABULARY) if whose == "policy" else make_reward_model(CONFIG, VOCABULARY, "token_sum")
    folder = save(shaken(other), tmp_path / whose, score__mean=torch.zeros(1))
    critic = start_critic(CONFIG, VOCABULARY, folder, whose)
    torch.testing.assert_close(critic.backbone(batch()), other.backbone(batch()), rtol=0, atol=0)
    assert not critic(batch()).any()


def test_weights_of_another_shape_are_refused_by_name(tmp_path):
    folder = save(make_policy(CONFIG.but(width=8), VOCABULARY), tmp_path / "sft")
    with pytest.raises(ConfigError, match=r"backbone\..*found \(.*fits \("):
        read_policy(CONFIG, folder, VOCABULARY, CPU)
    with pytest.raises(ConfigError, match=r"critic\.start"):
        start_critic(CONFIG, VOCABULARY, folder, "policy")
    with pytest.raises(ConfigError, match=r"head\.weight: found .* fits"):
        read_reward_model(CONFIG, save(make_reward_model(CONFIG, VOCABULARY, "mean"), tmp_path / "rm"), VOCABULARY,
                          "token_sum", CPU)  # fmt: skip


def test_what_was_measured_on_scores_comes_beside_the_reward_model(tmp_path):
    model = shaken(make_reward_model(CONFIG, VOCABULARY, "mean"))
    folder = save(model, tmp_path / "rm", score__mean=torch.tensor([0.5]), score__scale=torch.tensor([2.0]))
    read = read_reward_model(CONFIG, folder, VOCABULARY, "mean", CPU)
    assert {name: value.tolist() for name, value in read.measured.items()} == {"mean": [0.5], "scale": [2.0]}
    torch.testing.assert_close(read.model(batch()), model(batch()), rtol=0, atol=0)
