"""Moves over all configurations of small sectors: what they reach, with which probability, and what they keep."""

# D configurations   C values of the uniform number   M = 2N spin-orbitals

from functools import cache

import numpy as np
import pytest
import torch

from models.common.errors import ConfigError
from models.nqs.hamiltonian import Hubbard
from models.nqs.proposals import make_moves, neighbour_pairs
from models.nqs.sampling import log_acceptance
from models.nqs.system import SystemConfig
from tests.models.nqs.table_state import TableState

GRID = 3840  # a multiple of the number of equally likely choices of every system here
SYSTEMS = {
    "4x1": SystemConfig(lattice="4x1", boundary="periodic,open", filling="2,1", U=8.0),
    "3x2": SystemConfig(lattice="3x2", boundary="open", filling="2,1", U=8.0, t_prime=-0.2),
    "2x2": SystemConfig(lattice="2x2", boundary="periodic", filling="2,2", U=4.0),
}
NAMES = ("hop", "swap", "weighted")


@cache
def _chances(name: str, lattice: str) -> tuple[np.ndarray, np.ndarray]:
    """q(n -> n') from an even grid of uniform numbers, and the move's log correction where it can go."""
    state = _state(lattice)
    (move,) = make_moves([name], Hubbard(SYSTEMS[lattice]))
    size = len(state.occupied_DM)
    uniform_C = (torch.arange(GRID, dtype=torch.float64) + 0.5) / GRID
    chance_DD, correction_DD = np.zeros((size, size)), np.zeros((size, size))
    for number, row in enumerate(state.occupied_DM):
        proposal = move(row.expand(GRID, -1), uniform_C)
        place_C = state.places(proposal.occupied_WM).numpy()
        np.add.at(chance_DD[number], place_C, 1.0 / GRID)
        if proposal.log_correction_W is not None:
            correction_DD[number, place_C] = proposal.log_correction_W.numpy()
    return chance_DD, correction_DD


@cache
def _state(lattice: str) -> TableState:
    system = SYSTEMS[lattice]
    return TableState(system.sites, *system.particles)


@pytest.mark.parametrize("lattice", SYSTEMS)
@pytest.mark.parametrize("name", ["hop", "swap"])
def test_a_plain_move_goes_back_as_often_as_it_goes(name: str, lattice: str):
    chance_DD, _ = _chances(name, lattice)
    np.testing.assert_allclose(chance_DD, chance_DD.T, atol=1e-12)
    np.testing.assert_allclose(chance_DD.sum(axis=1), 1.0, atol=1e-12)
    assert (chance_DD[~np.eye(len(chance_DD), dtype=bool)] > 0).any()


