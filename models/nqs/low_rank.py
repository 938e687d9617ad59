"""Determinants of proposed configurations from the inverse at the current one.

W walkers   M = 2N spin-orbitals   K determinants   E electrons: rows ("slots") and columns of a matrix
R rows that a proposal changes   H electrons that it moves   A walkers that accept   P places of SCALE's kernel
"""

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.nqs.amplitudes import Amplitudes
from models.nqs.ansatz import Head, site_states
from models.nqs.convolutional import Convolution, Scale
from models.nqs.determinants import log_sum
from models.nqs.hamiltonian import LogPsi
from models.nqs.network import MeanField, SlaterJastrow

# Electrons from which updates are quicker than full determinants. Microseconds a proposal, full / updated, one thread
# of a busy processor, 64 walkers, every second proposal accepted (benchmarks/nqs_low_rank.py; speeds vary by 1.5):
#   electrons           8          24         40         56         112         224
#   mean field       3.1 / 22   13 / 27    30 / 32    74 / 40    176 / 80    752 / 237
#   Slater-Jastrow   5.7 / 26   23 / 30    36 / 35    57 / 45    126 / 31    570 / 243
#   SCALE (64, 128)  145 / 123  414 / 331  662 / 408  924 / 316  1056 / 364  1730 / 505
LEAST_ELECTRONS_OF_TABLES = 48
LEAST_ELECTRONS_OF_SCALE = 16
STATES = 4  # of a site: empty, up, down, both
MOST_DRIFT = 1e-8  # of |A A^-1 - 1|, largest entry, before the inverse is computed anew
CHECK_EVERY = 100  # calls of `accept` between two looks at the drift
LEAST_RATIO = 1e-4  # of determinants in an update: errors of the inverse grow by its inverse, and it is computed anew


class Rows(Protocol):
    """Rows of an ansatz's orbitals one by one."""

    least_electrons: int  # from which updates pay

    def at(self, occupied_WM: Tensor, orbital_WR: Tensor) -> Tensor:
        """rows_WKRE: the rows of these spin-orbitals where the electrons are at `occupied_WM`; float64 or complex."""
        ...

    def changed(self, before_WM: Tensor, after_WM: Tensor) -> Tensor | None:
        """changed_WM: spin-orbitals whose row differs between the two; None where no row depends on the electrons."""
        ...

    def log_factor(self, occupied_WM: Tensor) -> Tensor | None:
        """log_W of a positive factor beside the determinants, or None."""
        ...


class TableRows:
    """Rows of a mean field or a Slater-Jastrow state, which are the same wherever the electrons are."""

    least_electrons = LEAST_ELECTRONS_OF_TABLES

    def __init__(self, ansatz: MeanField | SlaterJastrow) -> None:
        self.ansatz = ansatz
        parts = [table().double() for table in ansatz.tables]
        table_KME = parts[0] if len(parts) == 1 else torch.complex(*parts)
        self.table_MKE = table_KME.transpose(0, 1).contiguous()

    def at(self, occupied_WM: Tensor, orbital_WR: Tensor) -> Tensor:
        return self.table_MKE[orbital_WR].transpose(1, 2)

    def changed(self, before_WM: Tensor, after_WM: Tensor) -> Tensor | None:
        return None

    def log_factor(self, occupied_WM: Tensor) -> Tensor | None:
        return self.ansatz.log_jastrow(occupied_WM) if isinstance(self.ansatz, SlaterJastrow) else None


