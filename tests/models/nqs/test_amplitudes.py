"""Amplitudes by table equal psi asked directly, and ask it once for each configuration."""

# W walkers   D configurations   M = 2N spin-orbitals

import pytest
import torch

from models.nqs.amplitudes import Amplitudes, distinct
from models.nqs.sector import Sector
from tests.models.nqs.table_state import TableState


def _asked(state: TableState, size: int, seed: int) -> torch.Tensor:
    """Configurations with many repeats."""
    generator = torch.Generator().manual_seed(seed)
    return state.occupied_DM[torch.randint(len(state.occupied_DM), (size,), generator=generator)]


@pytest.mark.parametrize("phases", [False, True])
@pytest.mark.parametrize("has_table", [True, False])
def test_amplitudes_are_those_of_psi(phases: bool, has_table: bool):
    state = TableState(4, 2, 1, phases=phases)
    amplitudes = Amplitudes(state, Sector(4, 2, 1) if has_table else None, chunk=7)
    for seed in range(4):
        occupied_WM = _asked(state, 10 + 5 * seed, seed)
        for found, expected in zip(amplitudes(occupied_WM), state(occupied_WM), strict=True):
            assert torch.equal(found, expected)


def test_a_table_evaluates_each_configuration_once():
    state = TableState(4, 2, 2)
    amplitudes = Amplitudes(state, Sector(4, 2, 2), chunk=5)
    for seed in range(6):
        amplitudes(_asked(state, 40, seed))
    asked_D = torch.bincount(torch.cat([state.places(_asked(state, 40, seed)) for seed in range(6)]), minlength=36)
    assert torch.equal(state.calls_D, (asked_D > 0).long())
    assert (amplitudes.asked, amplitudes.evaluated) == (240, int((asked_D > 0).sum()))


def test_a_table_forgets_when_it_is_told():
    state = TableState(4, 2, 2)
    amplitudes = Amplitudes(state, Sector(4, 2, 2), chunk=64)
    before, _ = amplitudes(state.occupied_DM)
    state.log_abs_D += 1.0
    assert torch.equal(amplitudes(state.occupied_DM)[0], before)
    amplitudes.forget()
    assert torch.equal(amplitudes(state.occupied_DM)[0], before + 1.0)


def test_a_table_remembers_zeros():
    state = TableState(3, 1, 1)
    state.log_abs_D[::2] = -torch.inf
    amplitudes = Amplitudes(state, Sector(3, 1, 1), chunk=64)
    for _ in range(3):
        assert torch.equal(amplitudes(state.occupied_DM)[0], state.log_abs_D)
    assert (state.calls_D == 1).all()


@pytest.mark.parametrize(("most_states", "evaluated"), [(36, 36), (35, 72)])
def test_a_sector_beyond_the_limit_has_no_table(most_states: int, evaluated: int):
    state = TableState(4, 2, 2)
    amplitudes = Amplitudes(state, Sector(4, 2, 2), chunk=10, most_states=most_states)
    for _ in range(2):
        amplitudes(state.occupied_DM)
    assert amplitudes.evaluated == evaluated


@pytest.mark.parametrize("has_table", [True, False])
def test_psi_sees_no_more_than_a_chunk_and_makes_no_gradient(has_table: bool):
    seen = []
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)

    def psi(occupied_WM: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(len(occupied_WM))
        return weight * occupied_WM.sum(dim=1), torch.ones(len(occupied_WM), dtype=torch.float64)

    occupied_DM = TableState(4, 2, 2).occupied_DM
    log_abs_W, _ = Amplitudes(psi, Sector(4, 2, 2) if has_table else None, chunk=10)(occupied_DM)
    assert max(seen) == 10
    assert sum(seen) == 36
    assert not log_abs_W.requires_grad


def test_no_walkers_have_no_amplitudes():
    state = TableState(3, 1, 1)
    log_abs_W, sign_W = Amplitudes(state, Sector(3, 1, 1), chunk=4)(state.occupied_DM[:0])
    assert len(log_abs_W) == len(sign_W) == 0


def test_distinct_keeps_first_rows():
    row_U, place_W = distinct(torch.tensor([7, 3, 7, 9, 3]))
    assert row_U.tolist() == [1, 0, 3]
    assert place_W.tolist() == [1, 0, 1, 2, 0]
