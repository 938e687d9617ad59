"""Chains against sums over all configurations, and against themselves on other workers and after a resume."""

# D configurations   W walkers   S sweeps   M = 2N spin-orbitals   E bonds

from typing import Any

import numpy as np
import pytest
import torch
from numpy.random import Philox

from models.common.errors import ConfigError, TrainingError
from models.nqs import streams
from models.nqs.amplitudes import Amplitudes
from models.nqs.ansatz_config import AnsatzConfig
from models.nqs.diagnostics import reweighting, weighted_mean
from models.nqs.hamiltonian import Hubbard, local_energy
from models.nqs.low_rank import UpdatedDeterminants, rows_of
from models.nqs.network import make_ansatz
from models.nqs.sampling import Chains, random_configurations
from models.nqs.sector import Sector
from models.nqs.system import SystemConfig
from tests.models.nqs.table_state import TableState

torch.set_num_threads(1)
SYSTEM = SystemConfig(lattice="3x2", boundary="periodic,open", filling="2,1", U=8.0)  # 90 configurations
CYCLES = [("hop",), ("hop", "swap"), ("weighted",), ("weighted", "swap")]


def _chains(**how: Any) -> Chains:
    settings = {"first": 0, "walkers": 8, "seed": 3, "moves": ("hop", "swap", "weighted"), "alpha": 1.0, **how}
    return Chains(Hubbard(SYSTEM), **settings)


def _state(**how: Any) -> TableState:
    return TableState(SYSTEM.sites, *SYSTEM.particles, **how)


@pytest.mark.parametrize("moves", CYCLES)
@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_independent_chains_end_in_the_density(moves: tuple[str, ...], alpha: float):
    """Chi-square over all 90 configurations of the last places of 8 000 independent walkers.

    89 degrees of freedom: above 143 with a chance of 1 in 4000.
    """
    state = _state(spread=0.4)
    lookup = Amplitudes(state, Sector(SYSTEM.sites, *SYSTEM.particles), chunk=4096)
    sweep = _chains(walkers=8_000, moves=moves, alpha=alpha).advance(lookup, 80, 1)
    index_D = Sector(SYSTEM.sites, *SYSTEM.particles).index(state.occupied_DM)
    counts = torch.bincount(Sector(SYSTEM.sites, *SYSTEM.particles).index(sweep.occupied_WM), minlength=90)[index_D]
    expected_D = 8_000 * torch.softmax(alpha * state.log_abs_D, dim=0)
    assert expected_D.min() > 5  # where the chi-square distribution holds
    assert float(((counts - expected_D).square() / expected_D).sum()) < 143


@pytest.mark.parametrize("moves", CYCLES)
def test_particle_numbers_are_kept(moves: tuple[str, ...]):
    chains = _chains(moves=moves, walkers=50)
    for step in range(5):
        occupied_WM = chains.advance(_state(), 20, step).occupied_WM
        assert (occupied_WM[:, :6].sum(dim=1) == 2).all()
        assert (occupied_WM[:, 6:].sum(dim=1) == 1).all()


def test_two_workers_have_the_walkers_of_one():
    together = _chains(walkers=8)
    apart = [_chains(first=0, walkers=4), _chains(first=4, walkers=4)]
    for step in range(4):
        one = together.advance(_state(), 40, step)
        two = [chains.advance(_state(), 40, step) for chains in apart]
        for name in ("occupied_WM", "log_abs_W", "sign_W", "accepted_W", "tried_W"):
            assert torch.equal(getattr(one, name), torch.cat([getattr(half, name) for half in two])), name


def test_a_resumed_chain_is_the_unbroken_one():
    unbroken = _chains()
    for step in range(3):
        unbroken.advance(_state(), 35, step)
    resumed = _chains()
    resumed.occupied_WM = unbroken.occupied_WM.clone()
    for step in range(3, 6):
        expected, found = unbroken.advance(_state(), 35, step), resumed.advance(_state(), 35, step)
        assert torch.equal(found.occupied_WM, expected.occupied_WM)
        assert torch.equal(found.log_abs_W, expected.log_abs_W)


