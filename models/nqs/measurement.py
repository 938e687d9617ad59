"""What a trained state is like: independent chains, one set after the other, in as many slots as there are.

S sweeps   W walkers of a group   A walkers of all groups   M spin-orbitals   ... an observable's own axes
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.common.contract import World
from models.nqs import streams
from models.nqs.amplitudes import Amplitudes
from models.nqs.config import MeasureConfig
from models.nqs.correlations import by_distance, pair_matrix
from models.nqs.diagnostics import Estimate, reweighting, weighted_mean
from models.nqs.fixed_node import FixedNodeEnergy, fixed_node_energy
from models.nqs.hamiltonian import Hubbard, LogPsi, local_energy
from models.nqs.low_rank import quickest
from models.nqs.observables import (
    charge_structure,
    densities,
    double_occupancy,
    holes_per_column,
    spin_structure,
    staggered_profile,
)
from models.nqs.sampling import Chains
from models.nqs.sector import Sector
from models.nqs.start import read_state
from models.nqs.system import SystemConfig

RESULT_FILE, ARRAYS_FILE = "measurement.json", "observables.npz"
_ATTENTION_WALKERS = 256

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Group:
    """What one group of walkers measured. Sums over sweeps are weighted with exp(log weight - reference)."""

    energies_SW: Array
    log_weights_SW: Array
    acceptance: float
    reference: float
    sums: dict[str, Array]  # by observable, [W, ...]
    weights: dict[str, Array]  # by observable, [W]: summed over the sweeps that measured it
    samples: int  # local energies
    seconds: float  # for sampling and local energies alone
    attention: Array | None  # [layer, head, N, N]


def shards(config: MeasureConfig) -> list[dict[str, Any]]:
    """The projection first, as it takes longest; then each group of walkers."""
    projection = [{"kind": "fixed_node"}] if config.fixed_node.walkers else []
    return projection + [{"kind": "group", "group": group} for group in range(config.groups)]


def process(config: MeasureConfig, shard: dict[str, Any], world: World) -> Group | FixedNodeEnergy:
    """One group's measurement, or the fixed-node projection."""
    state = read_state(config.state, world.inputs["state"], world.device)
    if shard["kind"] == "group":
        return measure_group(config, state, shard["group"], world)
    return hold_nodes(config, state, world)


@torch.no_grad()
def hold_nodes(config: MeasureConfig, state: nn.Module, world: World) -> FixedNodeEnergy:
    """The fixed-node energy of the state, from walkers that have settled in |psi|^2."""
    wanted, hubbard, psi = config.fixed_node, Hubbard(config.state.system, world.device), _amplitudes(config, state)
    chains = Chains(
        hubbard,
        first=0,
        walkers=wanted.walkers,
        seed=world.seed,
        moves=config.sampler.moves,
        alpha=2.0,
        start=streams.START_OF_NODES,
        purpose=streams.SWEEP_OF_NODES,
    )
    chains.advance(psi, config.proposals * max(1, config.burn_in), 0)
    return fixed_node_energy(
        hubbard,
        psi,
        chains.occupied_WM,
        time_step=wanted.time_step,
        steps=wanted.steps,
        equilibration=wanted.equilibration,
        seed=world.seed,
        chunk=config.amplitudes_at_once,
    )


def _amplitudes(config: MeasureConfig, state: nn.Module) -> Amplitudes:
    system = config.state.system
    return Amplitudes(state, Sector(system.sites, *system.particles), chunk=config.amplitudes_at_once)