class ScaleRows:
    """Rows of SCALE: the network runs at the asked sites only, on what their kernels see."""

    least_electrons = LEAST_ELECTRONS_OF_SCALE

    def __init__(self, ansatz: Scale) -> None:
        self.ansatz, self.sites = ansatz, ansatz.sites
        self.tables_ME = [table().transpose(0, 1).flatten(1) for table in ansatz.tables]
        (convolution,) = ansatz.convolutions
        assert isinstance(convolution, Convolution)
        self.mix = convolution.mix
        self.embedding = F.pad(ansatz.embedding, (0, 0, 0, STATES))
        self.heads = [head for head in ansatz.orbital_heads if isinstance(head, Head)]
        self.neighbour_NP = convolution.get_buffer("neighbour").unflatten(0, (self.sites, -1))
        sees_NN = F.one_hot(self.neighbour_NP, self.sites + 1).sum(dim=1)[:, : self.sites] > 0  # N is beyond the edge
        self.sees_NN = sees_NN.float()

    def at(self, occupied_WM: Tensor, orbital_WR: Tensor) -> Tensor:
        ansatz, site_WR = self.ansatz, orbital_WR % self.sites
        state_WN = F.pad(site_states(occupied_WM), (0, 1))
        around_WRP = self.neighbour_NP[site_WR]
        seen_WRPD = self._embedded(state_WN, around_WRP.flatten(1)).unflatten(1, around_WRP.shape[1:])
        x_WRD = self._embedded(state_WN, site_WR) + F.silu(self.mix(seen_WRPD.flatten(-2)))
        for layer in ansatz.mlp:
            x_WRD = F.silu(layer(x_WRD))
        is_up_WR = orbital_WR < self.sites
        parts = []
        for table_ME, head in zip(self.tables_ME, self.heads, strict=True):
            correction_WRE = x_WRD.new_empty(*orbital_WR.shape, table_ME.shape[1])
            correction_WRE[is_up_WR] = head.up(x_WRD[is_up_WR])
            correction_WRE[~is_up_WR] = head.dn(x_WRD[~is_up_WR])
            parts.append(F.embedding(orbital_WR, table_ME).double() + correction_WRE)
        rows = parts[0] if len(parts) == 1 else torch.complex(*parts)
        return rows.unflatten(-1, (ansatz.determinants, ansatz.electrons)).transpose(1, 2)

    def _embedded(self, state_WN: Tensor, site_WR: Tensor) -> Tensor:
        """What SCALE embeds at these sites; zeros at site N, beyond an open boundary."""
        return F.embedding(STATES * site_WR + state_WN.gather(1, site_WR), self.embedding)

    def changed(self, before_WM: Tensor, after_WM: Tensor) -> Tensor | None:
        other_WN = (before_WM ^ after_WM).unflatten(1, (2, self.sites)).any(dim=1)
        near_WN = other_WN.float() @ self.sees_NN.T > 0
        return torch.cat([near_WN, near_WN], dim=1)

    def log_factor(self, occupied_WM: Tensor) -> Tensor | None:
        return None


def rows_of(ansatz: nn.Module) -> Rows | None:
    """The rows of an ansatz in which a hop changes few of them, or None: of any other all rows change."""
    if isinstance(ansatz, MeanField | SlaterJastrow):
        return TableRows(ansatz)
    return ScaleRows(ansatz) if isinstance(ansatz, Scale) else None


@torch.no_grad()
def updates_that_pay(ansatz: nn.Module, occupied_WM: Tensor) -> "UpdatedDeterminants | None":
    """Updates for walkers at these configurations, or None where full determinants are quicker or all rows change."""
    rows = rows_of(ansatz)
    pays = rows is not None and occupied_WM.device.type == "cpu" and int(occupied_WM[0].sum()) >= rows.least_electrons
    return UpdatedDeterminants(rows, occupied_WM) if rows is not None and pays else None


def quickest(ansatz: nn.Module, psi: Amplitudes, occupied_WM: Tensor) -> "Amplitudes | UpdatedDeterminants":
    """What chains at these configurations had best be walked with: a table, updates where they pay, or psi itself."""
    updates = None if psi.sector else updates_that_pay(ansatz, occupied_WM)
    return updates or psi


