"""Value by value against TRL, torchrl and verl: numbers that `benchmarks/rto_peers.py` made from random inputs."""

# B pairs   2 chosen, rejected   S responses, or pairs of them   R tokens of a response, padded on the right
# T = R + 1 states

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models.rto import preference_losses as losses
from models.rto.advantage import generalized_advantage, whitened
from models.rto.ppo_losses import kl_k1, kl_k2, kl_k3, policy_loss, token_weights, value_loss
from models.rto.reward_config import TokenRewardConfig
from models.rto.token_reward import token_reward

Numbers = dict[str, Any]


def assert_same(ours: Tensor, theirs: Tensor, tolerance: float = 1e-12) -> None:
    """All numbers are float64."""
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def read(peer: str) -> Numbers:
    """A peer's numbers; those whose name ends in capitals are tensors."""
    return tensors(json.loads((Path(__file__).parent / "peers" / f"{peer}.json").read_text()))


def tensors(numbers: Numbers) -> Numbers:
    made: Numbers = {}
    for name, value in numbers.items():
        if isinstance(value, dict):
            made[name] = tensors(value)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            made[name] = [tensors(part) for part in value]
        else:
            dtype = torch.bool if "real" in name or "bootstrap" in name else torch.float64
            made[name] = torch.tensor(value, dtype=dtype) if isinstance(value, list) else value
    return made


def test_generalized_advantages_are_those_of_torchrl_and_count_the_last_value_of_what_was_cut_off() -> None:
    peer = read("torchrl")
    drawn = peer["inputs"]
    real_SR = drawn["real_SR"]
    for case in peer["advantages"]:
        advantage_SR = generalized_advantage(
            drawn["reward_SR"],
            drawn["value_ST"],
            real_SR,
            discount=case["discount"],
            gae_lambda=case["lambda"],
            bootstrap_S=drawn["bootstrap_S"],
        )
        assert_same(advantage_SR, case["advantage_SR"])
        target_SR = torch.where(real_SR, advantage_SR + drawn["value_ST"][:, :-1], 0.0)
        assert_same(target_SR, case["target_SR"])


def test_whitened_advantages_are_those_of_verl_up_to_its_unbiased_variance() -> None:
    peer = read("verl")
    drawn = peer["inputs"]
    real_SR = drawn["real_SR"]
    unbiased = ((real_SR.sum() - 1) / real_SR.sum()).sqrt()
    value_ST = torch.nn.functional.pad(drawn["value_SR"], (0, 1))
    for case in peer["advantages"]:
        advantage_SR = generalized_advantage(
            drawn["reward_SR"], value_ST, real_SR, discount=case["discount"], gae_lambda=case["lambda"]
        )
        return_SR = advantage_SR + drawn["value_SR"]
        assert_same(return_SR[real_SR], case["return_SR"][real_SR])
        whitened_SR = unbiased * whitened(advantage_SR, real_SR)
        assert_same(whitened_SR[real_SR], case["whitened_SR"][real_SR], 1e-7)


def policy_losses(drawn: Numbers, clip: float, of_SR: Tensor) -> Tensor:
    return policy_loss(of_SR, drawn["old_log_probs_SR"], drawn["advantage_SR"], clip)


def value_losses(drawn: Numbers, clip: float, of_SR: Tensor) -> Tensor:
    return value_loss(of_SR, drawn["old_value_SR"], drawn["return_SR"], clip)


@pytest.mark.parametrize(
    ("kind", "of", "losses"), [("policy", "log_probs_SR", policy_losses), ("value", "value_SR", value_losses)]
)
def test_losses_of_ppo_and_their_gradients_are_those_of_verl(
    kind: str, of: str, losses: Callable[[Numbers, float, Tensor], Tensor]
) -> None:
    peer = read("verl")
    drawn = peer["inputs"]
    real_SR = drawn["real_SR"]
    for case in peer[kind]:
        of_SR = drawn[of].clone().requires_grad_()
        each_SR = losses(drawn, case["clip"], of_SR)
        assert_same(each_SR.detach()[real_SR], case["each_SR"][real_SR])
        for reduction in ("token", "sequence"):
            loss = (token_weights(real_SR, reduction) * each_SR).sum()
            (gradient_SR,) = torch.autograd.grad(loss, of_SR, retain_graph=True)
            # verl divides a response's sum by its tokens + 1e-8
            assert loss.item() == pytest.approx(case[reduction], rel=1e-7)
            torch.testing.assert_close(gradient_SR, case[f"{reduction}_gradient_SR"], rtol=1e-7, atol=1e-12)


