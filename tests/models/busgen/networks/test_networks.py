from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.busgen.network_config import DiTConfig, NetworkConfig, UNetConfig
from models.busgen.networks.conditions import Conditions
from models.busgen.networks.dit import images_of, patches_of
from models.busgen.networks.layers import GroupNorm, PixelAttention
from models.busgen.networks.network import make_network, parameter_count
from tests.models.busgen.networks.made_up import (
    CONDITIONS,
    DIT,
    OFFICIAL,
    OFFICIAL_CONDITIONS,
    SIDE,
    UNET,
    conditions,
    inputs,
    small,
)

BOTH = pytest.mark.parametrize("config", [UNET, DIT], ids=["unet", "dit"])
ALL = pytest.mark.parametrize("config", [UNET, DIT, OFFICIAL], ids=["unet", "dit", "official"])


def conditions_for(config: NetworkConfig) -> Any:
    return OFFICIAL_CONDITIONS if config == OFFICIAL else CONDITIONS


@ALL
@pytest.mark.parametrize("channels", [1, 3])
def test_a_new_network_returns_zeros_in_the_images_shape(config: NetworkConfig, channels: int):
    network = make_network(config, conditions_for(config), SIDE, channels)
    x, level = inputs(3, channels)
    assert torch.equal(network(x, level, conditions(3, conditions_for(config))), torch.zeros(3, channels, SIDE, SIDE))


def changed(said: Conditions, what: str) -> Conditions:
    """The conditions with one thing otherwise."""
    return {
        "label": lambda: replace(said, labels_B=said.labels_B % 3 + 1),
        "device": lambda: replace(said, devices_B=said.devices_B % 2 + 1),
        "mask": lambda: replace(said, mask_B1HW=said.mask_B1HW.flip(2)),
        "mask_given": lambda: replace(said, mask_given_B=torch.zeros(len(said))),
        "label_open": lambda: replace(said, labels_B=torch.zeros_like(said.labels_B)),
    }[what]()


@BOTH
@pytest.mark.parametrize("what", ["label", "device", "mask", "mask_given", "label_open"])
def test_each_condition_has_an_influence(config: NetworkConfig, what: str):
    network, (x, level), said = small(config), inputs(2), conditions(2)
    difference = network(x, level, said) - network(x, level, changed(said, what))
    assert (difference.abs().amax(dim=(1, 2, 3)) > 1e-4).all()


@BOTH
@pytest.mark.parametrize("column", range(len(CONDITIONS.descriptors)))
def test_each_descriptor_has_an_influence_of_its_own(config: NetworkConfig, column: int):
    network, (x, level), said = small(config), inputs(2), conditions(2)
    other = said.descriptors_BA.clone()
    other[:, column] = (other[:, column] + 1) % 3
    difference = network(x, level, said) - network(x, level, replace(said, descriptors_BA=other))
    assert (difference.abs().amax(dim=(1, 2, 3)) > 1e-4).all()


@BOTH
def test_a_label_left_open_is_not_the_normal_class(config: NetworkConfig):
    network, (x, level), said = small(config), inputs(1), conditions(1)
    normal, left_open = (replace(said, labels_B=torch.tensor([number])) for number in (1, 0))
    assert (network(x, level, normal) - network(x, level, left_open)).abs().max() > 1e-4


@BOTH
def test_no_lesion_is_not_the_same_as_nothing_said_of_one(config: NetworkConfig):
    network, (x, level), said = small(config), inputs(1), conditions(1)
    nowhere = replace(said, mask_B1HW=torch.zeros(1, 1, SIDE, SIDE))
    unsaid = replace(nowhere, mask_given_B=torch.zeros(1))
    assert (network(x, level, nowhere) - network(x, level, unsaid)).abs().max() > 1e-4


@ALL
def test_the_noise_level_has_an_influence(config: NetworkConfig):
    network, (x, level), said = small(config, conditions_for(config)), inputs(2), conditions(2, conditions_for(config))
    difference = network(x, level, said) - network(x, level + 0.05, said)
    assert (difference.abs().amax(dim=(1, 2, 3)) > 1e-5).all()


