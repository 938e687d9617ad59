"""Updated determinants, against full ones of the same configuration and against dense linear algebra."""

import numpy as np
import pytest
import torch
from torch import Tensor

from models.nqs.ansatz_config import AnsatzConfig
from models.nqs.low_rank import UpdatedDeterminants, rows_of, updates_that_pay
from models.nqs.network import make_ansatz
from models.nqs.system import SystemConfig

SYSTEM = SystemConfig(lattice="5x3", boundary="periodic,open", filling="5,4", U=4.0)
KINDS = {
    "mean field": AnsatzConfig(kind="mean_field"),
    "complex mean field": AnsatzConfig(kind="mean_field", complex=True),
    "separate spins": AnsatzConfig(kind="slater_jastrow", generalised=False),
    "scale": AnsatzConfig(kind="scale", width=6, mlp_width=8, head_scale=1.0),
    "three determinants": AnsatzConfig(kind="scale", width=6, mlp_width=8, head_scale=1.0, determinants=3),
    "complex scale": AnsatzConfig(kind="scale", width=4, mlp_width=4, head_scale=1.0, complex=True, determinants=2),
    "wide scale": AnsatzConfig(kind="scale", width=4, mlp_width=4, head_scale=1.0, kernel=5),
}


def start(walkers: int, generator: np.random.Generator, system: SystemConfig = SYSTEM) -> Tensor:
    """Walkers with random places of their electrons."""
    rows = []
    for _ in range(walkers):
        spins = [generator.permutation(np.arange(system.sites) < count) for count in system.particles]
        rows.append(np.concatenate(spins))
    return torch.from_numpy(np.array(rows))


def moved(occupied_WM: Tensor, generator: np.random.Generator, *, hops: int) -> Tensor:
    """For each walker 0 to `hops` electrons go somewhere else, within their spin."""
    moved_WM = occupied_WM.clone()
    sites = occupied_WM.shape[1] // 2
    for row in moved_WM:
        for _ in range(generator.integers(0, hops + 1)):
            spin = row[:sites] if generator.random() < 0.5 else row[sites:]
            origin = generator.choice(spin.nonzero().flatten().numpy())
            goal = generator.choice((~spin).nonzero().flatten().numpy())
            spin[origin], spin[goal] = False, True
    return moved_WM


def same(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor], tolerance: float) -> bool:
    return torch.allclose(ours[0], theirs[0], rtol=0, atol=tolerance) and torch.allclose(
        ours[1], theirs[1], rtol=0, atol=tolerance
    )


@pytest.fixture(params=KINDS.values(), ids=list(KINDS))
def ansatz(request: pytest.FixtureRequest):
    torch.manual_seed(4)
    made = make_ansatz(request.param, SYSTEM)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name in ("same_spin", "opposite_spin"):
                parameter.normal_(std=0.3)
    return made


def test_amplitudes_along_a_walk_are_those_of_full_determinants(ansatz) -> None:
    generator = np.random.default_rng(6)
    occupied_WM = start(7, generator)
    rows = rows_of(ansatz)
    assert rows is not None
    updated = UpdatedDeterminants(rows, occupied_WM)
    with torch.no_grad():
        for _ in range(40):
            proposed_WM = moved(occupied_WM, generator, hops=2)
            assert same(updated.propose(proposed_WM), ansatz(proposed_WM), 1e-8)
            mask_W = torch.from_numpy(generator.random(7) < 0.6)
            updated.accept(mask_W)
            occupied_WM = torch.where(mask_W[:, None], proposed_WM, occupied_WM)
            assert torch.equal(updated.occupied_WM, occupied_WM)
            assert same(updated.log_psi(), ansatz(occupied_WM), 1e-8)