@torch.no_grad()
def measure_group(
    config: MeasureConfig,
    state: nn.Module,
    group: int,
    world: World,
    *,
    start: int = streams.START_OF_EVALUATION,
    purpose: int = streams.SWEEP_OF_EVALUATION,
) -> Group:
    """Energies and observables of one group of fresh walkers, after they have forgotten where they began.

    start, purpose: the streams of random numbers that place the walkers, and that move them.
    """
    system, sampler = config.state.system, config.sampler
    hubbard, psi = Hubbard(system, world.device), _amplitudes(config, state)
    chains = Chains(
        hubbard,
        first=group * config.walkers,
        walkers=config.walkers,
        seed=world.seed,
        moves=sampler.moves,
        alpha=sampler.alpha,
        start=start,
        purpose=purpose,
    )
    for sweep in range(config.burn_in):
        chains.advance(quickest(state, psi, chains.occupied_WM), config.proposals, sweep)
    rows = _Rows()
    for sweep in range(config.sweeps):
        since = world.clock()
        walked = quickest(state, psi, chains.occupied_WM)
        drawn = chains.advance(walked, config.proposals, config.burn_in + sweep)
        log_psi = drawn.log_abs_W, drawn.sign_W
        energy_W = local_energy(hubbard, psi, drawn.occupied_WM, log_psi, chunk=config.amplitudes_at_once)
        rows.seconds += world.clock() - since
        log_weights_W = torch.from_numpy(reweighting(drawn.log_abs_W.cpu().numpy(), sampler.alpha))
        values = configuration_observables(system, drawn.occupied_WM)
        if sweep >= config.sweeps - config.pair_sweeps:
            values |= pair_observables(config, psi, drawn.occupied_WM, log_psi)
        rows.take(energy_W.real, log_weights_W, drawn.accepted_W.double().mean() / drawn.proposed, values)
    attention = getattr(getattr(state, "ansatz", state), "attention_maps", None)
    maps = attention(chains.occupied_WM[:_ATTENTION_WALKERS]).double().cpu().numpy() if attention else None
    return rows.group(maps)


def configuration_observables(system: SystemConfig, occupied_WM: Tensor) -> dict[str, Tensor]:
    """What needs no amplitude, by name: [W, ...]."""
    return {
        "density": densities(occupied_WM),
        "double_occupancy": double_occupancy(occupied_WM),
        "staggered_spin": staggered_profile(system, occupied_WM),
        "holes_per_column": holes_per_column(system, occupied_WM),
        "spin_structure": spin_structure(system, occupied_WM),
        "charge_structure": charge_structure(system, occupied_WM),
    }


def pair_observables(config: MeasureConfig, psi: Amplitudes, occupied_WM: Tensor, log_psi: LogPsi) -> dict[str, Tensor]:
    """Pair correlations by distance, d-wave and extended s-wave: [W, Lx, Ly]."""
    system, chunk = config.state.system, config.amplitudes_at_once
    return {
        "pairs_d": by_distance(system, pair_matrix(system, "d", psi, occupied_WM, log_psi, chunk)),
        "pairs_s": by_distance(system, pair_matrix(system, "s", psi, occupied_WM, log_psi, chunk)),
    }


class _Rows:
    """Gathers the sweeps of a group."""

    def __init__(self) -> None:
        self.energies: list[Tensor] = []
        self.log_weights: list[Tensor] = []
        self.accepted: list[float] = []
        self.reference = 0.0
        self.sums: dict[str, Tensor] = {}
        self.weights: dict[str, Tensor] = {}
        self.seconds = 0.0

    def take(self, energy_W: Tensor, log_weight_W: Tensor, accepted: Tensor, values: dict[str, Tensor]) -> None:
        if not self.energies:
            self.reference = float(log_weight_W.max())
        self.energies.append(energy_W.double().cpu())
        self.log_weights.append(log_weight_W)
        self.accepted.append(float(accepted))
        weight_W = (log_weight_W - self.reference).exp()
        for name, value in values.items():
            weighted = torch.einsum("w,w...->w...", weight_W, value.double().cpu())
            self.sums[name] = self.sums.get(name, torch.zeros_like(weighted)) + weighted
            self.weights[name] = self.weights.get(name, torch.zeros_like(weight_W)) + weight_W

    def group(self, attention: Array | None) -> Group:
        energies_SW = torch.stack(self.energies)
        return Group(
            energies_SW=energies_SW.numpy(),
            log_weights_SW=torch.stack(self.log_weights).numpy(),
            acceptance=sum(self.accepted) / len(self.accepted),
            reference=self.reference,
            sums={name: value.numpy() for name, value in self.sums.items()},
            weights={name: value.numpy() for name, value in self.weights.items()},
            samples=energies_SW.numel(),
            seconds=self.seconds,
            attention=attention,
        )


