"""A psi small enough for dense linear algebra: the determinant of a table of orbitals that a small net corrects."""

import time

import torch
import torch.distributed as dist
from torch import Tensor, nn

from infra import collectives
from infra.clusters import Cluster
from infra.engine import engine_factory
from models.common.contract import World

SITES, ELECTRONS = 3, 3


class TinyBackflow(nn.Module):
    """log|psi| and sign of det(table[occupied] + net(occupied)[occupied]); with a phase where `parts` is 2."""

    def __init__(self, *, parts: int = 1, hidden: int = 5, seed: int = 3) -> None:
        super().__init__()
        torch.manual_seed(seed)
        kind = torch.float64
        self.table = nn.Parameter(torch.randn(parts, 2 * SITES, ELECTRONS, dtype=kind))
        self.inner = nn.Linear(2 * SITES, hidden, dtype=kind)
        self.outer = nn.Linear(hidden, parts * 2 * SITES * ELECTRONS, bias=False, dtype=kind)

    def forward(self, occupied_WM: Tensor) -> tuple[Tensor, Tensor]:
        kind = self.table.dtype
        change = self.outer(torch.tanh(self.inner(occupied_WM.to(kind))))
        parts = self.table + change.view(-1, *self.table.shape)
        orbitals = parts[:, 0] if len(self.table) == 1 else torch.complex(parts[:, 0], parts[:, 1])
        rows = occupied_WM.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :ELECTRONS]
        chosen = orbitals.gather(1, rows[:, :, None].expand(-1, -1, ELECTRONS))
        sign, log_abs = torch.linalg.slogdet(chosen)
        return log_abs, sign


def samples(count: int, *, seed: int = 5, distinct: bool = False) -> Tensor:
    """Configurations of three electrons on six spin-orbitals; there are 20 of them."""
    everything = [row for row in range(2 ** (2 * SITES)) if row.bit_count() == ELECTRONS]
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(everything), generator=generator)
    picked = order[:count] if distinct else torch.randint(len(everything), (count,), generator=generator)
    return torch.tensor([[everything[i] >> bit & 1 for bit in range(2 * SITES)] for i in picked.tolist()]).bool()


def energies(occupied_WM: Tensor, *, step: int = 0) -> Tensor:
    """Made-up local energies, the same for the same configuration."""
    scale = torch.linspace(-1.0, 2.0, occupied_WM.shape[1], dtype=torch.float64)
    return (3.0 * (occupied_WM.double() @ scale) + step).sin() + occupied_WM[:, 0].double()


def world_of(cluster: Cluster | None = None) -> World:
    """The world of this process, be it a rank of several or alone."""
    device = torch.device("cpu")
    alone = Cluster(name="one", workers=1, engine="torch")
    rank, size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    return World(
        rank=rank,
        size=size,
        device=device,
        seed=0,
        inputs={},
        start_from=None,
        fingerprints={},
        make_engine=engine_factory(cluster or alone, device),
        mean=collectives.mean,
        sum=collectives.total,
        gather=collectives.gather,
        exchange=collectives.exchange,
        clock=time.monotonic,
    )
