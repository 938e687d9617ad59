"""Two states of one system: their energies against sums over the whole basis, and which is lower."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.common.contest import Estimate
from models.common.errors import ConfigError
from models.common.in_process import train_in_process
from models.nqs.config import NqsConfig
from models.nqs.contest import lower_energy
from models.nqs.exact import full_matrix, ground_state
from models.nqs.measurement import combine, measure_group
from models.nqs.presets import tiny
from models.nqs.sector import Sector
from models.nqs.start import read_state
from tests.fixtures.contests import damaged, held, published
from tests.fixtures.worlds import world_of

MEASUREMENT = {"measurement.walkers": 48, "measurement.sweeps": 20, "measurement.burn_in": 6}
CONFIG = tiny().with_overrides({"training.max_steps": 25, "promotion.margin": 1e-3, **MEASUREMENT})
SITES = CONFIG.system.sites


def version_of(config: NqsConfig, folder: Path) -> Path:
    trained = train_in_process(config.vmc, world_of({}), folder / "trained", {}).folder
    return published(folder / "version", config, trained, of=folder / "made_of")


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return version_of(CONFIG, tmp_path_factory.mktemp("nqs-version"))


def energy_over_the_basis(config: NqsConfig, version: Path) -> float:
    """The state's energy per site, by a sum over all configurations."""
    state = read_state(config.state, version, torch.device("cpu"))
    with torch.no_grad():
        log_D, sign_D = state(Sector(SITES, *config.system.particles).all())
    psi_D = (log_D.exp() * sign_D).numpy()
    return float(psi_D @ (full_matrix(config.system).to_dense().numpy() @ psi_D) / (psi_D @ psi_D)) / SITES


def test_a_damaged_copy_lies_higher_and_both_energies_are_those_of_the_whole_basis(version: Path, tmp_path: Path):
    worse = damaged(version, tmp_path / "worse", noise=0.1)
    contest, _ = held(CONFIG.contest(), worse, version, tmp_path / "contest")
    for side, folder in ((contest.candidate, worse), (contest.champion, version)):
        assert abs(side.value - energy_over_the_basis(CONFIG, folder)) < 4 * side.error
    exact = ground_state(CONFIG.system).energy / SITES
    assert contest.champion.value > exact - 4 * contest.champion.error
    assert not contest.higher_is_better
    assert contest.gain.value == contest.champion.value - contest.candidate.value
    assert contest.gain.value + 3 * contest.gain.error < 0
    assert contest.margin == 1e-3


def test_a_version_against_itself_is_level_within_the_monte_carlo_error(version: Path, tmp_path: Path):
    contest, _ = held(CONFIG.contest(), version, version, tmp_path / "contest")
    assert contest.gain.error > 0
    assert 0 < abs(contest.gain.value) < 4 * contest.gain.error, "each side has chains of its own"


def test_a_version_has_the_energy_that_its_own_measurement_found(version: Path, tmp_path: Path):
    contest, _ = held(CONFIG.contest(), version, version, tmp_path / "contest")
    state, world = read_state(CONFIG.state, version, torch.device("cpu")), world_of({}, seed=9)
    measured = combine([measure_group(CONFIG.measure, state, group, world) for group in range(2)])
    error = np.hypot(contest.candidate.error, measured.energy.error / SITES)
    assert abs(contest.candidate.value - measured.energy.mean / SITES) < 4 * error


def test_a_state_of_another_form_competes_and_the_mean_field_loses(version: Path, tmp_path: Path):
    simple = CONFIG.with_overrides({"ansatz": {"kind": "mean_field", "start": "hartree_fock"}, "training.max_steps": 1})
    contest, _ = held(CONFIG.contest(), version, version_of(simple, tmp_path / "simple"), tmp_path / "contest")
    assert contest.gain.value > 3 * contest.gain.error


def test_lower_is_better_and_independent_errors_add_in_squares():
    scores = lower_energy(Estimate(value=-1.5, error=0.3), Estimate(value=-1.0, error=0.4))
    assert (scores.gain.value, scores.gain.error) == (0.5, pytest.approx(0.5))


@pytest.mark.parametrize(
    "change", [{"system.U": 2.0}, {"system.filling": "2,1"}, {"system.pinning": {"pattern": "neel", "strength": 0.1}}]
)
def test_states_of_other_systems_are_refused(change: dict):
    champion = CONFIG.with_overrides(change).model_dump(mode="json")
    with pytest.raises(ConfigError, match=r"the candidate has the system .* no items to score both on"):
        CONFIG.contest().check_versions(CONFIG.model_dump(mode="json"), champion)
