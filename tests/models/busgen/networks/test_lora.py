from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.busgen.network_config import LoraConfig, NetworkConfig
from models.busgen.networks.lora import (
    GROUPS,
    adapted_layers,
    adapter_names,
    add_lora,
    load_lora_state,
    lora_state,
    merge,
    set_adapter,
    unmerge,
)
from models.common.errors import CheckpointError, ConfigError
from tests.models.busgen.networks.made_up import DIT, UNET, conditions, inputs, small

BOTH = pytest.mark.parametrize("config", [UNET, DIT], ids=["unet", "dit"])
LORA = LoraConfig(rank=3, alpha=6.0)


def output(network: nn.Module) -> Tensor:
    x, level = inputs(2)
    with torch.no_grad():
        return network(x, level, conditions(2))


def fill(network: nn.Module, name: str, seed: int = 1) -> None:
    """Gives the adapter's tensors values, as training would."""
    draw = torch.Generator().manual_seed(seed)
    state = lora_state(network, name)
    load_lora_state(network, name, {key: 0.2 * torch.randn(at.shape, generator=draw) for key, at in state.items()})


@BOTH
def test_a_new_adapter_changes_nothing(config: NetworkConfig):
    network = small(config)
    before = output(network)
    add_lora(network, LORA)
    assert torch.equal(output(network), before)


@BOTH
def test_only_the_adapter_is_trained(config: NetworkConfig):
    network = small(config)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    add_lora(network, LORA)
    fill(network, "adapted")
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    assert sum(map(torch.numel, trained)) == sum(map(torch.numel, lora_state(network, "adapted").values()))
    x, level = inputs(2)
    network(x, level, conditions(2)).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in trained)
    torch.optim.SGD(network.parameters(), lr=0.1).step()
    after = network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


@BOTH
def test_the_bases_weights_keep_their_names(config: NetworkConfig):
    network = small(config)
    before = network.state_dict()
    add_lora(network, LORA)
    assert before.keys() == {name for name in network.state_dict() if ".adapters." not in name}


def test_a_linear_layer_is_w_plus_alpha_over_rank_b_a():
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(5, 7))
    weight, bias = (parameter.detach().clone() for parameter in layer.parameters())
    add_lora(layer, LoraConfig(rank=2, alpha=3.0, targets=("0",)))
    fill(layer, "adapted")
    state = lora_state(layer, "adapted")
    assert {key: tuple(at.shape) for key, at in state.items()} == {"0.down": (2, 5), "0.up": (7, 2)}
    x = torch.randn(4, 5)
    dense = weight + 3.0 / 2 * state["0.up"] @ state["0.down"]
    torch.testing.assert_close(layer(x), x @ dense.T + bias)


def test_a_convolution_is_adapted_through_all_of_its_kernel():
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1))
    weight, bias = (parameter.detach().clone() for parameter in layer.parameters())
    add_lora(layer, LoraConfig(rank=2, alpha=1.0, targets=("0",)))
    fill(layer, "adapted")
    down, up = lora_state(layer, "adapted").values()
    dense = weight + 0.5 * torch.einsum("or,rihw->oihw", up[:, :, 0, 0], down)
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(layer(x), F.conv2d(x, dense, bias, stride=2, padding=1), rtol=1e-4, atol=1e-5)


def test_a_table_gets_a_row_of_its_own_for_what_it_is_trained_on_and_no_other_changes():
    """As for a class that pretraining has never seen."""
    network = small(DIT)
    add_lora(network, LoraConfig(targets=("conditions",)))
    x, level = inputs(3)
    said = conditions(3)
    network(x, level, said).square().mean().backward()
    rows = network.get_parameter("embedding.tables.labels.adapters.adapted.up.weight").grad
    assert rows is not None
    assert {number for number, row in enumerate(rows) if row.abs().max() > 0} == set(said.labels_B.tolist())


