"""Our decoder beside the Llama of transformers, whose weights it is given."""

# B prompts   G responses of each   P prompt tokens   R response tokens   S tokens of one sequence   V vocabulary

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.common.errors import DataError
from models.rto.network import Policy, make_policy, token_log_probs
from models.rto.policy_config import DecoderConfig
from models.rto.sequences import Sequences

VOCABULARY = 23
CONFIG = DecoderConfig(layers=3, width=32, heads=4, feed_forward_width=52, context=64, rope_base=500.0)


def llama(config: DecoderConfig, vocabulary: int) -> Any:
    transformers = pytest.importorskip("transformers")
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=config.width,
            intermediate_size=config.feed_forward_width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            max_position_embeddings=config.context,
            rms_norm_eps=1e-6,
            rope_theta=config.rope_base,
            tie_word_embeddings=config.tied,
            initializer_range=0.2,
        )
    ).train()


def llamas_names(values: dict[str, Tensor], config: DecoderConfig) -> dict[str, Tensor]:
    """Our weights (or gradients) under Llama's names."""
    named = {"model.embed_tokens.weight": values["backbone.embedding.weight"]}
    named["model.norm.weight"] = values["backbone.norm.weight"]
    if not config.tied:
        named["lm_head.weight"] = values["head.weight"]
    for place in range(config.layers):
        ours, theirs = f"backbone.blocks.{place}", f"model.layers.{place}"
        named[f"{theirs}.input_layernorm.weight"] = values[f"{ours}.attention_norm.weight"]
        named[f"{theirs}.post_attention_layernorm.weight"] = values[f"{ours}.feed_forward_norm.weight"]
        for name, part in zip("qkv", values[f"{ours}.qkv.weight"].chunk(3), strict=True):
            named[f"{theirs}.self_attn.{name}_proj.weight"] = part if name == "v" else halves(part, config.heads)
        named[f"{theirs}.self_attn.o_proj.weight"] = values[f"{ours}.out.weight"]
        gate, up = values[f"{ours}.gate_up.weight"].chunk(2)
        named[f"{theirs}.mlp.gate_proj.weight"], named[f"{theirs}.mlp.up_proj.weight"] = gate, up
        named[f"{theirs}.mlp.down_proj.weight"] = values[f"{ours}.down.weight"]
    return named


def halves(weight: Tensor, heads: int) -> Tensor:
    """A head's rows with the two of each rotary pair half a head apart, which in ours are neighbours."""
    return weight.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def pair(config: DecoderConfig) -> tuple[Policy, Any]:
    """Our policy, and a Llama with its weights."""
    torch.manual_seed(1)
    ours, theirs = make_policy(config, VOCABULARY), llama(config, VOCABULARY)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    named = llamas_names(dict(ours.named_parameters()), config)
    missing = theirs.load_state_dict({name: value.detach() for name, value in named.items()}, strict=False)
    assert not missing.unexpected_keys
    assert set(missing.missing_keys) <= {"lm_head.weight"}
    return ours, theirs


def ragged(prompts: list[int], responses: list[list[int]]) -> Sequences:
    """Random tokens of these lengths; what is not real holds random tokens too."""
    prompt_B, response_BG = torch.tensor(prompts), torch.tensor(responses)
    (batch, group), longest, most = response_BG.shape, int(prompt_B.max()), max(1, int(response_BG.max()))
    return Sequences(
        torch.randint(VOCABULARY, (batch, longest)),
        torch.arange(longest) >= longest - prompt_B[:, None],
        torch.randint(VOCABULARY, (batch, group, most)),
        torch.arange(most) < response_BG[..., None],
    )


