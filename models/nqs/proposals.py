"""Where a walker may go next: hops, swaps of sites, and hops of the Hamiltonian.

Every move keeps N_up and N_dn. A move sees all walkers at once and takes one uniform number of each.
"""

# W walkers   M = 2N spin-orbitals   P pairs of sites   C choices   K spin-orbitals that exchange
# D directed hops   B bonds of both spins

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from models.common.errors import ConfigError
from models.nqs.hamiltonian import Hubbard
from models.nqs.system import SystemConfig

LEAST_WEIGHT = 0.05  # of an allowed hop, so that one with a small element is tried too


class Proposal(NamedTuple):
    """occupied_WM: where to; log_correction_W: log q(n'|n -> n) - log q(n|n -> n'), or None where q is symmetric."""

    occupied_WM: Tensor
    log_correction_W: Tensor | None


class Move(Protocol):
    def __call__(self, occupied_WM: Tensor, uniform_W: Tensor) -> Proposal:
        """A configuration for each walker, chosen by its uniform number in [0, 1); it may be the one it has."""
        ...


def neighbour_pairs(system: SystemConfig) -> Tensor:
    """pairs_P2: sites next to each other and across a diagonal, each unordered pair once, int64; around boundaries
    that are not open too. Whether electrons hop there does not matter."""
    length_x, length_y = system.shape
    around_x, around_y = (boundary != "open" for boundary in system.boundaries)
    pairs: set[tuple[int, int]] = set()
    for site in range(system.sites):
        for step_x, step_y in ((1, 0), (0, 1), (1, 1), (1, -1)):
            x, y = site // length_y + step_x, site % length_y + step_y
            if (around_x or x < length_x) and (around_y or 0 <= y < length_y):
                other = (x % length_x) * length_y + y % length_y
                pairs.add((min(site, other), max(site, other)))
    return torch.tensor(sorted(pair for pair in pairs if pair[0] != pair[1]), dtype=torch.int64).reshape(-1, 2)


class Exchange:
    """A uniform choice of spin-orbitals whose occupations change places: its own reverse, hence symmetric.

    own_CK, other_CK: choice c gives the spin-orbital own[c, k] the occupation of other[c, k].
    """

    def __init__(self, own_CK: Tensor, other_CK: Tensor) -> None:
        self.own_CK, self.other_CK = own_CK, other_CK

    def __call__(self, occupied_WM: Tensor, uniform_W: Tensor) -> Proposal:
        choice_W = (uniform_W * len(self.own_CK)).long()
        taken_WK = occupied_WM.gather(1, self.other_CK[choice_W])
        return Proposal(occupied_WM.scatter(1, self.own_CK[choice_W], taken_WK), None)


def hop(hubbard: Hubbard) -> Exchange:
    """One spin of one neighbouring pair of sites: the electron moves if exactly one end is occupied."""
    pairs_P2 = _pairs_to_move_between(hubbard)
    pairs_C2 = torch.cat([pairs_P2, pairs_P2 + hubbard.sites])
    return Exchange(pairs_C2, pairs_C2.flip(1))


def swap(hubbard: Hubbard) -> Exchange:
    """Both spins of one neighbouring pair of sites, n_i <-> n_j: moves a spin or a hole through a half-filled lattice
    without a doubly occupied site in between, which a hop needs and a large U forbids."""
    pairs_P2 = _pairs_to_move_between(hubbard)
    return Exchange(
        torch.cat([pairs_P2, pairs_P2 + hubbard.sites], dim=1),
        torch.cat([pairs_P2.flip(1), pairs_P2.flip(1) + hubbard.sites], dim=1),
    )


def _pairs_to_move_between(hubbard: Hubbard) -> Tensor:
    pairs_P2 = neighbour_pairs(hubbard.system)
    if not len(pairs_P2):
        raise ConfigError(f"a lattice of {hubbard.sites} site has no pair to move between; fits: two sites or more")
    return pairs_P2.to(hubbard.from_D.device)


class WeightedHop:
    """One of the allowed hops of the Hamiltonian, with probability w_d / Z(n), w_d = max(|element_d|, 0.05).

    Z(n) is the sum of w over the hops allowed in n. The reverse hop has the same weight, so that
        q(n' -> n) / q(n -> n') = Z(n) / Z(n')
    corrects the choice. Nothing is proposed in vain, which counts where an amplitude is dear. As in the authors' code
    (github.com/bytedance/laqx); with equal weights this is the number of allowed hops before, by that after.
    """

    def __init__(self, hubbard: Hubbard) -> None:
        # A bond allows a hop, one way or the other, where exactly one end is occupied: each stands here once.
        one_way = hubbard.from_D < hubbard.to_D
        self.first_B, self.second_B = hubbard.from_D[one_way], hubbard.to_D[one_way]
        self.ends_B2 = torch.stack([self.first_B, self.second_B], dim=1)
        self.weight_B = hubbard.element_D[one_way].abs().clamp(min=LEAST_WEIGHT)
        if not len(self.ends_B2):
            raise ConfigError("a system without hopping has no hop to choose; fits: moves=['hop','swap']")

    def __call__(self, occupied_WM: Tensor, uniform_W: Tensor) -> Proposal:
        below_WB = self._weights(occupied_WM).cumsum(dim=1)
        total_W = below_WB[:, -1]
        # right=True: the first bond whose sum exceeds the mark, and so never one that allows no hop.
        choice_W1 = torch.searchsorted(below_WB, (uniform_W * total_W)[:, None], right=True)
        # A walker with no allowed hop points past the end; every bond leaves it as it is.
        ends_W2 = self.ends_B2[choice_W1[:, 0].clamp(max=len(self.ends_B2) - 1)]
        proposed_WM = occupied_WM.scatter(1, ends_W2, occupied_WM.gather(1, ends_W2.flip(1)))
        return Proposal(proposed_WM, (total_W / self._weights(proposed_WM).sum(dim=1)).log())

    def _weights(self, occupied_WM: Tensor) -> Tensor:
        """weight_WB of each bond's allowed hop, 0 where there is none."""
        occupied_MW = occupied_WM.T.contiguous()  # whole rows are picked ten times as fast as columns
        return (occupied_MW[self.first_B] ^ occupied_MW[self.second_B]).T.contiguous() * self.weight_B


MOVES = {"hop": hop, "swap": swap, "weighted": WeightedHop}


def make_moves(names: Sequence[str], hubbard: Hubbard) -> tuple[Move, ...]:
    """The moves of these names, to be taken in turn; tables are on the device of `hubbard`.

    ConfigError: no name, one that is not known, or a system that has no such move.
    """
    unknown = [name for name in names if name not in MOVES]
    if unknown or not names:
        raise ConfigError(f"moves {list(names)} are not known; what fits: one or more of {', '.join(MOVES)}")
    return tuple(MOVES[name](hubbard) for name in names)
