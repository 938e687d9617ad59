"""A state given by a list of amplitudes, looked up by a dictionary: what chains and tables are tested against."""

# D configurations   W walkers   M = 2N spin-orbitals

from itertools import combinations

import torch
from torch import Tensor

from models.nqs.hamiltonian import LogPsi


def configurations(sites: int, n_up: int, n_dn: int) -> Tensor:
    """occupied_DM: every configuration, by itertools."""
    rows = []
    for up in combinations(range(sites), n_up):
        for down in combinations(range(sites), n_dn):
            row = torch.zeros(2 * sites, dtype=torch.bool)
            row[[*up, *(sites + site for site in down)]] = True
            rows.append(row)
    return torch.stack(rows)


class TableState:
    """Amplitudes drawn once for every configuration; counts how often each is asked for."""

    def __init__(self, sites: int, n_up: int, n_dn: int, *, seed: int = 0, spread: float = 1.0, phases: bool = False):
        generator = torch.Generator().manual_seed(seed)
        self.occupied_DM = configurations(sites, n_up, n_dn)
        size = len(self.occupied_DM)
        self.log_abs_D = spread * torch.randn(size, generator=generator, dtype=torch.float64)
        angle_D = torch.rand(size, generator=generator, dtype=torch.float64) * 2 * torch.pi
        real_D = torch.where(angle_D < torch.pi, -1.0, 1.0).double()
        self.sign_D = torch.polar(torch.ones_like(angle_D), angle_D) if phases else real_D
        self.place = {self._key(row): number for number, row in enumerate(self.occupied_DM)}
        self.calls_D = torch.zeros(size, dtype=torch.int64)

    def __call__(self, occupied_WM: Tensor) -> LogPsi:
        place_W = self.places(occupied_WM)
        self.calls_D += torch.bincount(place_W, minlength=len(self.calls_D))
        return self.log_abs_D[place_W], self.sign_D[place_W]

    def places(self, occupied_WM: Tensor) -> Tensor:
        return torch.tensor([self.place[self._key(row)] for row in occupied_WM], dtype=torch.int64)

    @staticmethod
    def _key(row: Tensor) -> bytes:
        return row.numpy().tobytes()
