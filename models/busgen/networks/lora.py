"""Low-rank adapters on a frozen network (Hu et al. 2021, LoRA): W + (alpha / rank) B A.

A layer that is adapted stays where it is and keeps its weights' names; its adapters stand beside them, by their own
names. So a base network's weights load with and without adapters, and several adapters share one base.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any, cast

import torch
from torch import Tensor, nn

from models.busgen.network_config import LoraConfig
from models.common.config import unknown
from models.common.errors import CheckpointError, ConfigError

GROUPS: dict[str, tuple[str, ...]] = {
    "attention": ("*attention.query_key_value", "*attention.out"),
    "mlp": ("*feed_forward.*", "*convolution1", "*convolution2"),
    "modulation": ("*modulation", "*_shifts.*"),
    "embedding": (
        "*embedding.level",
        "*embedding.condition",
        "*embedding.joined",
        "*told.level.*",
        "*told.condition.*",
    ),
    "conditions": ("*labels", "*devices", "*descriptors"),
    "all": ("*",),
}


class Adapter(nn.Module):
    """A and B of one layer; B starts at zero, so that the layer starts as it was."""

    def __init__(self, down: nn.Linear | nn.Conv2d | None, up: nn.Module, scale: float) -> None:
        super().__init__()
        self.down = down
        self.up = up
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.up(x if self.down is None else self.down(x))

    def difference(self) -> Tensor:
        """What it adds to the layer's weight: (alpha / rank) B A, in the weight's shape (Hu et al. 2021, eq. 3)."""
        up = cast(Tensor, self.up.weight)
        if self.down is None:
            return up * self.scale
        down = self.down.weight
        return self.scale * (up.flatten(1) @ down.flatten(1)).reshape(len(up), *down.shape[1:])


class Adapted:
    """A layer with adapters, of which one is in use, or none. The layer's own kind is the other base class."""

    weight: Tensor
    adapters: nn.ModuleDict
    active: str | None
    merged: str | None  # whose difference is in the weight now

    def forward(self, input: Tensor) -> Tensor:
        found = super().forward(input)  # pyright: ignore[reportAttributeAccessIssue] - of the layer's own kind
        if self.active is None or self.active not in self.adapters or self.merged == self.active:
            return found
        return found + self.adapters[self.active](input)

    def add(self, name: str, config: LoraConfig, generator: torch.Generator | None) -> None:
        down, up, scale = self._factors(config)
        if down is not None:
            nn.init.kaiming_uniform_(down.weight, a=math.sqrt(5), generator=generator)
        nn.init.zeros_(cast(Tensor, up.weight))
        self.adapters[name] = Adapter(down, up, scale).to(self.weight.device, self.weight.dtype)

    def _factors(self, config: LoraConfig) -> tuple[nn.Linear | nn.Conv2d | None, nn.Module, float]:
        raise NotImplementedError


class AdaptedLinear(Adapted, nn.Linear):
    def _factors(self, config: LoraConfig) -> tuple[nn.Linear, nn.Linear, float]:
        rank = min(config.rank, self.in_features, self.out_features)
        down = nn.Linear(self.in_features, rank, bias=False)
        return down, nn.Linear(rank, self.out_features, bias=False), config.alpha / config.rank


class AdaptedConv2d(Adapted, nn.Conv2d):
    """A has the convolution's kernel and stride, and B is a convolution of single pixels."""

    def _factors(self, config: LoraConfig) -> tuple[nn.Conv2d, nn.Conv2d, float]:
        rank = min(config.rank, self.out_channels, self.weight[0].numel())
        size = cast(tuple[int, int], self.kernel_size)
        stride, padding = cast(tuple[int, int], self.stride), cast(tuple[int, int], self.padding)
        down = nn.Conv2d(self.in_channels, rank, size, stride, padding, bias=False)
        return down, nn.Conv2d(rank, self.out_channels, 1, bias=False), config.alpha / config.rank


class AdaptedEmbedding(Adapted, nn.Embedding):
    """A table of few rows is adapted by one of its own shape, unscaled: a product would have no fewer numbers."""

    def _factors(self, config: LoraConfig) -> tuple[None, nn.Embedding, float]:
        return None, nn.Embedding(self.num_embeddings, self.embedding_dim), 1.0


ADAPTED: dict[type[nn.Module], type[Any]] = {
    nn.Linear: AdaptedLinear,
    nn.Conv2d: AdaptedConv2d,
    nn.Embedding: AdaptedEmbedding,
}


def add_lora(
    module: nn.Module, config: LoraConfig, name: str = "adapted", generator: torch.Generator | None = None
) -> list[str]:
    """The names of the layers that got an adapter of this name; it is in use, and nothing else is trained from now.

    Raises ConfigError where a target matches no layer, or the name is taken.
    """
    if name in adapter_names(module):
        raise ConfigError(f"there is an adapter '{name}' already\ngive another name, or load weights into that one")
    if not name.isidentifier():
        raise ConfigError(f"an adapter cannot be called '{name}'\nfits: letters, digits and _")
    chosen = _chosen(module, config.targets)
    for layer_name in chosen:
        layer = _adaptable(module, layer_name)
        layer.add(name, config, generator)
    set_adapter(module, name)
    return chosen