def test_estimates_of_the_kl_are_those_of_verl() -> None:
    peer = read("verl")
    drawn = peer["inputs"]
    for name, estimate in {"k1": kl_k1, "k2": kl_k2, "k3": kl_k3}.items():
        estimate_SR = estimate(drawn["log_probs_SR"], drawn["reference_SR"])
        assert_same(estimate_SR, peer["kl"][name])


def test_the_reward_of_ppo_is_the_score_and_the_kl_part_of_verl() -> None:
    peer = read("verl")
    drawn = peer["inputs"]
    real_SR = drawn["real_SR"]
    score_S = drawn["reward_SR"].sum(dim=1)
    reward = token_reward(
        TokenRewardConfig(layout="ppo", beta1=0.0, beta2=0.05, beta3=1.0),
        real_SR=real_SR,
        policy_SR=drawn["log_probs_SR"],
        reference_SR=drawn["reference_SR"],
        dpo_SR=None,
        score_S=score_S,
    )
    kl_SR = (peer["reward_with_kl_SR"] - drawn["reward_SR"])[real_SR]
    assert_same(reward.kl_SR[real_SR], kl_SR)
    assert_same(reward.reward_SR.sum(dim=1), torch.where(real_SR, peer["reward_with_kl_SR"], 0.0).sum(dim=1))


def pair_sums(drawn: Numbers, whose: str) -> Tensor:
    return torch.stack([drawn[f"{whose}_chosen_SR"].sum(dim=1), drawn[f"{whose}_rejected_SR"].sum(dim=1)], dim=1)


def pair_lengths(drawn: Numbers) -> Tensor:
    return torch.stack([drawn["chosen_real_SR"].sum(dim=1), drawn["rejected_real_SR"].sum(dim=1)], dim=1)


def loss_of(case: Numbers, policy_B2: Tensor, reference_B2: Tensor, lengths_B2: Tensor) -> Tensor:
    """Our loss of the pairs in TRL's form, which differs from ours as a comment says."""
    beta, setting = case["beta"], case["setting"]
    ratios_B2 = policy_B2 - reference_B2
    match case["loss"]:
        case "sigmoid":
            return losses.dpo_loss(ratios_B2, beta=beta, label_smoothing=0.0)
        case "ipo":  # TRL divides each log-ratio by its response's length
            return losses.ipo_loss(ratios_B2 / lengths_B2, beta=beta, label_smoothing=0.0)
        case "simpo":
            return losses.simpo_loss(policy_B2, lengths_B2, beta=beta, gamma=setting, label_smoothing=0.0)
        case "robust":  # ((1 - e) l(pair) - e l(pair the other way round)) / (1 - 2 e), of the same two losses as cDPO
            right_B = losses.dpo_loss(ratios_B2, beta=beta, label_smoothing=0.0)
            wrong_B = losses.dpo_loss(ratios_B2.flip(1), beta=beta, label_smoothing=0.0)
            return ((1.0 - setting) * right_B - setting * wrong_B) / (1.0 - 2.0 * setting)
    raise AssertionError(case["loss"])


def test_losses_of_preference_pairs_and_their_gradients_are_those_of_trl() -> None:
    peer = read("trl")
    drawn = peer["inputs"]
    policy_B2, reference_B2, lengths_B2 = pair_sums(drawn, "policy"), pair_sums(drawn, "reference"), pair_lengths(drawn)
    assert {case["loss"] for case in peer["losses"]} == {"sigmoid", "ipo", "simpo", "robust"}
    for case in peer["losses"]:
        policy_B2 = policy_B2.detach().requires_grad_()
        loss_B = loss_of(case, policy_B2, reference_B2, lengths_B2)
        (gradient_B2,) = torch.autograd.grad(loss_B.sum(), policy_B2)
        assert_same(loss_B.detach(), case["losses_S"])
        assert_same(gradient_B2[:, 0], case["gradient_SR"][:, 0])  # all tokens of a response have the same


def test_losses_with_smoothed_labels_and_their_gradients_are_those_of_trl() -> None:
    peer = read("trl-0.28")
    drawn = peer["inputs"]
    policy_B2, reference_B2 = pair_sums(drawn, "policy"), pair_sums(drawn, "reference")
    for case in peer["losses"]:
        policy_B2 = policy_B2.detach().requires_grad_()
        loss_B = losses.dpo_loss(policy_B2 - reference_B2, beta=case["beta"], label_smoothing=case["smoothing"])
        (gradient_B2,) = torch.autograd.grad(loss_B.sum(), policy_B2)
        assert_same(loss_B.detach(), case["losses_S"])
        assert_same(gradient_B2[:, 0], case["gradient_S"])
