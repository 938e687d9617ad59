"""Where a training begins: a fresh state from its mean field, or the weights of a published one."""

# P parameters

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.common.errors import ConfigError
from models.common.weights import load_weights
from models.nqs.config import StateConfig
from models.nqs.system import SystemConfig


def make_state(config: StateConfig) -> nn.Module:
    """The variational state of a config, projected where it says so; random starts come from torch's generator."""
    from models.nqs.network import make_ansatz
    from models.nqs.symmetry import Projected
    from models.nqs.symmetry_group import projection

    ansatz = make_ansatz(config.ansatz, config.system)
    if config.symmetry.is_trivial:
        return ansatz
    return Projected(ansatz, projection(config.symmetry, config.system))


def read_state(config: StateConfig, folder: Path, device: torch.device) -> nn.Module:
    """The trained state in a stage's folder."""
    state = make_state(config)
    state.load_state_dict(_named_for(state, load_weights(folder)))
    return state.to(device).eval()


def begin_with(state: nn.Module, folder: Path) -> None:
    """Takes over every weight of a published state that has the same shape here; the others stay as they were made.

    On the same lattice that is all of them. From a smaller lattice what does not depend on its size is taken: the
    layers, but not the orbitals.
    """
    found = _named_for(state, load_weights(folder))
    own = state.state_dict()
    state.load_state_dict({name: found[name] if _fits(name, value, found) else value for name, value in own.items()})


def _fits(name: str, value: Tensor, found: Mapping[str, Tensor]) -> bool:
    return name in found and found[name].shape == value.shape


def _named_for(state: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the names they have in `state`: a projection puts one word before those of its ansatz."""
    plain = {name.removeprefix("ansatz."): value for name, value in weights.items()}
    prefix = "ansatz." if any(name.startswith("ansatz.") for name in state.state_dict()) else ""
    return {prefix + name: value for name, value in plain.items()}


def require_another_size(here: SystemConfig, version: Mapping[str, Any]) -> None:
    """Raises ConfigError unless the published state's system is this one on a lattice of another size."""
    there = _system_of(version)
    alike = all(getattr(here, name) == getattr(there, name) for name in ("boundary", "U", "t", "t_prime", "twist"))
    equally_filled = [here.sites * n for n in there.particles] == [there.sites * n for n in here.particles]
    if not alike or not equally_filled or here.lattice == there.lattice:
        raise ConfigError(
            f"sizes.versions has {there.label}; this run is of {here.label}\n"
            "fits: versions with these boundaries, couplings and electrons per site, on other lattices\n"
            "try: orchard list nqs"
        )


def _system_of(version: Mapping[str, Any]) -> SystemConfig:
    if "system" not in version:
        raise ConfigError(f"a version of {version.get('name', 'another workload')}\nfits: a version of nqs")
    return SystemConfig.model_validate(version["system"])


def require_same_particles(state: StateConfig, parent: Mapping[str, Any]) -> None:
    """Raises ConfigError unless the published state's system is this one at other couplings, or a smaller piece of it.

    A smaller piece: its extents divide those of this lattice, at the same number of electrons of each spin per site.
    """
    here = state.system
    there = _system_of(parent)
    if parent["ansatz"]["kind"] != state.ansatz.kind:
        raise ConfigError(
            f"the version to begin with is a {parent['ansatz']['kind']}, and ansatz.kind is {state.ansatz.kind}\n"
            f"fits: a version of the same kind\ntry: --set ansatz.kind={parent['ansatz']['kind']}"
        )
    divides = all(large % small == 0 for large, small in zip(here.shape, there.shape, strict=True))
    dilute = [here.sites * count for count in there.particles] != [there.sites * count for count in here.particles]
    if not divides or dilute:
        raise ConfigError(
            f"the version to begin with is of {there.label}; this run is of {here.label}\n"
            "fits: the same lattice and filling, or a smaller lattice whose lengths divide these, equally filled\n"
            f"try: --set system.lattice={there.lattice} --set system.filling={there.filling}, or another version"
        )