@pytest.mark.parametrize("lattice", SYSTEMS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_each_move_is_in_detailed_balance_with_the_density(name: str, lattice: str, alpha: float):
    """pi(n) P(n -> n') is symmetric, P built entry by entry from what the move proposes and corrects."""
    state = _state(lattice)
    chance_DD, correction_DD = _chances(name, lattice)
    density_D = np.exp(alpha * state.log_abs_D.numpy())
    old_DD, new_DD = (state.log_abs_D[:, None].expand(chance_DD.shape), state.log_abs_D.expand(chance_DD.shape))
    log_ratio_DD = log_acceptance(old_DD, new_DD, torch.from_numpy(correction_DD), alpha).numpy()
    flow_DD = density_D[:, None] * chance_DD * np.minimum(1.0, np.exp(log_ratio_DD))
    # The grid knows the share of a weighted hop to two of its points.
    known = 2.0 / GRID if name == "weighted" else 1e-14
    unsure_DD = known * np.minimum(density_D[:, None], density_D * np.exp(correction_DD))
    assert (np.abs(flow_DD - flow_DD.T) <= unsure_DD + unsure_DD.T).all()


@pytest.mark.parametrize("lattice", SYSTEMS)
def test_a_weighted_hop_is_chosen_by_its_element(lattice: str):
    """Against a loop over bonds: probabilities from max(|element|, 0.05), and the ratio of their sums."""
    system = SYSTEMS[lattice]
    state, hubbard = _state(lattice), Hubbard(system)
    chance_DD, correction_DD = _chances("weighted", lattice)
    size = len(state.occupied_DM)
    weight_DD = np.zeros((size, size))
    for number, row in enumerate(state.occupied_DM):
        for start, end, element in zip(hubbard.from_D, hubbard.to_D, hubbard.element_D, strict=True):
            if row[start] and not row[end]:
                after = row.clone()
                after[start], after[end] = False, True
                weight_DD[number, int(state.places(after[None]))] += max(abs(complex(element)), 0.05)
    total_D = weight_DD.sum(axis=1)
    np.testing.assert_allclose(chance_DD, weight_DD / total_D[:, None], atol=2.0 / GRID)
    expected_DD = np.log(total_D[:, None] / total_D[None, :])
    np.testing.assert_allclose(correction_DD[chance_DD > 0], expected_DD[chance_DD > 0], atol=1e-12)


@pytest.mark.parametrize("lattice", SYSTEMS)
@pytest.mark.parametrize("names", [("hop",), ("hop", "swap"), ("weighted",), ("weighted", "swap")])
def test_every_cycle_reaches_every_configuration(names: tuple[str, ...], lattice: str):
    step_DD = np.mean([_chances(name, lattice)[0] > 0 for name in names], axis=0)
    reach_DD = (step_DD + np.eye(len(step_DD))) > 0
    for _ in range(7):  # squared seven times: paths of up to 128 moves
        reach_DD = reach_DD.astype(float) @ reach_DD > 0
    assert reach_DD.all()


def test_a_swap_alone_keeps_the_number_of_doubly_occupied_sites():
    state = _state("2x2")
    chance_DD, _ = _chances("swap", "2x2")
    double_D = (state.occupied_DM[:, :4] & state.occupied_DM[:, 4:]).sum(dim=1).numpy()
    before, after = chance_DD.nonzero()
    assert (double_D[before] == double_D[after]).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_full_lattice_stays_as_it_is(name: str):
    system = SystemConfig(lattice="3x1", boundary="open", filling="3,3", U=4.0)
    (move,) = make_moves([name], Hubbard(system))
    full = torch.ones(5, 6, dtype=torch.bool)
    assert torch.equal(move(full, torch.linspace(0, 0.999, 5, dtype=torch.float64)).occupied_WM, full)


def test_the_largest_uniform_number_still_makes_a_choice():
    system, occupied_DM = SYSTEMS["3x2"], _state("3x2").occupied_DM
    last_D = torch.full((len(occupied_DM),), 1.0 - 2.0**-53, dtype=torch.float64)
    for move in make_moves(NAMES, Hubbard(system)):
        assert torch.equal(move(occupied_DM, last_D).occupied_WM.sum(dim=1), occupied_DM.sum(dim=1))
    weighted = make_moves(["weighted"], Hubbard(system))[0]
    assert (weighted(occupied_DM, last_D).occupied_WM != occupied_DM).any(dim=1).all()


@pytest.mark.parametrize(
    ("lattice", "boundary", "pairs"),
    [
        ("3x1", "open", [(0, 1), (1, 2)]),
        ("3x1", "periodic,open", [(0, 1), (0, 2), (1, 2)]),
        ("2x2", "periodic", [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]),
        ("2x3", "open", [(0, 1), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4), (1, 5), (2, 4), (2, 5), (3, 4), (4, 5)]),
    ],
)
def test_pairs_are_neighbours_and_diagonals_once(lattice: str, boundary: str, pairs: list[tuple[int, int]]):
    system = SystemConfig(lattice=lattice, boundary=boundary, filling="1,1", U=4.0)
    assert [tuple(pair) for pair in neighbour_pairs(system).tolist()] == pairs


def test_a_move_that_is_not_known_is_named_with_those_that_are():
    with pytest.raises(ConfigError, match=r"jump.*hop, swap, weighted"):
        make_moves(["hop", "jump"], Hubbard(SYSTEMS["4x1"]))