def set_adapter(module: nn.Module, name: str | None) -> None:
    """Puts this adapter to use and to be trained, alone; None is the base as it was, and trains nothing."""
    if name is not None and name not in (names := adapter_names(module)):
        raise ConfigError(unknown("adapter", name, names))
    unmerge(module)
    for parameter in module.parameters():
        parameter.requires_grad_(False)  # noqa: FBT003 - torch's own
    for _, layer in adapted_layers(module):
        layer.active = name
        if name is not None and name in layer.adapters:
            layer.adapters[name].requires_grad_(True)  # noqa: FBT003 - torch's own


def adapter_names(module: nn.Module) -> list[str]:
    return sorted({name for _, layer in adapted_layers(module) for name in layer.adapters})


@torch.no_grad()
def merge(module: nn.Module) -> None:
    """Adds the adapter in use to the weights, so that it costs nothing to sample with; `unmerge` takes it out."""
    for _, layer in adapted_layers(module):
        if layer.active is not None and layer.active in layer.adapters and layer.merged is None:
            layer.weight.add_(_adapter(layer, layer.active).difference())
            layer.merged = layer.active


@torch.no_grad()
def unmerge(module: nn.Module) -> None:
    """Takes a merged adapter out of the weights again, to rounding; the base's own weights stay as they are else."""
    for _, layer in adapted_layers(module):
        if layer.merged is not None:
            layer.weight.sub_(_adapter(layer, layer.merged).difference())
            layer.merged = None


def lora_state(module: nn.Module, name: str) -> dict[str, Tensor]:
    """The adapter's tensors, by layer: "layers.0.attention.out.down" and "....up"."""
    if name not in (names := adapter_names(module)):
        raise ConfigError(unknown("adapter", name, names))
    return {key: tensor.detach() for key, tensor in _tensors(module, name)}


@torch.no_grad()
def load_lora_state(module: nn.Module, name: str, state: dict[str, Tensor]) -> None:
    """Copies such tensors into an adapter that `add_lora` made with the same settings."""
    if name not in (names := adapter_names(module)):
        raise ConfigError(unknown("adapter", name, names))
    merged = any(layer.merged == name for _, layer in adapted_layers(module))
    unmerge(module)
    ours = dict(_tensors(module, name))
    shapes, found = ({key: tuple(tensor.shape) for key, tensor in of.items()} for of in (ours, state))
    if shapes != found:
        strange = sorted(key for key in shapes.keys() | found.keys() if shapes.get(key) != found.get(key))
        raise CheckpointError(
            f"the adapter's {strange[0]} has shape {found.get(strange[0], 'none')}\n"
            f"fits: {shapes.get(strange[0], 'no such tensor')}\nadd the adapter with the settings it was trained with"
        )
    for key, tensor in ours.items():
        tensor.copy_(state[key])
    if merged:
        merge(module)


def adapted_layers(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Layers that have adapters, by name."""
    for name, layer in module.named_modules():
        if isinstance(layer, Adapted):
            yield name, layer


def _tensors(module: nn.Module, name: str) -> Iterator[tuple[str, Tensor]]:
    for layer_name, layer in adapted_layers(module):
        if name in layer.adapters:
            for key, tensor in layer.adapters[name].named_parameters():
                yield f"{layer_name}.{key.removesuffix('.weight')}", tensor


def _adapter(layer: Any, name: str) -> Adapter:
    return layer.adapters[name]


def _chosen(module: nn.Module, targets: tuple[str, ...]) -> list[str]:
    """Names of the layers that any target means, in the network's order."""
    inside = [f"{name}." for name, _ in adapted_layers(module)]
    layers = [
        name
        for name, layer in module.named_modules()
        if (type(layer) in ADAPTED or isinstance(layer, Adapted))
        and not any(name.startswith(prefix) for prefix in inside)
    ]
    chosen = set[str]()
    for target in targets:
        patterns = GROUPS.get(target, (target,))
        met = [name for name in layers if any(fnmatchcase(name, pattern) for pattern in patterns)]
        if not met:
            raise ConfigError(f"no layer is meant by '{target}'\nfits: {', '.join(GROUPS)}; or of {', '.join(layers)}")
        chosen.update(met)
    return [name for name in layers if name in chosen]


def _adaptable(module: nn.Module, name: str) -> Any:
    """The layer of this name as one that takes adapters: its class changes, its weights and its place do not."""
    layer = module.get_submodule(name)
    if not isinstance(layer, Adapted):
        layer.__class__ = ADAPTED[type(layer)]
        adapted = cast(Any, layer)
        adapted.adapters = nn.ModuleDict()
        adapted.active = adapted.merged = None
    return layer