class UpdatedDeterminants:
    """The amplitude at each walker, and at what is proposed to it, for parameters that stay as they are.

    psi(n) = factor(n) sum_k det(A_k). A slot of A holds the row of one occupied spin-orbital; an electron that moves
    keeps its slot, so that slots lose their ascending order, and `order_W` is the sign that sorts them.
    """

    @torch.no_grad()
    def __init__(
        self, rows: Rows, occupied_WM: Tensor, *, check_every: int = CHECK_EVERY, most_drift: float = MOST_DRIFT
    ) -> None:
        self.rows, self.check_every, self.most_drift = rows, check_every, most_drift
        self.occupied_WM = occupied_WM.clone()
        self.orbital_WE = _first(occupied_WM, int(occupied_WM[0].sum()))
        self.slot_WM = torch.zeros(occupied_WM.shape, dtype=torch.int64, device=occupied_WM.device)
        self.order_W = torch.ones(len(occupied_WM), dtype=torch.float64, device=occupied_WM.device)
        self.accepts = 0  # calls since the last check
        self.recomputed = 0  # inverses that had drifted too far, over the life of this object
        self.largest_drift = 0.0  # that a check has seen
        matrix_WKEE = rows.at(occupied_WM, self.orbital_WE)
        self.inverse_WKEE = torch.empty_like(matrix_WKEE)
        self.log_WK = torch.empty(matrix_WKEE.shape[:2], dtype=torch.float64, device=occupied_WM.device)
        self.sign_WK = torch.empty(matrix_WKEE.shape[:2], dtype=matrix_WKEE.dtype, device=occupied_WM.device)
        self.stiff_W = torch.zeros(len(occupied_WM), dtype=torch.bool, device=occupied_WM.device)  # no usable inverse
        self._recompute(torch.arange(len(occupied_WM), device=occupied_WM.device))
        self.proposal: _Proposal | None = None

    def log_psi(self) -> LogPsi:
        """The amplitudes at the walkers."""
        return self._sum(self.occupied_WM, self.log_WK, self.sign_WK * self.order_W[:, None])

    @torch.no_grad()
    def propose(self, occupied_WM: Tensor) -> LogPsi:
        """The amplitudes at the proposed configurations, one for each walker; remembered for `accept`.

            det A' / det A = det(S),   S = (the R new rows) A^-1 (at the R changed slots)

        the matrix determinant lemma for A' = A + sum_r e_r (new_r - old_r)^T; for R = 1 it is the ratio of Slater
        determinants (Becca and Sorella, Quantum Monte Carlo Approaches).
        """
        proposal = _Proposal(self, occupied_WM)
        self.proposal = proposal
        log_WK, sign_WK = proposal.log_WK, proposal.sign_WK * proposal.order_W[:, None]
        stiff_A = self.stiff_W.nonzero().squeeze(1)
        if len(stiff_A):
            matrix_AKEE = self.rows.at(occupied_WM[stiff_A], _first(occupied_WM[stiff_A], self.orbital_WE.shape[1]))
            sign_WK[stiff_A], log_WK[stiff_A] = torch.linalg.slogdet(matrix_AKEE)
        return self._sum(occupied_WM, log_WK, sign_WK)

    @torch.no_grad()
    def accept(self, mask_W: Tensor) -> None:
        """Moves the walkers of the mask to their last proposal.

        A'^-1 = A^-1 - A^-1(at the slots) S^-1 (new rows A^-1 - unit rows)      (Sherman, Morrison and Woodbury)
        """
        assert self.proposal is not None, "propose comes before accept"
        proposal, self.proposal = self.proposal, None
        walker_A = (mask_W & proposal.moves_W).nonzero().squeeze(1)
        if len(walker_A):
            proposal.place(self, walker_A)
            self._recompute(walker_A[proposal.spoils_W[walker_A] | self.stiff_W[walker_A]])
        self.accepts += 1
        if self.accepts >= self.check_every:
            self.check()

    @torch.no_grad()
    def check(self) -> float:
        """The largest |A A^-1 - 1| of any walker; inverses beyond the bound are computed anew and counted."""
        self.accepts = 0
        drift_W = self._drift(torch.arange(len(self.occupied_WM), device=self.occupied_WM.device))
        drift_W = torch.where(self.stiff_W, 0.0, drift_W)
        drifted_A = (~(drift_W <= self.most_drift)).nonzero().squeeze(1)
        self._recompute(drifted_A)
        self.recomputed += len(drifted_A)
        largest = float(drift_W.max())
        self.largest_drift = max(self.largest_drift, largest)
        return largest

    def _drift(self, walker_A: Tensor) -> Tensor:
        """drift_A: the largest entry of |A A^-1 - 1| over a walker's determinants."""
        matrix_AKEE = self.rows.at(self.occupied_WM[walker_A], self.orbital_WE[walker_A])
        product_AKEE = matrix_AKEE @ self.inverse_WKEE[walker_A]
        product_AKEE.diagonal(dim1=-2, dim2=-1).sub_(1)
        return product_AKEE.abs().flatten(1).amax(dim=1)

    def _recompute(self, walker_A: Tensor) -> None:
        """Everything of these walkers from their configuration, slots in ascending order again."""
        if not len(walker_A):
            return
        occupied_AM = self.occupied_WM[walker_A]
        orbital_AE = _first(occupied_AM, self.orbital_WE.shape[1])
        matrix_AKEE = self.rows.at(occupied_AM, orbital_AE)
        inverse_AKEE, fault_AK = torch.linalg.inv_ex(matrix_AKEE)
        self.sign_WK[walker_A], self.log_WK[walker_A] = torch.linalg.slogdet(matrix_AKEE)
        singular_AK = (fault_AK != 0) | ~inverse_AKEE.isfinite().flatten(2).all(dim=2)
        self.inverse_WKEE[walker_A] = torch.where(singular_AK[..., None, None], 0.0, inverse_AKEE)
        slots_AE = torch.arange(orbital_AE.shape[1], device=orbital_AE.device).expand_as(orbital_AE)
        self.slot_WM[walker_A] = torch.zeros_like(self.slot_WM[walker_A]).scatter(1, orbital_AE, slots_AE)
        self.orbital_WE[walker_A], self.order_W[walker_A] = orbital_AE, 1.0
        # A matrix that is nearly singular has an inverse of no use, however fresh: such walkers take full determinants.
        self.stiff_W[walker_A] = ~(self._drift(walker_A) <= self.most_drift)

    def _sum(self, occupied_WM: Tensor, log_WK: Tensor, sign_WK: Tensor) -> LogPsi:
        log_W, sign_W = (log_WK[:, 0], sign_WK[:, 0]) if log_WK.shape[1] == 1 else log_sum(log_WK, sign_WK)
        sign_W = torch.where(sign_W == 0, torch.ones_like(sign_W), sign_W)
        factor_W = self.rows.log_factor(occupied_WM)
        return log_W if factor_W is None else log_W + factor_W, sign_W