def logits_one_by_one(theirs: Any, sequences: Sequences) -> Tensor:
    """What Llama says of the real response tokens, a sequence at a time and without padding."""
    found = []
    for row, prompt_P in enumerate(sequences.prompts_BP):
        prompt_S = prompt_P[sequences.prompt_real_BP[row]]
        for response_R, real_R in zip(sequences.responses_BGR[row], sequences.response_real_BGR[row], strict=True):
            tokens_S = torch.cat([prompt_S, response_R[real_R]])
            found.append(theirs(input_ids=tokens_S[None]).logits[0, len(prompt_S) - 1 : -1])
    return torch.cat(found)


BATCHES = {
    "ragged": ([5, 1, 9], [[7, 1], [0, 4], [3, 5]]),
    "of one length": ([4, 4, 4], [[6, 6], [6, 6], [6, 6]]),
    "of one length and one response each": ([4, 4], [[6], [6]]),
    "of three responses each, some empty": ([3, 6, 2], [[0, 0, 0], [1, 0, 8], [0, 2, 2]]),
    "very mixed": ([2, 3, 2, 4, 30, 2], [[1], [2], [30], [3], [1], [2]]),
}


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("batch", BATCHES.values(), ids=BATCHES)
def test_logits_and_gradients_are_those_of_llama(batch, tied):
    config = CONFIG.but(tied=tied)
    ours, theirs = pair(config)
    sequences = ragged(*batch)
    logits_NV, expected_NV = ours(sequences), logits_one_by_one(theirs, sequences)
    torch.testing.assert_close(logits_NV, expected_NV, rtol=1e-5, atol=2e-5)

    weight_NV = torch.randn_like(logits_NV)
    ours_gradient = torch.autograd.grad((logits_NV * weight_NV).sum(), list(ours.parameters()))
    (expected_NV * weight_NV).sum().backward()
    names = [name for name, _ in ours.named_parameters()]
    named = llamas_names(dict(zip(names, ours_gradient, strict=True)), config)
    theirs_named = dict(theirs.named_parameters())
    for name, gradient in named.items():
        expected = theirs_named[name].grad
        assert expected is not None
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=2e-5 * float(expected.abs().max()), msg=name)


def test_the_state_after_the_last_token_is_that_of_llama():
    ours, theirs = pair(CONFIG)
    sequences = ragged([5, 2], [[3, 6], [0, 2]])
    states_BGTD = ours.backbone(sequences)
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        real_R = sequences.response_real_BGR[row, column]
        tokens_S = torch.cat(
            [sequences.prompts_BP[row][sequences.prompt_real_BP[row]], sequences.responses_BGR[row, column][real_R]]
        )
        states_SD = theirs.model(input_ids=tokens_S[None]).last_hidden_state[0]
        count = int(real_R.sum())
        torch.testing.assert_close(states_BGTD[row, column, : count + 1], states_SD[-count - 1 :], rtol=1e-5, atol=2e-5)
        assert not states_BGTD[row, column, count + 1 :].any()


def test_padding_and_the_rest_of_the_batch_change_nothing():
    ours, _ = pair(CONFIG)
    sequences = ragged([4, 2, 3], [[5, 2], [1, 7], [0, 3]])
    wider = Sequences(
        nn.functional.pad(sequences.prompts_BP, (3, 0), value=7),
        nn.functional.pad(sequences.prompt_real_BP, (3, 0)),
        nn.functional.pad(sequences.responses_BGR, (0, 4), value=7),
        nn.functional.pad(sequences.response_real_BGR, (0, 4)),
    )
    torch.testing.assert_close(ours(wider), ours(sequences), rtol=0, atol=0)
    alone_NV = torch.cat([ours(sequences.of(slice(row, row + 1))) for row in range(3)])
    torch.testing.assert_close(alone_NV, ours(sequences), rtol=1e-5, atol=1e-5)


def test_what_stands_at_padding_is_never_read():
    ours, _ = pair(CONFIG)
    sequences = ragged([4, 2], [[5, 2], [1, 7]])
    before_NV = ours(sequences)
    sequences.prompts_BP[~sequences.prompt_real_BP] = -100
    sequences.responses_BGR[~sequences.response_real_BGR] = 10**6
    torch.testing.assert_close(ours(sequences), before_NV, rtol=0, atol=0)


