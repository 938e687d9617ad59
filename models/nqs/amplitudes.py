"""Psi with a memory, which lasts as long as the parameters stay."""

# W configurations asked for   U those to evaluate   M = 2N spin-orbitals   D configurations of the sector

from __future__ import annotations

import torch
from torch import Tensor

from models.nqs.hamiltonian import LogPsi, Psi
from models.nqs.sector import Sector


class Amplitudes:
    """Psi by table where the sector is small enough; elsewhere psi itself, in pieces. Without gradients.

    asked, evaluated: configurations since the beginning, and how many of them psi was called with. Without a table,
    equal configurations are evaluated again: on 4x4 and above fewer than 1 in 100 within a call are equal.
    """

    def __init__(self, psi: Psi, sector: Sector | None, chunk: int, most_states: int = 1 << 21) -> None:
        self.psi, self.chunk = psi, chunk
        small = sector is not None and sector.indexable and sector.dimension <= most_states
        self.sector = sector if small else None
        self.asked = self.evaluated = 0
        self.table_D: LogPsi | None = None  # log |psi| is nan where it has not been evaluated

    def forget(self) -> None:
        """To be called when the parameters have changed."""
        if self.table_D is not None:
            self.table_D[0].fill_(torch.nan)

    @torch.no_grad()
    def __call__(self, occupied_WM: Tensor) -> LogPsi:
        """log |psi| [W] and its sign [W], as psi gives them."""
        self.asked += len(occupied_WM)
        if self.sector is None or not len(occupied_WM):
            return self._evaluate(occupied_WM)
        index_W = self.sector.index(occupied_WM)
        log_abs_D, sign_D = self._learn(self.sector.dimension, index_W, occupied_WM)
        return log_abs_D[index_W], sign_D[index_W]

    def _learn(self, dimension: int, index_W: Tensor, occupied_WM: Tensor) -> LogPsi:
        """The table, after what it lacked of these configurations was evaluated, each once."""
        if self.table_D is None:
            missing_W = torch.ones_like(index_W, dtype=torch.bool)
        else:
            missing_W = self.table_D[0][index_W].isnan()
        walker_A = missing_W.nonzero()[:, 0]
        if len(walker_A):
            row_U, _ = distinct(index_W[walker_A])
            walker_U = walker_A[row_U]
            log_abs_U, sign_U = self._evaluate(occupied_WM[walker_U])
            if self.table_D is None:
                self.table_D = log_abs_U.new_full((dimension,), torch.nan), sign_U.new_zeros(dimension)
            for table_D, found_U in zip(self.table_D, (log_abs_U, sign_U), strict=True):
                table_D[index_W[walker_U]] = found_U
        assert self.table_D is not None, "the first call misses everything"
        return self.table_D

    def _evaluate(self, occupied_WM: Tensor) -> LogPsi:
        self.evaluated += len(occupied_WM)
        parts = [self.psi(part_WM) for part_WM in occupied_WM.split(self.chunk)]
        if len(parts) == 1:
            return parts[0]
        return torch.cat([log_abs_W for log_abs_W, _ in parts]), torch.cat([sign_W for _, sign_W in parts])


def distinct(index_W: Tensor) -> tuple[Tensor, Tensor]:
    """row_U: the first row of each different index, in ascending order of the index; place_W: which of them is each."""
    index_U, place_W = torch.unique(index_W, return_inverse=True)
    row_W = torch.arange(len(index_W), device=index_W.device)
    return torch.full_like(index_U, len(index_W)).scatter_reduce_(0, place_W, row_W, "amin"), place_W