class _Proposal:
    """What a proposal changes, and the determinants after it."""

    def __init__(self, current: UpdatedDeterminants, occupied_WM: Tensor) -> None:
        before_WM, self.occupied_WM = current.occupied_WM, occupied_WM
        gone_WM, come_WM = before_WM & ~occupied_WM, occupied_WM & ~before_WM
        hops_W = gone_WM.sum(dim=1)
        self.moves_W = hops_W > 0
        hops = int(hops_W.max())
        gone_WH, come_WH = _first(gone_WM, hops), _first(come_WM, hops)
        valid_WH = torch.arange(hops, device=hops_W.device) < hops_W[:, None]
        self.order_W = current.order_W * _crossings(before_WM, gone_WH, come_WH, valid_WH)
        slot_WR, self.orbital_WR, self.valid_WR = current.slot_WM.gather(1, gone_WH), come_WH, valid_WH
        changed_WM = current.rows.changed(before_WM, occupied_WM)
        if changed_WM is not None:
            stays_WM = changed_WM & before_WM & occupied_WM
            counts_W = stays_WM.sum(dim=1)
            stays_WS = _first(stays_WM, int(counts_W.max()))
            slot_WR = torch.cat([slot_WR, current.slot_WM.gather(1, stays_WS)], dim=1)
            self.orbital_WR = torch.cat([self.orbital_WR, stays_WS], dim=1)
            stay_valid_WS = torch.arange(stays_WS.shape[1], device=hops_W.device) < counts_W[:, None]
            self.valid_WR = torch.cat([self.valid_WR, stay_valid_WS], dim=1)
        self.slot_WR = slot_WR
        self.rows_WKRE = current.rows.at(occupied_WM, self.orbital_WR)
        self._ratio(current)

    def _ratio(self, current: UpdatedDeterminants) -> None:
        """log|det S| and its sign, added to the current determinants'."""
        inverse_WKEE = current.inverse_WKEE
        shape = (*inverse_WKEE.shape[:3], self.slot_WR.shape[1])
        self.columns_WKER = inverse_WKEE.gather(3, self.slot_WR[:, None, None, :].expand(shape))
        both_W1RR = (self.valid_WR[:, :, None] & self.valid_WR[:, None, :])[:, None]
        unit_RR = torch.eye(self.slot_WR.shape[1], dtype=inverse_WKEE.dtype, device=inverse_WKEE.device)
        self.small_WKRR = torch.where(both_W1RR, self.rows_WKRE @ self.columns_WKER, unit_RR)
        if self.slot_WR.shape[1] == 1:
            ratio_WK = self.small_WKRR[..., 0, 0]
            log_WK, sign_WK = ratio_WK.abs().log(), ratio_WK.sgn()
        else:
            sign_WK, log_WK = torch.linalg.slogdet(self.small_WKRR)
        self.spoils_W = ~(log_WK > math.log(LEAST_RATIO)).all(dim=1)
        self.log_WK, self.sign_WK = current.log_WK + log_WK, current.sign_WK * sign_WK

    def place(self, current: UpdatedDeterminants, walker_A: Tensor) -> None:
        """Writes the proposal of these walkers into the current state."""
        slot_AR, valid_AR = self.slot_WR[walker_A], self.valid_WR[walker_A]
        # S^-1 of the new rows and of the unit rows, both R x E, for all walkers together
        rows_AKRE, small_AKRR = self.rows_WKRE[walker_A], self.small_WKRR[walker_A]
        unit_AKRE = F.one_hot(slot_AR, rows_AKRE.shape[-1]).to(rows_AKRE.dtype)[:, None].expand(rows_AKRE.shape)
        both = torch.cat([rows_AKRE, unit_AKRE], dim=-1) * valid_AR[:, None, :, None]
        both = both / small_AKRR if slot_AR.shape[1] == 1 else torch.linalg.solve_ex(small_AKRR, both)[0]
        rows_AKRE, unit_AKRE = both.chunk(2, dim=-1)
        # The rest walker by walker and in place: one inverse stays in a core's cache, a copy of all of them does not.
        for place, walker in enumerate(walker_A.tolist()):
            inverse_KEE = current.inverse_WKEE[walker]
            change_KRE = torch.baddbmm(unit_AKRE[place], rows_AKRE[place], inverse_KEE, beta=-1)
            inverse_KEE.baddbmm_(self.columns_WKER[walker], change_KRE, alpha=-1)
        current.log_WK[walker_A], current.sign_WK[walker_A] = self.log_WK[walker_A], self.sign_WK[walker_A]
        current.order_W[walker_A] = self.order_W[walker_A]
        current.occupied_WM[walker_A] = self.occupied_WM[walker_A]
        row_C, place_C = valid_AR.nonzero(as_tuple=True)
        orbital_C, slot_C = self.orbital_WR[walker_A][row_C, place_C], slot_AR[row_C, place_C]
        current.orbital_WE[walker_A[row_C], slot_C] = orbital_C
        current.slot_WM[walker_A[row_C], orbital_C] = slot_C