@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
def test_a_frozen_pass_gives_the_very_numbers_of_one_with_gradients(bf16):
    ours, _ = pair(CONFIG)
    sequences = ragged([5, 1, 9], [[7, 1], [0, 4], [3, 5]])
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        with_gradients_NV = ours(sequences)
        with torch.no_grad():
            frozen_NV = ours(sequences)
    torch.testing.assert_close(frozen_NV, with_gradients_NV.detach(), rtol=0, atol=0)


def test_a_step_by_step_decoding_gives_the_logits_of_one_pass():
    ours, _ = pair(CONFIG)
    sequences = ragged([4, 1, 3], [[5, 5], [5, 5], [5, 5]])
    responses_RX = sequences.responses_BGR.flatten(0, 1).T
    with torch.no_grad():
        decoding = ours.start_decoding(sequences.prompts_BP, sequences.prompt_real_BP, 2, 5)
        found = [decoding.logits_XV]
        for tokens_X in responses_RX[:-1]:
            decoding.append(tokens_X)
            found.append(decoding.logits_XV)
    torch.testing.assert_close(torch.stack(found, dim=1).flatten(0, 1), ours(sequences), rtol=1e-5, atol=1e-5)


def test_decoding_goes_on_with_the_rows_that_are_kept():
    ours, _ = pair(CONFIG)
    sequences = ragged([4, 1, 3], [[5], [5], [5]])
    kept_X = torch.tensor([2, 0])
    with torch.no_grad():
        decoding = ours.start_decoding(sequences.prompts_BP, sequences.prompt_real_BP, 1, 5)
        decoding.append(sequences.responses_BGR[:, 0, 0])
        decoding.keep(kept_X)
        decoding.append(sequences.responses_BGR[kept_X, 0, 1])
    expected_XV = ours(sequences).unflatten(0, (3, 5))[kept_X, 2]
    torch.testing.assert_close(decoding.logits_XV, expected_XV, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16], ids=["autocast", "bf16 weights"])
def test_bf16_is_near_fp32_and_has_gradients_of_the_weights_precision(weights):
    ours, _ = pair(CONFIG)
    sequences = ragged([5, 1, 9], [[7, 1], [0, 4], [3, 5]])
    exact_N = token_log_probs(ours(sequences), sequences.targets_N())
    ours = ours.to(weights)
    with torch.autocast("cpu", torch.bfloat16, enabled=weights == torch.float32):
        logits_NV = ours(sequences)
    assert logits_NV.dtype == torch.bfloat16
    found_N = token_log_probs(logits_NV, sequences.targets_N())
    assert found_N.dtype == torch.float32
    assert (found_N - exact_N).abs().mean() < 0.03 * exact_N.abs().mean()
    found_N.sum().backward()
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype == weights, name
        assert parameter.grad.isfinite().all(), name


def test_a_fresh_policy_is_nearly_uniform_at_any_width_and_depth():
    for layers, width in ((1, 16), (6, 128)):
        torch.manual_seed(0)
        policy = make_policy(DecoderConfig(layers=layers, width=width, heads=2), VOCABULARY)
        sequences = ragged([3], [[20]])
        log_p_N = token_log_probs(policy(sequences), sequences.targets_N())
        assert abs(log_p_N.mean().item() + math.log(VOCABULARY)) < 0.1


def test_more_tokens_than_the_context_are_refused():
    policy = make_policy(CONFIG, VOCABULARY)
    with pytest.raises(DataError, match=r"70 tokens.*context is 64"):
        policy(ragged([10], [[61]]))
    sequences = ragged([10], [[1]])
    with pytest.raises(DataError, match="context"):
        policy.start_decoding(sequences.prompts_BP, sequences.prompt_real_BP, 1, 55)