@ALL
def test_images_of_a_batch_do_not_see_each_other(config: NetworkConfig):
    network, (x, level), said = small(config, conditions_for(config)), inputs(3), conditions(3, conditions_for(config))
    together = network(x, level, said)
    alone = torch.cat([network(x[[row]], level[[row]], said.take([row])) for row in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def step_of(network: nn.Module, config: NetworkConfig) -> dict[str, Tensor]:
    """Gradients of a loss, dropout drawn from a fixed seed."""
    x, level = inputs(2)
    torch.manual_seed(3)
    network.train()
    network(x, level, conditions(2, conditions_for(config))).square().mean().backward()
    return {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}


@ALL
def test_a_step_is_the_same_with_activations_computed_anew(config: NetworkConfig):
    dropping = config.but(dropout=0.2)
    plain = small(dropping, conditions_for(config))
    anew = small(dropping.but(recompute=True), conditions_for(config))
    expected, found = step_of(plain, config), step_of(anew, config)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize("config", [UNET, OFFICIAL], ids=["unet", "official"])
def test_results_are_the_same_with_channels_last(config: NetworkConfig):
    network, (x, level), said = small(config, conditions_for(config)), inputs(2), conditions(2, conditions_for(config))
    expected = network(x, level, said)
    last = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - torch's stub lacks it
    found = last(x.to(memory_format=torch.channels_last), level, said)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@ALL
@pytest.mark.parametrize("way", ["autocast", "cast"])
def test_bfloat16_is_finite_and_near_float32(config: NetworkConfig, way: str):
    network, (x, level), said = small(config, conditions_for(config)), inputs(2), conditions(2, conditions_for(config))
    x = 30 * x
    expected = network(x, level, said)
    if way == "cast":
        network.to(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=way == "autocast"):
        found = network(x, level, said)
    assert found.isfinite().all()
    assert found.dtype == torch.float32 or way == "autocast"
    assert (found.float() - expected).norm() < 0.1 * expected.norm()


def attention_sides(config: UNetConfig, side: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The side of the image at each call of attention, as torch is asked for it."""
    seen = []
    real = torch.nn.functional.scaled_dot_product_attention

    def recorded(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        seen.append(round(query.shape[2] ** 0.5))
        return real(query, key, value)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", recorded)
    made = OFFICIAL_CONDITIONS if config.layout == "official" else CONDITIONS
    network = make_network(config, made, side)
    said = conditions(1, made)
    mask = torch.zeros(1, 1, side, side)
    network(torch.zeros(1, 1, side, side), torch.zeros(1), replace(said, mask_B1HW=mask))
    return seen


@pytest.mark.parametrize(("most", "expected"), [(0, set()), (7, {4}), (8, {4, 8}), (64, {4, 8, 16})])
def test_attention_stays_at_the_sides_it_may_have(most: int, expected: set[int], monkeypatch: pytest.MonkeyPatch):
    assert set(attention_sides(UNET.but(most_attention_side=most), 16, monkeypatch)) == expected


def test_the_default_network_has_no_attention_beyond_side_20(monkeypatch: pytest.MonkeyPatch):
    small_default = UNetConfig(width=8)
    assert max(attention_sides(small_default, 64, monkeypatch)) == 16


def test_the_official_layout_attends_after_each_encoder_block_and_once_in_the_middle(monkeypatch: pytest.MonkeyPatch):
    config = OFFICIAL.but(multipliers=(1, 2, 2, 2), blocks=(2, 2, 2, 2), most_attention_side=1024)
    assert attention_sides(config, 16, monkeypatch) == [16, 16, 8, 8, 4, 4, 2, 2, 2]


def test_attention_is_the_softmax_of_all_pairs_of_pixels():
    torch.manual_seed(0)
    layer = PixelAttention(8, head_width=4)
    with torch.no_grad():
        layer.out.weight.normal_()
    x = torch.randn(2, 8, 3, 3)
    query, key, value = layer.query_key_value(layer.norm(x).flatten(2).mT).mT.chunk(3, dim=1)
    expected = torch.zeros(2, 8, 9)
    for head in (slice(0, 4), slice(4, 8)):
        weight = (query[:, head].transpose(1, 2) @ key[:, head] / 4**0.5).softmax(dim=-1)
        expected[:, head] = value[:, head] @ weight.transpose(1, 2)
    expected = x + layer.out(expected.mT).mT.view(2, 8, 3, 3)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_a_modulated_norm_is_the_norm_scaled_and_shifted(order: torch.memory_format):
    torch.manual_seed(0)
    norm = GroupNorm(16)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(3, 16, 5, 5).contiguous(memory_format=order)
    scale, shift = torch.randn(3, 16), torch.randn(3, 16)
    groups = x.reshape(3, 4, 4, 25)
    deviation = (groups.var(dim=(2, 3), keepdim=True, unbiased=False) + norm.eps).sqrt()
    normed = ((groups - groups.mean(dim=(2, 3), keepdim=True)) / deviation).reshape(3, 16, 5, 5)
    expected = normed * norm.weight[:, None, None] + norm.bias[:, None, None]
    expected = expected * (1 + scale[..., None, None]) + shift[..., None, None]
    torch.testing.assert_close(norm.modulated(x, scale, shift), expected, rtol=1e-4, atol=1e-5)


def test_patches_are_cut_and_put_together_again():
    x = torch.arange(2 * 3 * 8 * 8.0).reshape(2, 3, 8, 8)
    patches = patches_of(x, 4)
    assert torch.equal(patches[1, 1].reshape(3, 4, 4), x[1, :, :4, 4:])
    assert torch.equal(patches[1, 2].reshape(3, 4, 4), x[1, :, 4:, :4])
    assert torch.equal(images_of(patches, 4, 2), x)


def test_a_patch_of_8_takes_images_of_64():
    network = make_network(DiTConfig(patch=8, width=16, layers=1, heads=2), CONDITIONS, 64)
    assert network.get_parameter("positions_SE").shape == (64, 16)
    said = replace(conditions(1), mask_B1HW=torch.zeros(1, 1, 64, 64))
    assert network(torch.zeros(1, 1, 64, 64), torch.zeros(1), said).shape == (1, 1, 64, 64)


def test_a_dit_counts_as_many_parameters_as_its_matrices_have():
    width, patch, layers = DIT.width, DIT.patch, DIT.layers
    rows = (3 + 1) + (2 + 1) + sum([4, 3, 6, 7, 5, 5, 3])  # labels, devices, and values of each descriptor and open
    embedding = rows * width + (width**2 + width) + width**2 + (width**2 + width)
    modulation = (width + 1) * (6 * layers + 2) * width
    ends = (3 * patch**2 + 1) * width + (SIDE // patch) ** 2 * width + (width + 1) * patch**2
    of_layer = (width + 1) * 3 * width + (width + 1) * width + (width + 1) * 4 * width + (4 * width + 1) * width
    assert parameter_count(DIT, CONDITIONS, SIDE) == embedding + modulation + ends + layers * of_layer
