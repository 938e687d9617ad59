"""Metropolis chains on the density |psi|^alpha, one for each walker, which live as long as the training."""

# W walkers of this rank   M = 2N spin-orbitals   R random numbers   P proposals
# A walkers whose proposal differs

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from models.common.errors import ConfigError, TrainingError
from models.nqs import streams
from models.nqs.hamiltonian import Hubbard, LogPsi, Psi
from models.nqs.proposals import make_moves

_PART = 32  # proposals whose random numbers are made together, two for each


class Sweep(NamedTuple):
    """Where the walkers are after some proposals, and how they came there."""

    occupied_WM: Tensor
    log_abs_W: Tensor
    sign_W: Tensor
    accepted_W: Tensor  # proposals that moved the walker, int64
    tried_W: Tensor  # proposals of another configuration than its own, int64
    proposed: int  # proposals to each walker, those that would change nothing included


@runtime_checkable
class Follower(Protocol):
    """The amplitudes at all walkers of a chain and at what is proposed to them, for parameters that stay."""

    def log_psi(self) -> LogPsi:
        """At the walkers."""
        ...

    def propose(self, occupied_WM: Tensor) -> LogPsi:
        """At one proposed configuration for each walker."""
        ...

    def accept(self, mask_W: Tensor) -> None:
        """These walkers moved to their last proposal."""
        ...


class Evaluated:
    """Follows walkers by evaluating psi, but not where a proposal changes nothing."""

    def __init__(self, psi: Psi, occupied_WM: Tensor) -> None:
        self.psi, self.occupied_WM = psi, occupied_WM
        self.current = psi(occupied_WM)
        self.proposed, self.proposal_WM = self.current, occupied_WM

    def log_psi(self) -> LogPsi:
        return self.current

    def propose(self, occupied_WM: Tensor) -> LogPsi:
        walker_A = (occupied_WM != self.occupied_WM).any(dim=1).nonzero()[:, 0]
        log_abs_W, sign_W = (part_W.clone() for part_W in self.current)
        if len(walker_A):
            log_abs_W[walker_A], sign_W[walker_A] = self.psi(occupied_WM[walker_A])
        self.proposed, self.proposal_WM = (log_abs_W, sign_W), occupied_WM
        return self.proposed

    def accept(self, mask_W: Tensor) -> None:
        new, old = self.proposed, self.current
        self.current = torch.where(mask_W, new[0], old[0]), torch.where(mask_W, new[1], old[1])
        self.occupied_WM = torch.where(mask_W[:, None], self.proposal_WM, self.occupied_WM)