def test_another_seed_step_or_purpose_makes_another_chain():
    first = _chains().advance(_state(), 40, 0).occupied_WM
    for other, step in ((_chains(seed=4), 0), (_chains(), 1), (_chains(purpose=streams.SWEEP_OF_EVALUATION), 0)):
        assert not torch.equal(other.advance(_state(), 40, step).occupied_WM, first)


@pytest.mark.parametrize("phases", [False, True])
def test_a_sweep_returns_the_amplitudes_where_it_ends(phases: bool):
    state = _state(phases=phases)
    sweep = _chains(walkers=30).advance(state, 25, 0)
    log_abs_W, sign_W = state(sweep.occupied_WM)
    assert torch.equal(sweep.log_abs_W, log_abs_W)
    assert torch.equal(sweep.sign_W, sign_W)


def test_psi_is_asked_for_changes_only_and_each_is_counted():
    state, chains = _state(), _chains(walkers=30)
    sweep = chains.advance(state, 25, 0)
    assert int(state.calls_D.sum()) == 30 + int(sweep.tried_W.sum())
    assert (sweep.accepted_W <= sweep.tried_W).all()
    assert (sweep.tried_W < sweep.proposed).any()
    assert sweep.proposed == 25


@pytest.mark.parametrize("moves", CYCLES)
def test_updated_determinants_walk_where_full_ones_do(moves: tuple[str, ...]):
    torch.manual_seed(0)
    ansatz = make_ansatz(AnsatzConfig(kind="slater_jastrow"), SYSTEM)
    rows = rows_of(ansatz)
    assert rows is not None
    full, updated = _chains(walkers=40, moves=moves), _chains(walkers=40, moves=moves)
    for step in range(3):
        expected = full.advance(ansatz, 30, step)
        found = updated.advance(UpdatedDeterminants(rows, updated.occupied_WM), 30, step)
        assert torch.equal(found.occupied_WM, expected.occupied_WM)
        torch.testing.assert_close(found.log_abs_W, expected.log_abs_W, rtol=0, atol=1e-9)
        assert torch.equal(found.sign_W, expected.sign_W)
        assert torch.equal(found.accepted_W, expected.accepted_W)
        assert int(found.accepted_W.sum()) > 40


def test_moves_are_taken_in_turn_across_steps():
    """One proposal a step: swaps alone never change the number of doubly occupied sites, hops do in between."""
    state, chains = _state(spread=0.0), _chains(walkers=64, moves=("hop", "swap"))

    def doubles() -> torch.Tensor:
        return (chains.occupied_WM[:, :6] & chains.occupied_WM[:, 6:]).sum(dim=1)

    changed = []
    for step in range(6):
        before = doubles()
        chains.advance(state, 1, step)
        changed.append(bool((doubles() != before).any()))
    assert changed == [True, False] * 3


def test_a_walker_at_zero_leaves_it_and_none_comes_back():
    state = _state()
    state.log_abs_D[:85] = -torch.inf  # five configurations are left
    chains = _chains(walkers=200, moves=("hop",))
    at_zero = [int(chains.advance(state, 20, step).log_abs_W.isneginf().sum()) for step in range(30)]
    assert at_zero[0] > 0
    assert at_zero == sorted(at_zero, reverse=True)
    assert at_zero[-1] == 0


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_an_amplitude_that_is_no_number_stops_the_chain_and_is_named(wrong: float):
    state = _state()
    state.log_abs_D[17] = wrong
    named = "".join(str(int(occupied)) for occupied in state.occupied_DM[17])
    with pytest.raises(TrainingError, match=rf"step 5: log \|psi\| is {wrong}.*{named}"):
        _chains(walkers=64).advance(state, 200, 5)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("alpha", "phases"), [(1.0, False), (1.0, True), (2.0, False)])
