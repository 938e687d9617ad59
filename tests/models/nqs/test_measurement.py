"""What is measured at a state, against sums over its whole basis."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models.nqs import measurement
from models.nqs.config import MeasureConfig
from models.nqs.exact import full_matrix
from models.nqs.measurement import Group, combine, ratio_of_sums
from models.nqs.presets import tiny
from models.nqs.sector import Sector
from models.nqs.start import make_state
from tests.models.nqs.tiny_backflow import world_of


@pytest.fixture
def config() -> MeasureConfig:
    return tiny().with_overrides({"measurement.walkers": 64, "measurement.sweeps": 60}).measure


@pytest.fixture
def folder(config: MeasureConfig, tmp_path: Path) -> Path:
    torch.manual_seed(4)
    state = make_state(config.state)
    save_file(
        {name: value.contiguous() for name, value in state.state_dict().items()}, tmp_path / "weights.safetensors"
    )
    return tmp_path


def _measured(config: MeasureConfig, folder: Path) -> measurement.Measured:
    world = replace(world_of(), inputs={"state": folder}, seed=2)
    groups = [measurement.process(config, shard, world) for shard in measurement.shards(config)]
    assert all(isinstance(group, Group) for group in groups)
    return combine([group for group in groups if isinstance(group, Group)])


def test_energy_variance_and_densities_agree_with_sums_over_the_basis(config: MeasureConfig, folder: Path):
    system = config.state.system
    torch.manual_seed(4)
    state, basis = make_state(config.state), Sector(system.sites, *system.particles).all()
    with torch.no_grad():
        log_D, sign_D = state(basis)
    psi_D = (log_D.exp() * sign_D).numpy()
    weight_D = psi_D**2 / (psi_D @ psi_D)
    image_D = full_matrix(system).to_dense().numpy() @ psi_D
    energy = psi_D @ image_D / (psi_D @ psi_D)
    up, down = basis.numpy().astype(float)[:, : system.sites], basis.numpy().astype(float)[:, system.sites :]

    found = _measured(config, folder)
    assert abs(found.energy.mean - energy) < 4 * found.energy.error
    assert found.variance == pytest.approx(image_D @ image_D / (psi_D @ psi_D) - energy**2, rel=0.15)
    double, error = found.observables["double_occupancy"]
    assert abs(double - weight_D @ (up * down).mean(axis=1)) < 4 * error
    density, errors = found.observables["density"]
    assert np.abs((density - np.stack([weight_D @ up, weight_D @ down])) / errors).max() < 4.5


def test_the_error_bar_is_as_large_as_the_scatter_of_independent_measurements(config: MeasureConfig, folder: Path):
    short = config.but(groups=1, walkers=32, sweeps=8)
    world = replace(world_of(), inputs={"state": folder})
    found = []
    for seed in range(40):
        group = measurement.process(short, {"kind": "group", "group": 0}, replace(world, seed=100 + seed))
        assert isinstance(group, Group)
        found.append(combine([group]))
    scatter = np.std([each.energy.mean for each in found], ddof=1)
    said = np.mean([each.energy.error for each in found])
    assert 0.65 < said / scatter < 1.5  # 40 draws know a scatter to 11 %


def test_groups_have_walkers_of_their_own(config: MeasureConfig, folder: Path):
    world = replace(world_of(), inputs={"state": folder})
    first, second, again = (
        measurement.process(config.but(sweeps=6), {"kind": "group", "group": group}, world) for group in (0, 1, 0)
    )
    assert isinstance(first, Group)
    assert isinstance(second, Group)
    assert isinstance(again, Group)
    assert np.array_equal(first.energies_SW, again.energies_SW)
    assert not np.array_equal(first.energies_SW, second.energies_SW)


def test_a_ratio_of_sums_has_the_error_of_its_bootstrap():
    random = np.random.default_rng(3)
    weights = random.gamma(2.0, size=400)
    sums = weights * (1.5 + random.normal(size=400))
    mean, error = ratio_of_sums(sums, weights)
    draws = random.integers(0, 400, size=(2000, 400))
    bootstrap = sums[draws].sum(axis=1) / weights[draws].sum(axis=1)
    assert mean == pytest.approx(bootstrap.mean(), abs=0.01)
    assert error == pytest.approx(bootstrap.std(), rel=0.08)