@dataclass(frozen=True)
class Measured:
    """The whole measurement, as `collect` makes it from the groups."""

    energy: Estimate
    variance: float
    observables: dict[str, tuple[Array, Array]]  # mean and standard error
    acceptance: float
    samples: int
    samples_per_second: float  # of one slot


def combine(groups: list[Group]) -> Measured:
    """All groups as one set of walkers."""
    energies_SA = np.concatenate([group.energies_SW for group in groups], axis=1)
    log_weights_SA = np.concatenate([group.log_weights_SW for group in groups], axis=1)
    energy = weighted_mean(energies_SA, log_weights_SA)
    spread = weighted_mean((energies_SA - energy.mean) ** 2, log_weights_SA)
    reference = max(group.reference for group in groups)
    scaled = [(group, np.exp(group.reference - reference)) for group in groups]
    observables = {
        name: ratio_of_sums(
            np.concatenate([group.sums[name] * scale for group, scale in scaled]),
            np.concatenate([group.weights[name] * scale for group, scale in scaled]),
        )
        for name in groups[0].sums
    }
    return Measured(
        energy=energy,
        variance=spread.mean,
        observables=observables,
        acceptance=float(np.mean([group.acceptance for group in groups])),
        samples=sum(group.samples for group in groups),
        samples_per_second=sum(group.samples for group in groups) / sum(group.seconds for group in groups),
    )


def ratio_of_sums(sums: Array, weights_A: Array) -> tuple[Array, Array]:
    """sum_a sums_a / sum_a weights_a, and its standard error from the spread between walkers.

    By the linearisation of a ratio (Owen 2013, eq. 9.8): the walkers are independent.
    """
    walkers = len(weights_A)
    mean = sums.sum(axis=0) / weights_A.sum()
    moved = (sums - weights_A.reshape(-1, *[1] * mean.ndim) * mean) / weights_A.mean()
    return mean, np.sqrt(moved.var(axis=0, ddof=1) / walkers)


def collect(config: MeasureConfig, parts: list[Any], folder: Path) -> None:
    """Writes the measurement: numbers as JSON, observables as arrays with their errors."""
    groups = [part for part in parts if isinstance(part, Group)]
    measured = combine(groups)
    projected = next((part for part in parts if isinstance(part, FixedNodeEnergy)), None)
    numbers = {
        "energy": measured.energy.mean,
        "energy_error": measured.energy.error,
        "variance": measured.variance,
        "autocorrelation_time": measured.energy.autocorrelation_time,
        "r_hat": measured.energy.r_hat,
        "effective_samples": measured.energy.effective_samples,
        "acceptance": measured.acceptance,
        "samples": measured.samples,
        "samples_per_second": measured.samples_per_second,
        "fixed_node_energy": projected.energy if projected else None,
        "fixed_node_error": projected.error if projected else None,
    }
    (folder / RESULT_FILE).write_text(json.dumps(numbers, indent=1, sort_keys=True) + "\n")
    arrays: dict[str, Any] = {name: mean for name, (mean, _) in measured.observables.items()}
    arrays |= {f"{name}_error": error for name, (_, error) in measured.observables.items()}
    if groups[0].attention is not None:
        arrays["attention"] = np.mean([group.attention for group in groups if group.attention is not None], axis=0)
    np.savez(folder / ARRAYS_FILE, **arrays)
