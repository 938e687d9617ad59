"""Sampling, beside laws written down by hand."""

# B prompts   G responses of each   R response tokens   V vocabulary   X rows

import math

import pytest
import torch
from torch import Tensor

from models.common.errors import ConfigError
from models.rto.network import make_policy, token_log_probs
from models.rto.policy_config import DecoderConfig
from models.rto.rollout import Rollout, draw, generate, sampling_law, without_early_end
from models.rto.sequences import Sequences

VOCABULARY = 6
END = 0


def policy():
    torch.manual_seed(3)
    made = make_policy(DecoderConfig(layers=2, width=16, heads=2, feed_forward_width=24, context=64), VOCABULARY)
    torch.nn.init.normal_(dict(made.named_parameters())["head.weight"], std=0.4)
    return made


def prompts() -> tuple[Tensor, Tensor]:
    return torch.tensor([[1, 2, 3], [5, 4, 1], [1, 1, 2]]), torch.tensor([[0, 1, 1], [1, 1, 1], [0, 0, 1]]).bool()


def uniforms(batch: int, group: int, most: int) -> Tensor:
    return torch.rand(batch, group, most, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def sample(**changes) -> Rollout:
    options = {"group": 4, "most": 12, "least": 0, "end": END, "uniforms_BGR": uniforms(3, 4, 12)} | changes
    return generate(policy(), *prompts(), **options)


def test_a_token_is_where_the_cumulative_law_passes_the_number():
    law_XV = torch.tensor([[0.2, 0.0, 0.5, 0.3]]).log().expand(6, 4)
    numbers_X = torch.tensor([0.0, 0.19, 0.21, 0.69, 0.71, 1 - 2**-53], dtype=torch.float64)
    assert draw(law_XV, numbers_X).tolist() == [0, 0, 2, 2, 3, 3]


def test_a_token_without_probability_is_never_drawn_even_at_the_edges():
    law_XV = torch.tensor([[0.0, 0.7, 0.3, 0.0]]).log().expand(2, 4)
    assert draw(law_XV, torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)).tolist() == [1, 2]


def test_frequencies_are_the_laws():
    law_XV = torch.randn(1, VOCABULARY).log_softmax(dim=-1).expand(20_000, VOCABULARY)
    found_V = torch.bincount(draw(law_XV, uniforms(1, 1, 20_000).flatten()), minlength=VOCABULARY) / 20_000
    assert (found_V - law_XV[0].exp()).abs().max() < 0.02


def test_log_probabilities_are_those_of_one_forward_pass():
    rollout = sample()
    sequences = rollout.sequences
    expected_N = token_log_probs(policy()(sequences), sequences.targets_N())
    torch.testing.assert_close(rollout.log_probs_BGR[sequences.response_real_BGR], expected_N, rtol=1e-5, atol=1e-5)
    assert not rollout.log_probs_BGR[~sequences.response_real_BGR].any()


def test_each_response_is_the_one_that_a_plain_loop_without_cache_writes():
    rollout, model, (prompts_BP, real_BP) = sample(), policy(), prompts()
    numbers_BGR = uniforms(3, 4, 12)
    for row in range(3):
        for column in range(4):
            prompt_P, written = prompts_BP[row][real_BP[row]], []
            while len(written) < 12 and END not in written:
                response_R = torch.tensor([*written, END])  # the last token's logits do not depend on it
                both = Sequences(
                    prompt_P[None], torch.ones(1, len(prompt_P)).bool(), response_R[None, None],
                    torch.ones(1, 1, len(response_R)).bool(),
                )  # fmt: skip
                law_V = model(both)[-1].double().softmax(dim=-1)
                cut = float(numbers_BGR[row, column, len(written)])
                written.append(int((law_V.cumsum(0) <= cut).sum()))
            found_R = rollout.sequences.responses_BGR[row, column][rollout.sequences.response_real_BGR[row, column]]
            assert found_R.tolist() == written
            assert bool(rollout.truncated_BG[row, column]) == (END not in written)


def test_a_response_does_not_depend_on_the_others():
    everything = sample(group=2, uniforms_BGR=uniforms(3, 2, 12))
    model, (prompts_BP, real_BP) = policy(), prompts()
    for row in range(3):
        one = slice(row, row + 1)
        alone = generate(
            model, prompts_BP[one], real_BP[one], group=2, most=12, least=0, end=END,
            uniforms_BGR=uniforms(3, 2, 12)[one],
        )  # fmt: skip
        assert alone.sequences.responses_BGR.equal(everything.sequences.responses_BGR[one])
        assert alone.truncated_BG.equal(everything.truncated_BG[one])


def test_a_response_ends_with_its_first_end_or_is_marked_as_truncated():
    rollout = sample(uniforms_BGR=uniforms(3, 4, 12))
    ends = 0
    for row in range(3):
        for column in range(4):
            real_R = rollout.sequences.response_real_BGR[row, column]
            tokens = rollout.sequences.responses_BGR[row, column][real_R].tolist()
            assert END not in tokens[:-1]
            assert bool(rollout.truncated_BG[row, column]) == (tokens[-1] != END)
            assert tokens[-1] == END or len(tokens) == 12
            ends += tokens[-1] == END
    assert 0 < ends < 12


def test_without_an_end_all_have_one_length_and_none_is_truncated():
    rollout = sample(end=None)
    assert rollout.sequences.response_real_BGR.all()
    assert not rollout.truncated_BG.any()


def test_before_the_least_length_no_end_is_drawn_and_the_law_is_the_one_without_it():
    rollout = sample(least=5)
    sequences = rollout.sequences
    assert (sequences.lengths_BG > 5).all()
    logits_NV = without_early_end(policy()(sequences), sequences, end=END, least=5)
    assert (logits_NV[:, END] == -math.inf).sum() == 5 * 12
    expected_N = token_log_probs(logits_NV, sequences.targets_N())
    torch.testing.assert_close(rollout.log_probs_BGR[sequences.response_real_BGR], expected_N, rtol=1e-5, atol=1e-5)


def test_temperature_zero_takes_the_likeliest_token():
    rollout = sample(temperature=0.0, end=None)
    logits_NV = policy()(rollout.sequences)
    assert rollout.sequences.targets_N().equal(logits_NV.argmax(dim=-1))
    assert not rollout.log_probs_BGR.any()


def test_temperature_divides_the_logits():
    logits_XV = torch.randn(2, VOCABULARY)
    torch.testing.assert_close(sampling_law(logits_XV, None, 0.5, 1.0).exp(), (2 * logits_XV).softmax(dim=-1))


def test_the_nucleus_is_the_smallest_set_with_its_probability():
    logits_XV = torch.tensor([[0.1, 0.5, 0.15, 0.25]]).log()
    found_XV = sampling_law(logits_XV, None, 1.0, 0.7).exp()
    torch.testing.assert_close(found_XV, torch.tensor([[0.0, 0.5 / 0.75, 0.0, 0.25 / 0.75]]))
    assert sampling_law(logits_XV, None, 1.0, 0.01).exp().tolist() == [[0.0, 1.0, 0.0, 0.0]]


def test_no_gradient_is_kept_of_a_rollout():
    assert not sample().log_probs_BGR.requires_grad


def test_too_few_random_numbers_are_refused():
    with pytest.raises(ConfigError, match=r"\(3, 4, 11\).*\(3, 4, 12\)"):
        sample(uniforms_BGR=uniforms(3, 4, 11))
