"""Policies of transformers, held against transformers itself on small random models."""

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from models.common.errors import ConfigError, DataError
from models.rto import network
from models.rto.policy_config import HuggingFaceConfig
from models.rto.rollout import generate
from models.rto.sequences import Sequences
from tests.models.rto.small_models import SHAPES, VOCABULARY, llama, one_by_one, saved, sequences, trained_folder

transformers: Any = importlib.import_module("transformers")

CPU = torch.device("cpu")
shapes = pytest.mark.parametrize("shape", SHAPES)


@shapes
def test_logits_are_those_of_transformers_row_by_row_without_padding(shape: str, tmp_path: Path) -> None:
    config, model = saved(tmp_path, SHAPES[shape]())
    policy, batch = network.make_policy(config, VOCABULARY), sequences()
    expected = [
        model(input_ids=torch.cat([prompt, response])[None]).logits[0, len(prompt) - 1 : -1]
        for prompt, response in one_by_one(batch)
    ]
    assert torch.allclose(policy(batch), torch.cat(expected), atol=1e-5)


@shapes
def test_gradients_are_those_of_transformers(shape: str, tmp_path: Path) -> None:
    config, model = saved(tmp_path, SHAPES[shape]())
    policy, batch = network.make_policy(config, VOCABULARY), sequences()
    policy(batch).logsumexp(-1).sum().backward()
    for prompt, response in one_by_one(batch):
        model(input_ids=torch.cat([prompt, response])[None]).logits[0, len(prompt) - 1 : -1].logsumexp(
            -1
        ).sum().backward()
    ours = policy.get_parameter("backbone.model." + next(iter(dict(policy.backbone.model.named_parameters()))))
    theirs = next(iter(model.base_model.parameters()))  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
    assert ours.grad is not None
    assert theirs.grad is not None
    assert theirs.grad.abs().max() > 0.01
    assert torch.allclose(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)


@shapes
def test_greedy_decoding_writes_what_generate_of_transformers_writes(shape: str, tmp_path: Path) -> None:
    config, model = saved(tmp_path, SHAPES[shape]())
    policy, batch = network.make_policy(config, VOCABULARY), sequences()
    rollout = generate(
        policy,
        batch.prompts_BP,
        batch.prompt_real_BP,
        group=1,
        most=8,
        least=0,
        end=None,
        uniforms_BGR=torch.zeros(3, 1, 8),
        temperature=0.0,
    )
    for row, prompt_P in enumerate(batch.prompts_BP):
        prompt = prompt_P[batch.prompt_real_BP[row]]
        options = {
            "max_new_tokens": 8,
            "min_new_tokens": 8,
            "do_sample": False,
            "pad_token_id": 0,
            "eos_token_id": None,
        }
        theirs = model.generate(prompt[None], attention_mask=torch.ones(1, len(prompt)), **options)  # pyright: ignore[reportCallIssue]
        assert rollout.sequences.responses_BGR[row, 0].tolist() == theirs[0, len(prompt) :].tolist()


@pytest.mark.parametrize("recompute", [False, True])
@shapes
def test_sampling_records_the_log_probabilities_of_the_forward_pass(
    shape: str, recompute: bool, tmp_path: Path
) -> None:
    config, _ = saved(tmp_path, SHAPES[shape]())
    policy, batch = network.make_policy(config.but(recompute=recompute), VOCABULARY), sequences()
    rollout = generate(
        policy,
        batch.prompts_BP,
        batch.prompt_real_BP,
        group=3,
        most=12,
        least=0,
        end=7,
        uniforms_BGR=torch.rand(3, 3, 12, dtype=torch.float64),
    )
    real_BGR = rollout.sequences.response_real_BGR
    assert real_BGR.sum(dim=-1).unique().numel() > 1  # rows ended at several places, and were taken out of the cache
    log_p_N = network.token_log_probs(policy(rollout.sequences), rollout.sequences.targets_N())
    assert torch.allclose(log_p_N, rollout.log_probs_BGR[real_BGR], atol=1e-5)