def _crossings(occupied_WM: Tensor, from_WH: Tensor, to_WH: Tensor, valid_WH: Tensor) -> Tensor:
    """sign_W: (-1)^(electrons strictly between start and end), hop after hop."""
    occupied_WM = occupied_WM.clone()
    sign_W = torch.ones(len(occupied_WM), dtype=torch.float64, device=occupied_WM.device)
    for hop in range(from_WH.shape[1]):
        start_W1, end_W1, valid_W = from_WH[:, hop, None], to_WH[:, hop, None], valid_WH[:, hop]
        below_WM = occupied_WM.cumsum(dim=1, dtype=torch.int32)
        between_W = (below_WM.gather(1, end_W1) - below_WM.gather(1, start_W1) + (end_W1 < start_W1)).squeeze(1)
        sign_W = torch.where(valid_W & (between_W % 2 != 0), -sign_W, sign_W)
        occupied_WM.scatter_(1, start_W1, (occupied_WM.gather(1, start_W1) & ~valid_W[:, None]))
        occupied_WM.scatter_(1, end_W1, (occupied_WM.gather(1, end_W1) | valid_W[:, None]))
    return sign_W


def _first(mask_WM: Tensor, count: int) -> Tensor:
    """index_WR: the places of the true entries, ascending; where there are fewer than `count`, false ones follow."""
    return mask_WM.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :count]
