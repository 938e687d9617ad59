"""What all wave functions share: which orbitals are occupied, the table that holds them, and the determinants."""

# W walkers   N sites   M = 2N spin-orbitals, all up, then all down   K determinants
# E electrons: columns of the orbitals, and the rows of them that are occupied   D width of the features

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.common.errors import ConfigError
from models.nqs.ansatz_config import AnsatzConfig
from models.nqs.determinants import log_sum_of_determinants
from models.nqs.hamiltonian import LogPsi
from models.nqs.meanfield import free_orbitals, unrestricted_hartree_fock
from models.nqs.system import SystemConfig

# Numbers of the largest intermediate result of a piece. It stays in a core's own cache with what it is made from, and
# below the size from which the allocator hands memory back at once, to be paged in anew for each piece.
_CACHED = 2**17
_FEWEST_WALKERS = 16  # in a piece; fewer would pay more for the calls than the cache gives


class Ansatz(nn.Module):
    """psi(n) = sum_k det(orbitals_k[occupied rows of n, :]), rows in ascending order of the spin-orbitals.

    The orbitals are a table, which any kind of ansatz may correct for where the electrons are. Random starts come
    from torch's global generator. All configurations have the system's numbers of electrons of each spin.
    """

    def __init__(self, config: AnsatzConfig, system: SystemConfig) -> None:
        super().__init__()
        if system.is_complex and not config.complex:
            raise ConfigError("a twisted boundary makes the orbitals complex; set ansatz.complex=true")
        self.sites = system.sites
        self.n_up, self.n_dn = system.particles
        self.electrons = self.n_up + self.n_dn
        self.determinants = config.determinants
        self.dtype = getattr(torch, config.dtype)
        tables = [
            OrbitalTable(part_KME.to(self.dtype), (self.n_up, self.n_dn), generalised=config.generalised)
            for part_KME in _start_table(config, system)
        ]
        self.tables = nn.ModuleList(tables)  # one, or the real and the imaginary part

    def forward(self, occupied_WM: Tensor) -> LogPsi:
        """log|psi| and psi/|psi|, both of length W and in float64 (complex128)."""
        walkers = max(_FEWEST_WALKERS, _CACHED // self.largest_per_walker())
        if torch.is_grad_enabled() or occupied_WM.device.type != "cpu" or len(occupied_WM) <= walkers:
            return self.amplitude(occupied_WM)
        log_abs, sign = zip(*map(self.amplitude, occupied_WM.split(walkers)), strict=True)
        return torch.cat(log_abs), torch.cat(sign)

    def amplitude(self, occupied_WM: Tensor) -> LogPsi:
        """What `forward` returns, of all walkers at once."""
        return log_sum_of_determinants(self.orbitals(occupied_WM))

    def orbitals(self, occupied_WM: Tensor) -> Tensor:
        """orbitals_WKEE in float64 (complex128): the rows of the occupied spin-orbitals only, ascending."""
        rows_WE = self.occupied_rows(occupied_WM)
        corrections = self.corrections(occupied_WM, rows_WE)
        parts = [F.embedding(rows_WE, table().transpose(0, 1).flatten(1)).double() for table in self.tables]
        if corrections:
            parts = [part + correction for part, correction in zip(parts, corrections, strict=True)]
        orbitals = parts[0] if len(parts) == 1 else torch.complex(*parts)
        return orbitals.unflatten(-1, (self.determinants, self.electrons)).transpose(-2, -3)

    def corrections(self, occupied_WM: Tensor, rows_WE: Tensor) -> Sequence[Tensor]:
        """What is added to the table's rows: [W, E, K * E] for each of its parts, or nothing at all."""
        return ()

    def occupied_rows(self, occupied_WM: Tensor) -> Tensor:
        """rows_WE: the occupied spin-orbitals, ascending: first the n_up with spin up, then those with spin down."""
        # A stable sort and not nonzero(), which would wait for a GPU and which vmap does not take.
        order_WM = occupied_WM.to(torch.uint8).argsort(dim=-1, descending=True, stable=True)
        return order_WM[..., : self.electrons]

    def largest_per_walker(self) -> int:
        """How many numbers the largest intermediate result has per walker."""
        return self.determinants * self.electrons**2

    def parameter_count(self) -> int:
        """How many real numbers are learnt."""
        return sum(parameter.numel() for parameter in self.parameters())

    def describe(self) -> str:
        """The ansatz in a few words, for people."""
        parts = [type(self).__name__, f"{self.parameter_count():,} parameters"]
        parts += [f"{self.determinants} determinants"] * (self.determinants > 1)
        parts += ["complex"] * (len(self.tables) > 1)
        return ", ".join([*parts, str(self.dtype).removeprefix("torch.")])


class OrbitalTable(nn.Module):
    """Orbitals that are learnt number by number; without `generalised` each column belongs to one spin."""

    def __init__(self, start_KME: Tensor, particles: tuple[int, int], *, generalised: bool) -> None:
        super().__init__()
        blocks = [start_KME]
        if not generalised:
            up_KNE, dn_KNE = start_KME.chunk(2, dim=1)
            blocks = [up_KNE[..., : particles[0]], dn_KNE[..., particles[0] :]]
        self.blocks = nn.ParameterList(nn.Parameter(block.clone()) for block in blocks)

    def forward(self) -> Tensor:
        """The table [K, M, E]."""
        if len(self.blocks) == 1:
            return self.blocks[0]
        up_KNE, dn_KNE = self.blocks
        return torch.cat([F.pad(up_KNE, (0, dn_KNE.shape[-1])), F.pad(dn_KNE, (up_KNE.shape[-1], 0))], dim=1)


def _start_table(config: AnsatzConfig, system: SystemConfig) -> list[Tensor]:
    """The table [K, M, E] that `config.start` asks for, in float64: one part, or real and imaginary part."""
    electrons = sum(system.particles)
    if config.start == "random":
        shape = (config.determinants, 2 * system.sites, electrons)
        return [config.table_scale * torch.randn(shape, dtype=torch.float64) for _ in range(1 + config.complex)]
    if config.start == "free":
        orbitals_ME = free_orbitals(system)
    else:
        orbitals_ME = unrestricted_hartree_fock(system, config.start_U).orbitals_ME
    # A determinant of columns of length sqrt(M / E) neither vanishes nor overflows on large lattices.
    orbitals_ME = orbitals_ME * math.sqrt(2 * system.sites / electrons)
    parts = [orbitals_ME.real, orbitals_ME.imag] if config.complex else [orbitals_ME.real]
    return [torch.tensor(part).expand(config.determinants, -1, -1) for part in parts]


class Head(nn.Module):
    """Corrections to the occupied rows from the features of their sites, by one matrix for each spin.

    Without a bias, since the table holds one for every site.
    """

    def __init__(self, width: int, ansatz: Ansatz, scale: float) -> None:
        super().__init__()
        self.particles = [ansatz.n_up, ansatz.n_dn]
        columns = ansatz.determinants * ansatz.electrons
        self.up = linear(width, columns, ansatz.dtype, bias=False, scale=scale)
        self.dn = linear(width, columns, ansatz.dtype, bias=False, scale=scale)

    def forward(self, features_WED: Tensor) -> Tensor:
        """[W, E, K * E] from the features of the occupied rows' sites."""
        up, dn = features_WED.split(self.particles, dim=-2)
        return torch.cat([self.up(up), self.dn(dn)], dim=-2)


def linear(inputs: int, outputs: int, dtype: torch.dtype, *, bias: bool, scale: float = 1.0) -> nn.Linear:
    """A linear layer with weights from N(0, scale^2 / inputs) and a bias of 0."""
    layer = nn.Linear(inputs, outputs, bias=bias, dtype=dtype)
    nn.init.normal_(layer.weight, std=scale / math.sqrt(inputs))
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def site_states(occupied_WM: Tensor) -> Tensor:
    """state_WN: 0 empty, 1 spin up, 2 spin down, 3 both."""
    up_WN, dn_WN = occupied_WM.to(torch.int64).chunk(2, dim=-1)
    return up_WN + 2 * dn_WN


def at_sites(features_WND: Tensor, sites_WE: Tensor) -> Tensor:
    """features_WED of one site per electron."""
    return features_WND.gather(-2, sites_WE[..., None].expand(*sites_WE.shape, features_WND.shape[-1]))
