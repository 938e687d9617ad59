"""Losses of preference pairs: known values, identities, and the optimum that each has in closed form."""

# B pairs   2 chosen, rejected   N tokens   V vocabulary

import itertools
import math

import pytest
import torch
from torch import Tensor

from models.rto import preference_losses as losses

BETA = 0.1


def ratios(difference: float) -> Tensor:
    return torch.tensor([[difference + 3.0, 3.0]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("scaled", "loss"), [(0.0, 0.693147), (0.5, 0.474077), (1.0, 0.313262), (2.0, 0.126928), (-0.5, 0.974077)]
)
def test_dpo_has_the_known_values_and_depends_on_beta_times_the_difference_alone(scaled: float, loss: float) -> None:
    for beta in (0.1, 0.5, 2.0):
        found = losses.dpo_loss(ratios(scaled / beta), beta=beta, label_smoothing=0.0)
        assert found.item() == pytest.approx(loss, abs=1e-6)


def test_dpo_of_a_pair_and_of_the_same_the_other_way_round_differ_by_the_margin() -> None:
    h_B2 = torch.randn(64, 2, dtype=torch.float64) * 20
    there_B, back_B = (losses.dpo_loss(h, beta=BETA, label_smoothing=0.0) for h in (h_B2, h_B2.flip(1)))
    torch.testing.assert_close(there_B - back_B, -BETA * (h_B2[:, 0] - h_B2[:, 1]))


def test_the_gradient_of_dpo_is_that_of_the_closed_form() -> None:
    h_B2 = (torch.randn(64, 2, dtype=torch.float64) * 20).requires_grad_()
    losses.dpo_loss(h_B2, beta=BETA, label_smoothing=0.0).sum().backward()
    slope_B = -BETA * torch.sigmoid(-BETA * (h_B2[:, 0] - h_B2[:, 1])).detach()
    assert h_B2.grad is not None
    torch.testing.assert_close(h_B2.grad, torch.stack([slope_B, -slope_B], dim=1))


def test_large_margins_stay_finite() -> None:
    for difference in (-1e6, 1e6):
        loss = losses.dpo_loss(ratios(difference), beta=1.0, label_smoothing=0.1)
        assert loss.item() == pytest.approx((0.9 if difference < 0 else 0.1) * 1e6)


def test_smoothed_labels_weigh_both_orders_and_are_least_at_the_share_of_right_ones() -> None:
    h_B2, wrong = torch.randn(16, 2, dtype=torch.float64), 0.2
    for loss in (losses.dpo_loss, losses.ipo_loss):
        right_B, turned_B = (loss(h, beta=BETA, label_smoothing=0.0) for h in (h_B2, h_B2.flip(1)))
        found_B = loss(h_B2, beta=BETA, label_smoothing=wrong)
        torch.testing.assert_close(found_B, (1 - wrong) * right_B + wrong * turned_B)
    best = ratios(math.log((1 - wrong) / wrong) / BETA).requires_grad_()
    losses.dpo_loss(best, beta=BETA, label_smoothing=wrong).sum().backward()
    assert best.grad is not None
    assert best.grad.abs().max().item() < 1e-12


def test_ipo_is_least_where_the_log_ratios_differ_by_half_of_one_over_beta() -> None:
    assert losses.ipo_loss(ratios(1 / (2 * BETA)), beta=BETA, label_smoothing=0.0).item() == pytest.approx(0.0)
    assert losses.ipo_loss(ratios(0.0), beta=BETA, label_smoothing=0.0).item() == pytest.approx(25.0)


def expected_gradient(rewards_Y: Tensor, lengths_Y: Tensor, alpha: float) -> Tensor:
    """The gradient of the expected R-DPO loss, over Bradley-Terry labels of all pairs, at the policy that maximises
    E[r - alpha |y|] - beta KL, by its logits."""
    reference_Y = torch.log_softmax(torch.randn(len(rewards_Y), dtype=torch.float64), dim=0)
    logits_Y = (reference_Y + (rewards_Y - alpha * lengths_Y) / BETA).requires_grad_()
    h_Y = torch.log_softmax(logits_Y, dim=0) - reference_Y
    total = torch.zeros((), dtype=torch.float64)
    for chosen, rejected in itertools.permutations(range(len(rewards_Y)), 2):
        pair = [chosen, rejected]
        loss = losses.r_dpo_loss(h_Y[pair][None], lengths_Y[pair][None], beta=BETA, alpha=alpha, label_smoothing=0.0)
        total = total + torch.sigmoid(rewards_Y[chosen] - rewards_Y[rejected]) * loss.sum()
    (gradient_Y,) = torch.autograd.grad(total, logits_Y)
    return gradient_Y


def test_the_optimum_of_dpo_is_the_policy_that_maximises_reward_under_the_kl_penalty() -> None:
    rewards_Y, lengths_Y = torch.randn(5, dtype=torch.float64), torch.tensor([1.0, 4.0, 2.0, 8.0, 3.0]).double()
    assert expected_gradient(rewards_Y, lengths_Y, alpha=0.0).abs().max().item() < 1e-12


def test_the_optimum_of_r_dpo_is_the_policy_that_maximises_reward_less_length_under_the_kl_penalty() -> None:
    rewards_Y, lengths_Y = torch.randn(5, dtype=torch.float64), torch.tensor([1.0, 4.0, 2.0, 8.0, 3.0]).double()
    assert expected_gradient(rewards_Y, lengths_Y, alpha=0.05).abs().max().item() < 1e-12


def test_simpo_compares_means_over_tokens_and_asks_for_a_margin() -> None:
    log_probs_B2 = torch.tensor([[-4.0, -12.0]], dtype=torch.float64)
    lengths_B2 = torch.tensor([[2.0, 3.0]], dtype=torch.float64)
    found = losses.simpo_loss(log_probs_B2, lengths_B2, beta=2.5, gamma=0.5, label_smoothing=0.0)
    assert found.item() == pytest.approx(math.log1p(math.exp(-(2.5 * (-2.0 + 4.0) - 0.5))))


def test_tdpo_counts_both_divergences_and_has_no_gradient_of_the_chosen_one() -> None:
    h_B2 = torch.tensor([[2.0, -1.0]], dtype=torch.float64)
    divergences_B2 = torch.tensor([[0.7, 0.2]], dtype=torch.float64, requires_grad=True)
    found = losses.tdpo_loss(h_B2, divergences_B2, beta=BETA, alpha=0.5, label_smoothing=0.0)
    margin = BETA * 3.0 - 0.5 * BETA * (0.2 - 0.7)
    assert found.item() == pytest.approx(math.log1p(math.exp(-margin)))
    found.sum().backward()
    assert divergences_B2.grad is not None
    slope = 0.5 * BETA / (1 + math.exp(margin))
    assert divergences_B2.grad.tolist() == [[0.0, pytest.approx(slope)]]


def test_the_divergence_at_a_token_is_the_sum_over_the_vocabulary() -> None:
    logits_NV, reference_NV = torch.randn(7, 5), torch.randn(7, 5)
    q_NV = torch.distributions.Categorical(logits=reference_NV)
    p_NV = torch.distributions.Categorical(logits=logits_NV)
    expected_N = torch.distributions.kl_divergence(q_NV, p_NV)
    torch.testing.assert_close(losses.token_divergence(logits_NV, reference_NV), expected_N)