def test_the_energy_from_chains_is_the_full_sum(seed: int, alpha: float, phases: bool):
    """The sum <psi|H|psi> / <psi|psi> over all configurations, with H built row by row, within four errors."""
    state, hubbard = _state(seed=seed, spread=0.7, phases=phases), Hubbard(SYSTEM)
    psi = Amplitudes(state, Sector(SYSTEM.sites, *SYSTEM.particles), chunk=512)
    chains = _chains(walkers=64, seed=seed, alpha=alpha, moves=("hop", "swap"))
    chains.advance(psi, 100, 0)
    energies, logs = [], []
    for step in range(1, 41):
        sweep = chains.advance(psi, 15, step)
        energy_W = local_energy(hubbard, psi, sweep.occupied_WM, (sweep.log_abs_W, sweep.sign_W))
        energies.append(energy_W.real.numpy())
        logs.append(sweep.log_abs_W.numpy())
    found = weighted_mean(np.stack(energies), reweighting(np.stack(logs), alpha))
    psi_D = state.log_abs_D.exp() * state.sign_D
    exact = float((psi_D.conj() @ _matrix(hubbard, state).to(psi_D.dtype) @ psi_D).real / psi_D.abs().square().sum())
    assert abs(found.mean - exact) < 4 * found.error
    assert found.error < 0.2
    assert found.r_hat < 1.2


def _matrix(hubbard: Hubbard, state: TableState) -> torch.Tensor:
    """H on the state's configurations from products of creation and annihilation operators, one by one."""
    matrix_DD = torch.diag(8.0 * (state.occupied_DM[:, :6] & state.occupied_DM[:, 6:]).sum(dim=1).double())
    for column, row in enumerate(state.occupied_DM):
        for start, end, element in zip(hubbard.from_D.tolist(), hubbard.to_D.tolist(), hubbard.element_D, strict=True):
            if row[start] and not row[end]:
                after = row.clone()
                sign = (-1) ** int(after[:start].sum())
                after[start] = False
                sign *= (-1) ** int(after[:end].sum())
                after[end] = True
                matrix_DD[int(state.places(after[None])), column] += sign * float(element)
    return matrix_DD


def test_walkers_begin_anywhere_with_equal_chance():
    keys_WM = torch.from_numpy(streams.uniforms(0, streams.START, 0, 0, 9000, 8))
    occupied_WM = random_configurations(keys_WM, 2, 1)
    counts = torch.bincount(TableState(4, 2, 1).places(occupied_WM), minlength=24)
    assert len(counts) == 24
    assert float(((counts - 375.0).square() / 375.0).sum()) < 53  # 23 degrees of freedom: 1 in 3000


def test_more_electrons_than_sites_are_refused():
    with pytest.raises(ConfigError, match="5 and 1 electrons do not fit 4 sites"):
        random_configurations(torch.rand(3, 8), 5, 1)


def test_numbers_are_philox_at_their_position():
    """Against numpy's generator, set to each walker's counter by hand."""
    found = streams.uniforms(5, streams.SWEEP, 7, 10, 4, 6, part=3)
    for row, walker in enumerate(range(10, 14)):
        counter = np.array([2 * walker, 3, 7, 0], dtype=np.uint64)
        source = Philox(key=np.array([5, streams.SWEEP], dtype=np.uint64), counter=counter)
        np.testing.assert_array_equal(found[row], np.random.Generator(source).random(6))


def test_numbers_do_not_depend_on_who_else_is_there():
    together = streams.uniforms(1, streams.START, 0, 0, 1000, 5)
    np.testing.assert_array_equal(streams.uniforms(1, streams.START, 0, 700, 3, 5), together[700:703])
    assert len(np.unique(together)) == together.size


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"step": 2**64}, {"first_walker": 2**63}])
def test_a_key_that_does_not_fit_is_refused(wrong: dict[str, int]):
    settings = {"seed": 0, "purpose": 1, "step": 0, "first_walker": 0, "walkers": 1, "draws": 8, **wrong}
    with pytest.raises(ValueError, match="keys no random numbers"):
        streams.uniforms(**settings)
