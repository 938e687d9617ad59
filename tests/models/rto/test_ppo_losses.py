"""PPO's losses: closed forms, gradients that have to vanish, and reductions over pieces."""

import math

import pytest
import torch

from models.rto.ppo_losses import clip_fraction, kl_k1, kl_k2, kl_k3, policy_loss, token_weights, value_loss


def test_at_a_ratio_of_one_the_policy_loss_is_minus_the_mean_advantage() -> None:
    log_probs_N, advantage_N = torch.randn(50), torch.randn(50)
    assert float(policy_loss(log_probs_N, log_probs_N, advantage_N, 0.2).mean()) == pytest.approx(
        -float(advantage_N.mean())
    )


@pytest.mark.parametrize(
    ("advantage", "ratio", "moves"),
    [(1.0, 1.3, False), (1.0, 0.7, True), (-1.0, 0.7, False), (-1.0, 1.3, True), (1.0, 1.1, True), (-1.0, 0.9, True)],
)
def test_a_token_that_has_moved_far_enough_its_advantage_s_way_has_no_gradient(
    advantage: float, ratio: float, moves: bool
) -> None:
    log_probs_N = torch.tensor([math.log(ratio)], requires_grad=True)
    policy_loss(log_probs_N, torch.zeros(1), torch.tensor([advantage]), 0.2).sum().backward()
    assert log_probs_N.grad is not None
    assert float(log_probs_N.grad) == pytest.approx(-advantage * ratio if moves else 0.0)


def test_the_value_loss_is_the_larger_error_and_does_not_care_for_the_side() -> None:
    old, target = torch.zeros(4), torch.tensor([1.0, -1.0, 1.0, -1.0])
    value = torch.tensor([0.5, -0.5, -0.5, 0.5])
    loss = value_loss(value, old, target, 0.2)
    # Towards the return by 0.5, of which 0.2 count: error 0.8. Away from it: error 1.5.
    assert loss.tolist() == pytest.approx([0.32, 0.32, 1.125, 1.125])
    assert value_loss(value, old, target, None).tolist() == pytest.approx([0.125, 0.125, 1.125, 1.125])


def test_both_reductions_are_the_means_that_they_say_and_equal_for_equal_lengths() -> None:
    values_SR = torch.randn(6, 7)
    real_SR = torch.arange(7) < torch.tensor([7, 3, 1, 5, 2, 4])[:, None]
    by_token = float((token_weights(real_SR, "token") * values_SR).sum())
    by_sequence = float((token_weights(real_SR, "sequence") * values_SR).sum())
    assert by_token == pytest.approx(float(values_SR[real_SR].mean()), abs=1e-6)
    means = [float(row[real].mean()) for row, real in zip(values_SR, real_SR, strict=True)]
    assert by_sequence == pytest.approx(sum(means) / 6, abs=1e-6)
    assert by_token != pytest.approx(by_sequence, abs=1e-3)
    even_SR = torch.ones(6, 7, dtype=torch.bool)
    assert torch.allclose(token_weights(even_SR, "token"), token_weights(even_SR, "sequence"))


def test_an_empty_response_has_no_part_in_the_mean_over_sequences() -> None:
    real_SR = torch.tensor([[True, True], [False, False]])
    assert token_weights(real_SR, "sequence").tolist() == [[0.5, 0.5], [0.0, 0.0]]


def test_the_k_estimators_are_unbiased_and_k2_and_k3_never_negative() -> None:
    p, q = torch.tensor([[0.5, 0.3, 0.2], [0.4, 0.4, 0.2]], dtype=torch.float64).log()
    exact = float((p.exp() * (p - q)).sum())
    assert float((p.exp() * kl_k1(p, q)).sum()) == pytest.approx(exact)
    assert float((p.exp() * kl_k3(p, q)).sum()) == pytest.approx(exact)
    assert float((p.exp() * kl_k2(p, q)).sum()) == pytest.approx(exact, rel=0.2)  # biased, by the third order
    draws, others = torch.randn(1000), torch.randn(1000)
    assert float(kl_k2(draws, others).min()) >= 0.0
    assert float(kl_k3(draws, others).min()) >= 0.0
    assert float(kl_k1(draws, others).min()) < 0.0


def test_the_clip_fraction_counts_ratios_beyond_the_clip_on_either_side() -> None:
    ratio_N = torch.tensor([0.7, 0.85, 1.0, 1.15, 1.3])
    assert clip_fraction(ratio_N.log(), torch.zeros(5), 0.2).tolist() == [1.0, 0.0, 0.0, 0.0, 1.0]
