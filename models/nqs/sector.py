"""All configurations with fixed numbers of up and down electrons, and the place of each among them.

D configurations   W walkers   N sites   M = 2N spin-orbitals, all up, then all down
"""

from functools import cache
from math import comb

import torch
from torch import Tensor

from models.common.errors import ConfigError

MOST_SITES = 62  # of one spin, as bits of an int64


def patterns(sites: int, electrons: int) -> Tensor:
    """The C(sites, electrons) ways to place electrons of one spin, as int64 with bit i for site i, ascending.

    Those without the last site come before those with it, which is ascending order and needs no sorting. Raises
    ConfigError beyond 62 sites.
    """
    if sites > MOST_SITES:
        raise ConfigError(f"{sites} sites do not fit the bits of a number\nfits: up to {MOST_SITES} sites")
    of_count = [torch.zeros(1, dtype=torch.int64)] + [torch.zeros(0, dtype=torch.int64)] * electrons
    for site in range(sites):
        with_site = [torch.zeros(0, dtype=torch.int64)] + [bits | (1 << site) for bits in of_count[:-1]]
        of_count = [torch.cat(pair) for pair in zip(of_count, with_site, strict=True)]
    return of_count[electrons]


class Sector:
    """The D = C(N, n_up) * C(N, n_dn) configurations, in the order index = index_up * D_dn + index_dn."""

    def __init__(self, sites: int, n_up: int, n_dn: int) -> None:
        self.sites, self.n_up, self.n_dn = sites, n_up, n_dn
        self.dimension_up, self.dimension_dn = comb(sites, n_up), comb(sites, n_dn)
        self.dimension = self.dimension_up * self.dimension_dn

    @property
    def indexable(self) -> bool:
        """Whether every index is an int64."""
        return self.sites <= MOST_SITES and self.dimension < 1 << 63

    def all(self) -> Tensor:
        """occupied_DM: every configuration, bool, in the order of `index`."""
        site_N = torch.arange(self.sites)
        up = (patterns(self.sites, self.n_up)[:, None] >> site_N & 1).bool()
        down = (patterns(self.sites, self.n_dn)[:, None] >> site_N & 1).bool()
        return torch.cat([up.repeat_interleave(len(down), dim=0), down.repeat(len(up), 1)], dim=1)

    def index(self, occupied_WM: Tensor) -> Tensor:
        """index_W: the row of each configuration in `all()`, int64. Raises ConfigError where it cannot be one."""
        if not self.indexable:
            raise ConfigError(
                f"a sector of {self.dimension} configurations on {self.sites} sites has no index\n"
                f"fits: up to {MOST_SITES} sites and {1 << 63} configurations"
            )
        up, down = occupied_WM[:, : self.sites], occupied_WM[:, self.sites :]
        return _rank(up, self.n_up) * self.dimension_dn + _rank(down, self.n_dn)


def _rank(occupied_WN: Tensor, electrons: int) -> Tensor:
    """The place of each pattern in ascending order of its bits, by the combinatorial number system.

    rank = sum_k C(p_k, k), with p_k the site of the k-th electron, k = 1, 2, ... (Knuth, TAOCP 4A, 7.2.1.3, theorem L).
    """
    sites = occupied_WN.shape[1]
    k_WN = occupied_WN.cumsum(dim=1)
    site_N = torch.arange(sites, device=occupied_WN.device)
    return (_ways(sites, electrons, occupied_WN.device)[site_N, k_WN] * occupied_WN).sum(dim=1)


@cache
def _ways(sites: int, electrons: int, device: torch.device) -> Tensor:
    """C(site, k) for every site and k <= electrons, int64."""
    return torch.tensor([[comb(site, k) for k in range(electrons + 1)] for site in range(sites)], device=device)
