"""Two states of one system: whose energy is lower, by independent chains at each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.common.contest import SIDES, Contest, Estimate, Scores, part_of, read_version
from models.common.contract import World
from models.nqs import streams
from models.nqs.ansatz_config import AnsatzConfig
from models.nqs.config import MeasureConfig, NqsContest, StateConfig
from models.nqs.measurement import Group, combine, measure_group
from models.nqs.start import read_state
from models.nqs.symmetry_config import SymmetryConfig
from models.nqs.system import SystemConfig


def shards(config: NqsContest, inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Each group of walkers of each state."""
    return [{"side": side, "group": group} for side in SIDES for group in range(config.measure.groups)]


def process(config: NqsContest, shard: dict[str, Any], world: World) -> Group:
    """One group's energies at one of the states."""
    side, folder = shard["side"], world.inputs[shard["side"]]
    measure = energies_of(config.measure, folder)
    return measure_group(
        measure,
        read_state(measure.state, folder, world.device),
        # The champion's walkers are others than the candidate's, so that the two energies are independent.
        SIDES.index(side) * measure.groups + shard["group"],
        replace(world, seed=config.seed),
        start=streams.START_OF_CONTEST,
        purpose=streams.SWEEP_OF_CONTEST,
    )


def collect(config: NqsContest, parts: Sequence[Group], inputs: Mapping[str, Path], folder: Path) -> None:
    """Writes which energy is lower."""
    groups, sites = config.measure.groups, config.measure.state.system.sites
    scores = lower_energy(energy_per_site(parts[:groups], sites), energy_per_site(parts[groups:], sites))
    Contest(
        metric="energy per site",
        higher_is_better=False,
        items=sum(part.samples for part in parts),
        margin=config.margin,
        **scores._asdict(),
    ).write(folder)


def energy_per_site(groups: Sequence[Group], sites: int) -> Estimate:
    """A state's energy per site, with its Monte Carlo error."""
    energy = combine(list(groups)).energy
    return Estimate(value=energy.mean / sites, error=energy.error / sites)


def lower_energy(candidate: Estimate, champion: Estimate) -> Scores:
    """How much lower the candidate lies: by the variational principle, that much nearer to the ground state.

    gain = E_champion - E_candidate,   error = sqrt(error_champion^2 + error_candidate^2), as chains are independent
    """
    gain = Estimate(value=champion.value - candidate.value, error=math.hypot(champion.error, candidate.error))
    return Scores(candidate, champion, gain)


def energies_of(measure: MeasureConfig, version: Path) -> MeasureConfig:
    """The measurement of a version's state, and of nothing but energies."""
    config = read_version(version)
    state = StateConfig(
        system=part_of(config, "system", SystemConfig),
        ansatz=part_of(config, "ansatz", AnsatzConfig),
        symmetry=part_of(config, "symmetry", SymmetryConfig),
    )
    return measure.but(state=state.model_dump(), pair_sweeps=0)