def test_the_inverse_is_that_of_numpy_after_many_updates(ansatz) -> None:
    generator = np.random.default_rng(8)
    occupied_WM = start(5, generator)
    rows = rows_of(ansatz)
    assert rows is not None
    updated = UpdatedDeterminants(rows, occupied_WM)
    for _ in range(25):
        updated.propose(moved(updated.occupied_WM, generator, hops=1))
        updated.accept(torch.ones(5, dtype=torch.bool))
    matrix_WKEE = ansatz.orbitals(updated.occupied_WM).detach()  # rows ascending
    # column s of A^-1 belongs to the row in slot s
    slots_WE = updated.orbital_WE.argsort(dim=1)
    sorted_WKEE = updated.inverse_WKEE.gather(3, slots_WE[:, None, None].expand(updated.inverse_WKEE.shape))
    inverse_WKEE = np.linalg.inv(matrix_WKEE.numpy())
    assert np.abs(sorted_WKEE.numpy() - inverse_WKEE).max() < 1e-8 * np.abs(inverse_WKEE).max()


def test_the_drift_is_measured_and_only_beyond_its_bound_computed_anew_and_counted() -> None:
    torch.manual_seed(4)
    rows = rows_of(make_ansatz(AnsatzConfig(kind="mean_field"), SYSTEM))
    assert rows is not None
    generator = np.random.default_rng(9)
    updated = UpdatedDeterminants(rows, start(6, generator), check_every=3)
    updated.inverse_WKEE[2] *= 1 + 1e-6  # what rounding would do in a long time
    for _ in range(2):
        updated.propose(updated.occupied_WM)
        updated.accept(torch.ones(6, dtype=torch.bool))
        assert updated.recomputed == 0
    updated.propose(updated.occupied_WM)
    updated.accept(torch.ones(6, dtype=torch.bool))
    assert updated.recomputed == 1
    assert updated.largest_drift == pytest.approx(1e-6, rel=1e-3)
    assert updated.check() < 1e-11
    assert updated.recomputed == 1


def test_walkers_at_a_zero_of_the_state_are_followed_by_full_determinants() -> None:
    torch.manual_seed(4)
    ansatz = make_ansatz(AnsatzConfig(kind="mean_field"), SYSTEM)
    with torch.no_grad():
        (table,) = ansatz.tables[0].parameters()
        table[0, 1] = table[0, 0]  # two equal rows: psi is zero where both are occupied
    generator = np.random.default_rng(10)
    occupied_WM = start(20, generator)
    rows = rows_of(ansatz)
    assert rows is not None
    updated = UpdatedDeterminants(rows, occupied_WM)
    both_W = occupied_WM[:, 0] & occupied_WM[:, 1]
    assert 0 < both_W.sum() < 20
    for _ in range(20):
        with torch.no_grad():
            proposed_WM = moved(updated.occupied_WM, generator, hops=2)
            ours, theirs = updated.propose(proposed_WM), ansatz(proposed_WM)
            vanishes_W = proposed_WM[:, 0] & proposed_WM[:, 1]
            assert (ours[0][vanishes_W] < -20).all()
            assert same(
                (ours[0][~vanishes_W], ours[1][~vanishes_W]), (theirs[0][~vanishes_W], theirs[1][~vanishes_W]), 1e-8
            )
            updated.accept(torch.from_numpy(generator.random(20) < 0.7))


def test_ansaetze_in_which_a_hop_changes_all_rows_have_no_updates() -> None:
    for kind in ("transformer", "ace"):
        assert rows_of(make_ansatz(AnsatzConfig(kind=kind), SYSTEM)) is None


def test_updates_are_used_from_the_measured_number_of_electrons_on() -> None:
    generator = np.random.default_rng(1)
    large = SystemConfig(lattice="8x4", boundary="periodic", filling="24,24", U=4.0)
    for kind, few, many in (("mean_field", False, True), ("scale", False, True), ("transformer", False, False)):
        for system, expected in ((SYSTEM, few), (large, many)):
            ansatz = make_ansatz(AnsatzConfig.model_validate({"kind": kind}), system)
            assert (updates_that_pay(ansatz, start(2, generator, system)) is not None) == expected
