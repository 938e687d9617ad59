"""Advantages against loops over tokens, and their identities."""

from typing import Any

import pytest
import torch
from torch import Tensor

from models.rto.advantage import (
    discounted_sum,
    explained_variance,
    generalized_advantage,
    group_advantage,
    return_to_go,
    whitened,
)


def _given(responses: int = 24, longest: int = 19, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    lengths_S = torch.randint(1, longest + 1, (responses,), generator=generator)
    lengths_S[0] = longest
    real_SR = torch.arange(longest) < lengths_S[:, None]
    reward_SR = torch.randn((responses, longest), generator=generator, dtype=torch.float64)
    value_ST = torch.randn((responses, longest + 1), generator=generator, dtype=torch.float64)
    return reward_SR, value_ST, real_SR


def _loop(
    reward_SR: Tensor, value_ST: Tensor, real_SR: Tensor, discount: float, gae_lambda: float, goes_on: Tensor
) -> Tensor:
    advantage_SR = torch.zeros_like(reward_SR)
    for s in range(len(reward_SR)):
        length, running = int(real_SR[s].sum()), 0.0
        for t in reversed(range(length)):
            following = float(value_ST[s, t + 1]) if t < length - 1 or goes_on[s] else 0.0
            delta = float(reward_SR[s, t]) + discount * following - float(value_ST[s, t])
            running = delta + discount * gae_lambda * running
            advantage_SR[s, t] = running
    return advantage_SR


@pytest.mark.parametrize(("discount", "gae_lambda"), [(1.0, 0.95), (0.97, 0.8), (1.0, 1.0), (0.9, 0.0)])
def test_the_scan_equals_a_loop_over_tokens(discount: float, gae_lambda: float) -> None:
    reward_SR, value_ST, real_SR = _given()
    goes_on_S = torch.arange(len(reward_SR)) % 3 == 0
    for bootstrap_S in (None, goes_on_S):
        ours = generalized_advantage(
            reward_SR, value_ST, real_SR, discount=discount, gae_lambda=gae_lambda, bootstrap_S=bootstrap_S
        )
        follows = torch.zeros_like(goes_on_S) if bootstrap_S is None else bootstrap_S
        assert torch.allclose(ours, _loop(reward_SR, value_ST, real_SR, discount, gae_lambda, follows), atol=1e-12)


def test_lambda_of_zero_is_the_error_of_one_step() -> None:
    reward_SR, value_ST, real_SR = _given()
    real_SR[:] = True
    value_ST[:, -1] = 0.0
    ours = generalized_advantage(reward_SR, value_ST, real_SR, discount=0.9, gae_lambda=0.0)
    assert torch.allclose(ours, reward_SR + 0.9 * value_ST[:, 1:] - value_ST[:, :-1])


def test_lambda_of_one_is_the_return_less_the_value() -> None:
    reward_SR, value_ST, real_SR = _given()
    ours = generalized_advantage(reward_SR, value_ST, real_SR, discount=0.9, gae_lambda=1.0)
    expected = (return_to_go(reward_SR, real_SR, 0.9) - value_ST[:, :-1]) * real_SR
    assert torch.allclose(ours, expected, atol=1e-12)


def test_advantages_are_linear_in_rewards_and_values() -> None:
    (one_SR, value_ST, real_SR), (two_SR, _, _) = _given(seed=1), _given(seed=2)
    settings: dict[str, Any] = {"discount": 0.98, "gae_lambda": 0.9}
    both = generalized_advantage(one_SR + two_SR, value_ST, real_SR, **settings)
    apart = generalized_advantage(one_SR, value_ST, real_SR, **settings) + generalized_advantage(
        two_SR, torch.zeros_like(value_ST), real_SR, **settings
    )
    assert torch.allclose(both, apart, atol=1e-12)


def test_neither_padding_nor_what_stands_there_changes_an_advantage() -> None:
    reward_SR, value_ST, real_SR = _given()
    settings: dict[str, Any] = {"discount": 0.98, "gae_lambda": 0.9}
    clean = generalized_advantage(reward_SR, value_ST, real_SR, **settings)
    pad = torch.nn.functional.pad
    states_ST = pad(real_SR, (1, 0), value=True)
    broken = generalized_advantage(
        pad(reward_SR.masked_fill(~real_SR, torch.nan), (0, 4), value=torch.nan),
        pad(value_ST.masked_fill(~states_ST, torch.nan), (0, 4), value=torch.nan),
        pad(real_SR, (0, 4)),
        **settings,
    )
    assert torch.equal(broken[:, :-4], clean)
    assert not broken[:, -4:].any()
    assert not clean[~real_SR].any()


def test_the_value_after_the_last_token_counts_only_where_sampling_was_cut_off() -> None:
    real_SR = torch.tensor([[True, True, False], [True, True, False]])
    value_ST = torch.tensor([[0.0, 0.0, 7.0, torch.nan], [0.0, 0.0, 7.0, torch.nan]])
    ours = generalized_advantage(
        torch.zeros(2, 3), value_ST, real_SR, discount=1.0, gae_lambda=1.0, bootstrap_S=torch.tensor([True, False])
    )
    assert ours.tolist() == [[7.0, 7.0, 0.0], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
def test_a_discounted_sum_is_the_sum_that_its_formula_says(decay: float) -> None:
    values_SR = torch.randn(3, 13, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = torch.zeros_like(values_SR)
    for t in range(13):
        for later in range(t, 13):
            expected[:, t] += decay ** (later - t) * values_SR[:, later]
    assert torch.allclose(discounted_sum(values_SR, decay), expected, atol=1e-12)


def test_whitening_takes_all_real_tokens_together_and_divides_by_their_number() -> None:
    values_SR, _, real_SR = _given()
    white_SR = whitened(values_SR.masked_fill(~real_SR, torch.nan), real_SR)
    values = values_SR[real_SR].numpy()
    assert torch.allclose(white_SR[real_SR], torch.from_numpy((values - values.mean()) / values.std(ddof=0)))
    assert not white_SR[~real_SR].any()
    assert not whitened(torch.ones(2, 3), torch.ones(2, 3, dtype=torch.bool)).any()


def test_with_a_reward_at_the_end_only_a_group_s_advantage_is_grpo_s() -> None:
    lengths_S = torch.tensor([3, 1, 5, 2, 4, 4, 4, 1])
    real_SR = torch.arange(5) < lengths_S[:, None]
    score_S = torch.tensor([1.0, -1.0, 0.5, 2.0, 0.0, 0.0, 3.0, 1.0], dtype=torch.float64)
    reward_SR = torch.zeros(8, 5, dtype=torch.float64)
    reward_SR[torch.arange(8), lengths_S - 1] = score_S
    ours = group_advantage(reward_SR, real_SR, 1.0, group=4)
    for s in range(8):
        group = score_S[s // 4 * 4 :][:4].numpy()
        outcome = (float(score_S[s]) - group.mean()) / (group.std(ddof=0) + 1e-4)
        assert ours[s, : lengths_S[s]].tolist() == pytest.approx([outcome] * int(lengths_S[s]))
        assert not ours[s, lengths_S[s] :].any()


def test_with_token_rewards_a_group_s_advantage_compares_what_is_still_to_come() -> None:
    reward_SR = torch.tensor([[1.0, 2.0], [0.0, 1.0]], dtype=torch.float64)
    ours = group_advantage(reward_SR, torch.ones(2, 2, dtype=torch.bool), 1.0, group=2)
    spread = 1.0 + 1e-4  # of the returns 3 and 1
    assert ours.tolist() == [pytest.approx([1 / spread, 0.5 / spread]), pytest.approx([-1 / spread, -0.5 / spread])]


def test_explained_variance_is_one_for_the_returns_themselves_and_zero_for_a_constant() -> None:
    return_N = torch.randn(100, generator=torch.Generator().manual_seed(0))
    assert explained_variance(return_N, return_N) == 1.0
    assert explained_variance(torch.zeros(100), return_N) == pytest.approx(0.0, abs=1e-6)
    assert explained_variance(-return_N, return_N) == pytest.approx(-3.0, abs=1e-5)