@BOTH
def test_merged_is_the_same_network_and_unmerged_the_base_again(config: NetworkConfig):
    network = small(config)
    base = copy.deepcopy(network)
    add_lora(network, LORA)
    fill(network, "adapted")
    adapted = output(network)
    assert (adapted - output(base)).abs().max() > 1e-3
    merge(network)
    merge(network)  # once is enough
    torch.testing.assert_close(output(network), adapted, rtol=1e-4, atol=1e-5)
    unmerge(network)
    torch.testing.assert_close(output(network), adapted, rtol=1e-4, atol=1e-5)
    set_adapter(network, None)
    torch.testing.assert_close(output(network), output(base), rtol=1e-4, atol=1e-5)


@BOTH
def test_adapters_share_a_base_and_are_used_one_at_a_time(config: NetworkConfig):
    network = small(config)
    add_lora(network, LORA, "first")
    fill(network, "first")
    first = output(network)
    add_lora(network, LORA.but(rank=1, targets=("mlp",)), "second")
    fill(network, "second", seed=2)
    second = output(network)
    assert adapter_names(network) == ["first", "second"]
    assert (first - second).abs().max() > 1e-3
    merge(network)
    set_adapter(network, "first")
    torch.testing.assert_close(output(network), first, rtol=1e-4, atol=1e-5)
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert trained
    assert all(".adapters.first." in name for name in trained)


def test_an_adapters_state_makes_the_same_network_of_another_copy_of_the_base():
    network, other = small(DIT), small(DIT)
    for each in (network, other):
        add_lora(each, LORA)
    fill(network, "adapted")
    load_lora_state(other, "adapted", lora_state(network, "adapted"))
    assert torch.equal(output(other), output(network))
    merge(other)
    fill(network, "adapted", seed=5)
    load_lora_state(other, "adapted", lora_state(network, "adapted"))
    torch.testing.assert_close(output(other), output(network), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("group", "ends"),
    [
        ("attention", {"query_key_value", "out"}),
        ("mlp", {"convolution1", "convolution2"}),
        ("modulation", {"modulation"}),
        ("embedding", {"level", "condition", "joined"}),
        ("conditions", {"labels", "devices", "descriptors"}),
    ],
)
def test_a_group_means_the_layers_that_it_is_named_after(group: str, ends: set[str]):
    chosen = add_lora(small(UNET), LoraConfig(targets=(group,)))
    assert {name.rsplit(".", 1)[-1] for name in chosen} == ends


@BOTH
def test_every_layer_can_be_adapted(config: NetworkConfig):
    network = small(config)
    kinds = (nn.Linear, nn.Conv2d, nn.Embedding)
    layers = [name for name, layer in network.named_modules() if isinstance(layer, kinds)]
    assert add_lora(network, LoraConfig(targets=("all",))) == layers
    assert [name for name, _ in adapted_layers(network)] == layers
    assert add_lora(network, LoraConfig(targets=("all",)), "again") == layers, "adapters are not adapted themselves"


def test_the_start_of_an_adapter_is_its_generators():
    states = []
    for seed in (1, 1, 2):
        network = small(DIT)
        add_lora(network, LORA, generator=torch.Generator().manual_seed(seed))
        states.append(lora_state(network, "adapted")["layers.0.attention.out.down"])
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_a_target_that_means_nothing_is_an_error():
    with pytest.raises(ConfigError, match=f"no layer is meant by 'atention'\nfits: {', '.join(GROUPS)}"):
        add_lora(small(DIT), LoraConfig(targets=("attention", "atention")))


def test_adapters_are_asked_for_by_their_names():
    network = small(DIT)
    add_lora(network, LORA)
    with pytest.raises(ConfigError, match="there is an adapter 'adapted' already"):
        add_lora(network, LORA)
    with pytest.raises(ConfigError, match="did you mean 'adapted'"):
        set_adapter(network, "adopted")
    state = lora_state(network, "adapted")
    other = small(DIT)
    add_lora(other, LORA.but(rank=2))
    with pytest.raises(CheckpointError, match=r"has shape \(3, 16\)\nfits: \(2, 16\)"):
        load_lora_state(other, "adapted", state)
