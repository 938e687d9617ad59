"""The identities of the token reward, on random numbers of mixed lengths."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from models.rto.advantage import generalized_advantage
from models.rto.reward_config import Layout, TokenRewardConfig
from models.rto.token_reward import TokenReward, sentence_ends, token_reward

LAYOUTS: tuple[Layout, ...] = ("ppo", "rto", "semi_rto", "ddpo", "rs_ppo")
SEMI = {"sentence": 4, "delimiters": (0, 3)}


def _given(responses: int = 40, longest: int = 23, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    lengths_S = torch.randint(1, longest + 1, (responses,), generator=generator)
    shape = (responses, longest)
    draw = {name: torch.randn(shape, generator=generator, dtype=dtype) for name in ("policy", "reference", "dpo")}
    return {
        "real_SR": torch.arange(longest) < lengths_S[:, None],
        **{f"{name}_SR": -value_SR.abs() - 0.1 for name, value_SR in draw.items()},
        "score_S": torch.randn(responses, generator=generator, dtype=dtype),
        "tokens_SR": torch.randint(0, 9, shape, generator=generator),
    }


def _rewards(given: Mapping[str, Tensor | None], **settings: object) -> TokenReward:
    arguments: dict[str, Any] = dict(given)
    return token_reward(TokenRewardConfig().but(**{**SEMI, **settings}), **arguments)


def _sums(reward: TokenReward) -> Tensor:
    return reward.reward_SR.sum(dim=1)


def _by_hand(config: TokenRewardConfig, given: dict[str, Tensor]) -> Tensor:
    """Eq. 4.7 token by token."""
    reward_SR = torch.zeros_like(given["policy_SR"])
    for s, real_R in enumerate(given["real_SR"]):
        length, pending = int(real_R.sum()), 0.0
        for h in range(length):
            reference = float(given["reference_SR"][s, h])
            ratio = float(given["dpo_SR"][s, h]) - reference
            if config.log_ratio_clip is not None:
                ratio = max(-config.log_ratio_clip, min(config.log_ratio_clip, ratio))
            pending += config.beta1 * ratio
            is_last = h == length - 1
            ends = is_last or int(given["tokens_SR"][s, h]) in config.delimiters or (h + 1) % 4 == 0
            if (
                config.layout == "rto"
                or (config.layout == "semi_rto" and ends)
                or (config.layout == "ddpo" and is_last)
            ):
                reward_SR[s, h] += pending
                pending = 0.0
            reward_SR[s, h] -= config.beta2 * (float(given["policy_SR"][s, h]) - reference)
            if is_last:
                reward_SR[s, h] += config.beta3 * float(given["score_S"][s])
    return reward_SR


@pytest.mark.parametrize("layout", ["ppo", "rto", "semi_rto", "ddpo"])
def test_every_token_gets_what_a_loop_over_tokens_gives_it(layout: Layout) -> None:
    given = _given()
    config = TokenRewardConfig(layout=layout, beta1=0.3, beta2=0.07, beta3=1.3, log_ratio_clip=0.6, **SEMI)
    assert torch.allclose(token_reward(config, **given).reward_SR, _by_hand(config, given), atol=1e-12)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_without_beta1_every_layout_is_ppo_bit_for_bit(layout: Layout) -> None:
    given = _given(dtype=torch.float32)
    plain = _rewards(given, layout="ppo").reward_SR
    assert torch.equal(_rewards({**given, "dpo_SR": None}, layout=layout, beta1=0.0).reward_SR, plain)


def test_rto_semi_rto_and_ddpo_give_each_response_the_same_return() -> None:
    given = _given()
    rto = _sums(_rewards(given, layout="rto"))
    for layout in ("semi_rto", "ddpo"):
        assert torch.allclose(_sums(_rewards(given, layout=layout)), rto, atol=1e-12)


@pytest.mark.parametrize("clip", [None, 0.3])
def test_rs_ppo_gives_each_response_ppos_return_though_ratios_are_clipped(clip: float | None) -> None:
    given = _given()
    shaped = _rewards(given, layout="rs_ppo", beta1=0.5, log_ratio_clip=clip)
    assert torch.allclose(_sums(shaped), _sums(_rewards(given, layout="ppo")), atol=1e-12)


@pytest.mark.parametrize("gae_lambda", [0.0, 0.6, 0.95, 1.0])
@pytest.mark.parametrize("clip", [None, 0.3])
def test_rs_ppo_is_ppo_whose_values_have_the_dpo_policy_s_potential_added(
    gae_lambda: float, clip: float | None
) -> None:
    given = _given()
    real_SR = given["real_SR"]
    responses, longest = real_SR.shape
    value_ST = torch.randn((responses, longest + 1), dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    shaped = _rewards(given, layout="rs_ppo", beta1=0.5, log_ratio_clip=clip)
    plain = _rewards(given, layout="ppo")
    ratio_SR = given["dpo_SR"] - given["reference_SR"]
    if clip is not None:
        ratio_SR = ratio_SR.clamp(-clip, clip)
    potential_ST = torch.zeros_like(value_ST)
    potential_ST[:, 1:] = (0.5 * ratio_SR * real_SR).cumsum(dim=1)
    ours, other = (
        generalized_advantage(reward_SR, each_ST, real_SR, discount=1.0, gae_lambda=gae_lambda)
        for reward_SR, each_ST in ((shaped.reward_SR, value_ST), (plain.reward_SR, value_ST + potential_ST))
    )
    assert torch.allclose(ours, other, atol=1e-11)


def test_the_dpo_policy_itself_earns_nothing_where_beta1_is_beta2() -> None:
    given = _given()
    given["policy_SR"] = given["dpo_SR"]
    reward = _rewards(given, beta1=0.07, beta2=0.07, beta3=0.0, log_ratio_clip=None)
    assert float(reward.reward_SR.abs().max()) == 0.0


def test_a_clipped_token_earns_at_most_beta1_times_the_clip_and_is_counted() -> None:
    given = _given()
    reward = _rewards(given, beta1=0.05, log_ratio_clip=0.4)
    assert float(reward.dpo_SR.abs().max()) == pytest.approx(0.05 * 0.4)
    beyond = ((given["dpo_SR"] - given["reference_SR"]).abs() > 0.4) & given["real_SR"]
    assert torch.equal(reward.clipped_SR, beyond)
    assert not _rewards(given, log_ratio_clip=None).clipped_SR.any()


@pytest.mark.parametrize(("beta", "part"), [("beta1", "dpo"), ("beta2", "kl"), ("beta3", "score")])
def test_a_coefficient_of_zero_switches_its_part_off(beta: str, part: str) -> None:
    given = _given()
    reward = _rewards(given, **{beta: 0.0})
    parts = {"dpo": reward.dpo_SR, "kl": reward.kl_SR, "score": reward.score_SR}
    assert not parts.pop(part).any()
    assert all(other.any() for other in parts.values())
    assert torch.equal(reward.reward_SR, sum(parts.values(), torch.zeros(())))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_leaks_from_places_that_are_not_real(layout: Layout) -> None:
    given = _given()
    clean = _rewards(given, layout=layout)
    broken = {
        name: value.masked_fill(~given["real_SR"], torch.nan) if name[:-3] in ("policy", "reference", "dpo") else value
        for name, value in given.items()
    }
    reward = _rewards(broken, layout=layout)
    assert torch.equal(reward.reward_SR, clean.reward_SR)
    assert not reward.reward_SR[~given["real_SR"]].any()
    assert reward.shares_of_return() == clean.shares_of_return()


def test_more_padding_changes_nothing() -> None:
    given = _given()
    wide = {
        name: value if name == "score_S" else torch.nn.functional.pad(value, (0, 5)) for name, value in given.items()
    }
    for layout in LAYOUTS:
        assert torch.equal(_rewards(wide, layout=layout).reward_SR[:, :-5], _rewards(given, layout=layout).reward_SR)


def test_the_kl_part_is_k1_or_k3_of_the_sampled_token() -> None:
    given = _given()
    ratio_SR = (given["policy_SR"] - given["reference_SR"]) * given["real_SR"]
    assert torch.allclose(_rewards(given, beta2=0.3).kl_SR, -0.3 * ratio_SR)
    k3_SR = (torch.exp(-ratio_SR) - 1.0 + ratio_SR) * given["real_SR"]
    assert torch.allclose(_rewards(given, beta2=0.3, kl_estimator="k3").kl_SR, -0.3 * k3_SR)


def test_a_sentence_ends_at_a_delimiter_and_at_the_last_token() -> None:
    real_SR = torch.tensor([[True] * 6 + [False], [True] * 3 + [False] * 4])
    tokens_SR = torch.tensor([[5, 2, 5, 5, 2, 5, 2], [2, 5, 5, 2, 2, 2, 2]])
    ends = sentence_ends(real_SR, tokens_SR=tokens_SR, delimiters=(2,), every=None)
    assert ends.int().tolist() == [[0, 1, 0, 0, 1, 1, 0], [1, 0, 1, 0, 0, 0, 0]]
    every_second = sentence_ends(real_SR, tokens_SR=None, delimiters=(), every=2)
    assert every_second.int().tolist() == [[0, 1, 0, 1, 0, 1, 0], [0, 1, 1, 0, 0, 0, 0]]


def test_shares_of_the_return_are_the_sizes_of_its_parts() -> None:
    real_SR = torch.tensor([[True, True], [True, False]])
    same = torch.full((2, 2), -1.0)
    reward = token_reward(
        TokenRewardConfig(beta1=0.5, beta2=0.25, beta3=1.0, log_ratio_clip=None),
        real_SR=real_SR,
        policy_SR=same + 0.4,  # a KL part of -0.1 a token
        reference_SR=same,
        dpo_SR=same + 0.6,  # a DPO part of 0.3 a token
        score_S=torch.tensor([1.0, -2.0]),
    )
    sizes = {"dpo": (0.6 + 0.3) / 2, "kl": (0.2 + 0.1) / 2, "score": (1.0 + 2.0) / 2}
    total = sum(sizes.values())
    assert reward.shares_of_return() == pytest.approx({name: size / total for name, size in sizes.items()})