class Chains:
    """The walkers first .. first + walkers of one seed, here on this rank.

    occupied_WM: where they are, all that a checkpoint needs: random numbers are keyed by step and global number, so
    that neither workers nor a resume change a chain. alpha: the density is |psi|^alpha; it may change between sweeps.
    """

    def __init__(
        self,
        hubbard: Hubbard,
        *,
        first: int,
        walkers: int,
        seed: int,
        moves: Sequence[str],
        alpha: float,
        start: int = streams.START,
        purpose: int = streams.SWEEP,
    ) -> None:
        self.first, self.walkers, self.seed, self.purpose = first, walkers, seed, purpose
        self.moves = make_moves(moves, hubbard)
        self.alpha = alpha
        system = hubbard.system
        keys_WM = streams.uniforms(seed, start, 0, first, walkers, 2 * system.sites)
        self.occupied_WM = random_configurations(torch.from_numpy(keys_WM), *system.particles).to(hubbard.from_D.device)

    @torch.no_grad()
    def advance(self, psi: Psi | Follower, proposals: int, step: int) -> Sweep:
        """`proposals` Metropolis proposals to every walker with the random numbers of `step`; moves are taken in turn.

        A step's numbers are used once: two calls with the same `step` are not independent. `psi` is evaluated anew at
        the walkers first, as its parameters may have changed; a `Follower` has to stand where they do.

        TrainingError: an amplitude that is nan or infinite.
        """
        follower = psi if isinstance(psi, Follower) else Evaluated(psi, self.occupied_WM)
        log_abs_W, _ = follower.log_psi()
        require_finite(log_abs_W, self.occupied_WM, step)
        accepted_W = torch.zeros(self.walkers, dtype=torch.int64, device=log_abs_W.device)
        tried_W = accepted_W.clone()
        for number, (choice_W, chance_W) in enumerate(self._numbers(step, proposals), start=step * proposals):
            proposed_WM, log_correction_W = self.moves[number % len(self.moves)](self.occupied_WM, choice_W)
            differs_W = (proposed_WM != self.occupied_WM).any(dim=1)
            new_log_W, _ = follower.propose(proposed_WM)
            require_finite(new_log_W, proposed_WM, step)
            log_ratio_W = log_acceptance(log_abs_W, new_log_W, log_correction_W, self.alpha)
            # A walker at psi = 0 goes anywhere: whatever it finds is no worse, and it is not lost there.
            accept_W = differs_W & ((chance_W.log() < log_ratio_W) | log_abs_W.isneginf())
            follower.accept(accept_W)
            self.occupied_WM = torch.where(accept_W[:, None], proposed_WM, self.occupied_WM)
            log_abs_W = torch.where(accept_W, new_log_W, log_abs_W)
            accepted_W += accept_W
            tried_W += differs_W
        return Sweep(self.occupied_WM, *follower.log_psi(), accepted_W, tried_W, proposals)

    def _numbers(self, step: int, proposals: int) -> Iterator[Tensor]:
        """For each proposal of a step, the walkers' numbers [2, W]: to choose by, and to accept by."""
        for part in range(-(-proposals // _PART)):
            draws_WR = streams.uniforms(self.seed, self.purpose, step, self.first, self.walkers, 2 * _PART, part)
            draws_P2W = torch.from_numpy(draws_WR.T.copy()).unflatten(0, (_PART, 2)).to(self.occupied_WM.device)
            yield from draws_P2W[: proposals - part * _PART]


def log_acceptance(log_abs_W: Tensor, new_log_W: Tensor, log_correction_W: Tensor | None, alpha: float) -> Tensor:
    """Logarithm of the ratio that a uniform number has to stay below (Hastings 1970, Biometrika 57, 97).

    |psi(n')|^alpha q(n' -> n) / (|psi(n)|^alpha q(n -> n'))
    """
    log_ratio_W = alpha * (new_log_W - log_abs_W)
    return log_ratio_W if log_correction_W is None else log_ratio_W + log_correction_W


def random_configurations(keys_WM: Tensor, n_up: int, n_dn: int) -> Tensor:
    """occupied_WM: uniform among all with n_up and n_dn electrons: those on the sites with the smallest keys.

    ConfigError: more electrons of one spin than sites.
    """
    sites = keys_WM.shape[1] // 2
    if max(n_up, n_dn) > sites:
        raise ConfigError(f"{n_up} and {n_dn} electrons do not fit {sites} sites; fits: up to {sites} of each spin")
    ranks = [keys_WN.argsort(dim=1).argsort(dim=1) for keys_WN in keys_WM.split(sites, dim=1)]
    return torch.cat([ranks[0] < n_up, ranks[1] < n_dn], dim=1)


def require_finite(log_abs_W: Tensor, occupied_WM: Tensor, step: int) -> None:
    """Raises TrainingError where log |psi| is nan or +inf, naming a configuration; -inf, psi = 0, is an amplitude."""
    if bool((log_abs_W < torch.inf).all()):
        return
    bad_W = ~(log_abs_W < torch.inf)
    worst = int(bad_W.nonzero()[0])
    configuration = "".join("1" if occupied else "0" for occupied in occupied_WM[worst].tolist())
    raise TrainingError(
        f"step {step}: log |psi| is {float(log_abs_W[worst])} at {int(bad_W.sum())} of {len(bad_W)} configurations, "
        f"such as {configuration} (up, then down)\nwhat fits is a finite number, or -inf where psi = 0\n"
        "try a smaller step norm or a larger damping"
    )