@shapes
def test_critic_and_reward_model_read_the_same_states(shape: str, tmp_path: Path) -> None:
    config, model = saved(tmp_path, SHAPES[shape]())
    batch = sequences()
    critic = network.make_critic(config, VOCABULARY)
    nn.init.normal_(critic.head.weight)
    values_BGT = critic(batch).flatten(0, 1)
    scorer = network.make_reward_model(config, VOCABULARY, "last_token")
    scorer.head.weight = critic.head.weight
    scores = scorer(batch).flatten()
    for row, (prompt, response) in enumerate(one_by_one(batch)):
        hidden = model.base_model(input_ids=torch.cat([prompt, response])[None]).last_hidden_state[0]  # pyright: ignore[reportCallIssue]
        expected = critic.head(hidden[len(prompt) - 1 :]).squeeze(-1)
        assert torch.allclose(values_BGT[row, : len(response) + 1], expected, atol=1e-5)
        assert torch.allclose(scores[row], expected[-1], atol=1e-5)
        assert (values_BGT[row, len(response) + 1 :] == 0).all()


@shapes
def test_what_stands_at_padded_places_changes_nothing(shape: str, tmp_path: Path) -> None:
    config, _ = saved(tmp_path, SHAPES[shape]())
    policy, batch = network.make_policy(config, VOCABULARY), sequences()
    far = Sequences(
        batch.prompts_BP.where(batch.prompt_real_BP, torch.tensor(10**9)),
        batch.prompt_real_BP,
        batch.responses_BGR.where(batch.response_real_BGR, torch.tensor(-(10**9))),
        batch.response_real_BGR,
    )
    assert torch.equal(policy(batch), policy(far))


def test_weights_that_a_stage_published_are_read_back(tmp_path: Path) -> None:
    config, _ = saved(tmp_path / "model", llama(tie_word_embeddings=True))
    policy = network.make_policy(config, VOCABULARY)
    folder = trained_folder(tmp_path / "stage", policy)
    again = network.read_policy(config, folder, VOCABULARY, CPU)
    assert not torch.allclose(again(sequences()), policy(sequences()))
    for name, parameter in again.named_parameters():
        policy.get_parameter(name).data.copy_(parameter.data)
    batch = sequences()
    assert torch.equal(again(batch), policy(batch))  # buffers, which no folder holds, are right as well


def test_recomputed_activations_give_the_same_gradient(tmp_path: Path) -> None:
    config, _ = saved(tmp_path, llama())
    batch, gradients = sequences(), []
    for recompute in (False, True):
        policy = network.make_policy(config.but(recompute=recompute), VOCABULARY)
        calls = []
        policy.backbone.model.layers[0].mlp.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        policy(batch).logsumexp(-1).sum().backward()
        assert len(calls) == 1 + recompute
        gradients.append({name: p.grad for name, p in policy.named_parameters()})
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])


def test_random_weights_are_the_same_each_time_and_leave_the_random_stream_alone(tmp_path: Path) -> None:
    config, _ = saved(tmp_path, llama())
    random = config.but(weights="random")
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    one = network.make_policy(random, VOCABULARY)
    assert torch.equal(torch.rand(3), expected)
    two = network.make_policy(random, VOCABULARY)
    batch = sequences()
    assert torch.equal(one(batch), two(batch))
    assert not torch.allclose(one(batch), network.make_policy(config, VOCABULARY)(batch))


# What cannot work


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"model": "/nowhere/at/all"}, "/nowhere/at/all"),
        ({"context": 65}, "has 64 positions"),
        ({"lora": {"rank": 2, "targets": ("q_proj", "wrong")}}, "no linear layer of that name"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(changes: dict[str, Any], found: str, tmp_path: Path) -> None:
    config, _ = saved(tmp_path, llama())
    with pytest.raises(ConfigError, match=found):
        network.make_policy(config.but(**changes), VOCABULARY)


def test_a_vocabulary_that_the_model_does_not_know_is_refused(tmp_path: Path) -> None:
    config, _ = saved(tmp_path, llama())
    with pytest.raises(ConfigError, match=r"24 tokens, and .* knows 23"):
        network.make_policy(config, 24)


def test_a_model_that_caps_its_logits_is_refused(tmp_path: Path) -> None:
    shape = transformers.CohereConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=4, vocab_size=VOCABULARY
    )
    config, _ = saved(tmp_path, shape)
    with pytest.raises(ConfigError, match="CohereForCausalLM"):
        network.make_policy(config, VOCABULARY)


def test_a_sequence_longer_than_the_context_is_refused(tmp_path: Path) -> None:
    config, _ = saved(tmp_path, llama())
    with pytest.raises(DataError, match="9 tokens, and the policy's context is 8"):
        network.make_policy(config.but(context=8), VOCABULARY)(sequences())


def test_a_missing_library_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match="make llm"):
        network.make_policy(HuggingFaceConfig(model="any"), VOCABULARY)
