"""The learner as a whole, on systems whose ground state is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.common.errors import TrainingError
from models.nqs.config import GuardConfig, SamplerConfig
from models.nqs.exact import full_matrix, ground_state
from models.nqs.guards import ChainWatch, EnergyGuard, GroupMixing, require_steady_norm
from models.nqs.presets import tiny
from models.nqs.sector import Sector
from models.nqs.vmc import VmcLearner, merge
from tests.models.nqs.tiny_backflow import world_of


def _learner(**changes: object) -> VmcLearner:
    torch.manual_seed(1)
    return VmcLearner(tiny().with_overrides(changes).vmc, replace(world_of(), seed=5))


def test_the_energy_of_a_step_is_that_of_the_state_by_full_summation():
    learner = _learner(**{"training.batch_size": 2048, "training.optimizer.clip_factor": None})
    system = learner.config.state.system
    with torch.no_grad():
        log_D, sign_D = learner.network(Sector(system.sites, *system.particles).all())
    psi_D = (log_D.exp() * sign_D).numpy()
    matrix = full_matrix(system).to_dense().numpy()
    energy = psi_D @ matrix @ psi_D / (psi_D @ psi_D)
    variance = psi_D @ matrix @ matrix @ psi_D / (psi_D @ psi_D) - energy**2
    metrics = learner.step()
    assert abs(metrics["loss"] - energy) < 4 * metrics["energy_error"]
    assert metrics["energy_error"] == pytest.approx(np.sqrt(variance / (2048 * metrics["effective_share"])), rel=0.3)


def test_training_reaches_the_exact_energy_and_does_not_go_below():
    learner = _learner()
    energies = [learner.step()["loss"] for _ in range(learner.config.max_steps)]
    exact = ground_state(learner.config.state.system).energy
    settled = np.array(energies[-10:])
    assert settled.mean() - exact < 0.02 * abs(exact)
    assert settled.mean() > exact - 0.01 * abs(exact)


def test_equal_configurations_are_merged_and_found_again():
    sector = Sector(4, 2, 1)
    rows = torch.tensor([3, 0, 3, 7, 0, 3])
    occupied = sector.all()[rows]
    different, place = merge(sector, occupied)
    assert len(different) == 3
    assert torch.equal(different[place], occupied)


def test_a_resumed_learner_continues_with_the_same_chains_guards_and_weights():
    one, two = _learner(), _learner()
    for _ in range(3):
        one.step()
    two.load_state_dict(one.state_dict())
    assert torch.equal(one.chains.occupied_WM, two.chains.occupied_WM)
    assert [one.step() for _ in range(4)] == [two.step() for _ in range(4)]
    for name, value in one.weights().items():
        assert torch.equal(value, two.weights()[name])


def test_an_energy_below_the_ground_state_stops_the_training():
    guard = EnergyGuard(GuardConfig(window=3, below_bound=5.0), lower_bound=-2.0)
    for step in range(1, 6):
        guard.take(step, energy=-2.04, error=0.01)  # four errors below: noise
    guard.take(6, energy=-2.05, error=0.01)
    with pytest.raises(TrainingError, match=r"step 7: the energy .* lies below -2\.000000"):
        guard.take(7, energy=-2.2, error=0.01)


def test_frozen_chains_are_given_more_proposals_and_then_stop_the_training():
    watch = ChainWatch(SamplerConfig(patience=8, least_acceptance=0.02))
    for step in range(8):
        watch.take(step, acceptance=0.0, effective_share=0.9, unique_share=0.9)
    assert watch.factor > 1, "a remedy was tried"
    with pytest.raises(TrainingError, match="frozen for 8 steps, at step 8: acceptance 0"):
        watch.take(8, acceptance=0.0, effective_share=0.9, unique_share=0.9)


def test_a_peaked_density_is_flattened_and_uneven_weights_are_evened():
    peaked, uneven = (ChainWatch(SamplerConfig(patience=8, alpha=1.0)) for _ in range(2))
    for step in range(4):
        peaked.take(step, acceptance=0.5, effective_share=0.9, unique_share=0.001)
        uneven.take(step, acceptance=0.5, effective_share=0.001, unique_share=0.9)
    assert peaked.alpha < 1.0 < uneven.alpha
    peaked.take(5, acceptance=0.5, effective_share=0.9, unique_share=0.9)
    assert peaked.bad_steps == 0


def test_groups_that_stand_apart_have_a_large_r_hat():
    random = np.random.default_rng(0)
    mixed, apart = GroupMixing(20), GroupMixing(20)
    offsets = np.repeat([0.0, 5.0], 64)
    drifts = random.normal(size=20)
    one = [mixed.take(random.normal(size=128) + drift) for drift in drifts]
    other = [apart.take(random.normal(size=128) + drift + offsets) for drift in drifts]
    assert one[-1] < 1.1
    assert other[-1] > 2.0


def test_parameters_that_grow_without_bound_stop_the_training():
    require_steady_norm(1, norm=9.9, first_norm=1.0, most_growth=10.0)
    for norm in (10.1, float("nan")):
        with pytest.raises(TrainingError, match="step 7: the norm of the parameters"):
            require_steady_norm(7, norm, first_norm=1.0, most_growth=10.0)
