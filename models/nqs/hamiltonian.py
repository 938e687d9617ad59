"""The Hubbard Hamiltonian in the occupation basis, and local energies.

    |n> = prod_{m occupied, ascending} c+_m |0>      (Jordan-Wigner order: all up sites, then all down sites)

W walkers   M = 2N spin-orbitals   E bonds   D = 4E directed hops of both spins   C connected configurations
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from models.nqs.lattice import bonds, fields
from models.nqs.system import SystemConfig

LogPsi: TypeAlias = tuple[Tensor, Tensor]  # log |psi| as float64 (-inf where psi = 0), sign as +-1 or complex phase
Psi: TypeAlias = Callable[[Tensor], LogPsi]


class Moves(NamedTuple):
    """The allowed hops of some walkers, walker by walker."""

    walker_C: Tensor  # int64: whose hop
    hop_C: Tensor  # int64: which of the D hops
    element_C: Tensor  # <n|H|n'>, Jordan-Wigner sign included


class Connected(NamedTuple):
    """The off-diagonal elements <n|H|n'> that are not zero: n the walker's configuration, n' the connected one."""

    walker_C: Tensor  # int64: the row of n
    occupied_CM: Tensor  # bool: n'
    element_C: Tensor  # float64 or complex128, Jordan-Wigner sign included


class Hubbard:
    """H = - sum_{(i,j), spin} (t_b c+_i c_j + h.c.) + U sum_i n_i,up n_i,down + sum_m field_m n_m.

    Hop d takes an electron of n from `from_D` to `to_D`, which makes n'; `element_D` is <n|H|n'> without the sign of
    Jordan and Wigner. For the bond (i, j) it is -t_b from i to j, and -conj(t_b) from j to i.
    """

    def __init__(self, system: SystemConfig, device: torch.device | str = "cpu") -> None:
        lattice = bonds(system)
        first_E, second_E = torch.from_numpy(lattice.pairs_E2).T
        hopping_E = torch.from_numpy(lattice.hopping_E)
        from_2E, to_2E = torch.cat([first_E, second_E]), torch.cat([second_E, first_E])
        element_2E = -torch.cat([hopping_E, hopping_E.conj()]).resolve_conj()
        self.system, self.sites, self.U = system, system.sites, system.U
        self.from_D = torch.cat([from_2E, from_2E + system.sites]).to(device)
        self.to_D = torch.cat([to_2E, to_2E + system.sites]).to(device)
        self.element_D = torch.cat([element_2E, element_2E]).to(device)
        self.field_M = torch.from_numpy(fields(system)).to(device)
        self.is_complex = system.is_complex

    def diagonal(self, occupied_WM: Tensor) -> Tensor:
        """energy_W = <n|H|n>: U for each doubly occupied site, and the field's energy; float64."""
        up, down = occupied_WM[:, : self.sites], occupied_WM[:, self.sites :]
        return self.U * (up & down).sum(dim=1).double() + occupied_WM.double() @ self.field_M

    def allowed(self, occupied_WM: Tensor) -> Tensor:
        """allowed_WD: whether the hop's start is occupied and its end is free; bool."""
        return occupied_WM[:, self.from_D] & ~occupied_WM[:, self.to_D]

    def moves(self, occupied_WM: Tensor) -> Moves:
        """Every allowed hop of every walker with its matrix element; small, as no configuration is written out.

        The sign is (-1)^(electrons strictly between the two spin-orbitals). Start and end have the same spin, so that
        only electrons of this spin are between them.
        """
        walker_C, hop_C = self.allowed(occupied_WM).nonzero(as_tuple=True)
        from_C, to_C = self.from_D[hop_C], self.to_D[hop_C]
        up_to_WM = occupied_WM.cumsum(dim=1, dtype=torch.int32)
        # The start is occupied and the end is free: the count up to the end, less the one up to the start, has the
        # start itself in it only when the electron goes down in index.
        between_C = up_to_WM[walker_C, to_C] - up_to_WM[walker_C, from_C] + (to_C < from_C)
        element_C = self.element_D[hop_C]
        return Moves(walker_C, hop_C, torch.where(between_C % 2 == 0, element_C, -element_C))

    def after(self, occupied_WM: Tensor, walker_C: Tensor, hop_C: Tensor) -> Tensor:
        """occupied_CM: what hop c makes of its walker's configuration; bool."""
        occupied_CM = occupied_WM[walker_C]
        occupied_CM.scatter_(1, self.from_D[hop_C, None], False)  # noqa: FBT003 the value to write
        occupied_CM.scatter_(1, self.to_D[hop_C, None], True)  # noqa: FBT003 the value to write
        return occupied_CM

    def connected(self, occupied_WM: Tensor) -> Connected:
        """All off-diagonal elements <n|H|n'> that are not zero, as one flat list in the order of walkers."""
        walker_C, hop_C, element_C = self.moves(occupied_WM)
        return Connected(walker_C, self.after(occupied_WM, walker_C, hop_C), element_C)


@torch.no_grad()
def local_energy(
    hubbard: Hubbard, psi: Psi, occupied_WM: Tensor, log_psi: LogPsi | None = None, chunk: int = 8192
) -> Tensor:
    """energy_W: the energy of each walker's configuration; its mean over |psi|^2 is the energy of psi.

        E(n) = sum_n' <n|H|n'> psi(n') / psi(n)      (Becca and Sorella 2017, chapter 5)

    float64, or complex128 where hoppings or psi are. `psi` sees at most `chunk` configurations at once; `log_psi` saves
    its evaluation at the walkers. A walker stands where psi is not zero, as a chain never goes elsewhere; one at
    psi(n) = 0 has no local energy, and gets an infinity or nan.
    """
    log_W, sign_W = psi(occupied_WM) if log_psi is None else log_psi
    moves = hubbard.moves(occupied_WM)
    dtype = torch.complex128 if hubbard.is_complex or sign_W.is_complex() else torch.float64
    energy_W = hubbard.diagonal(occupied_WM).to(dtype)
    for walker_C, hop_C, element_C in zip(*(part.split(chunk) for part in moves), strict=True):
        log_C, sign_C = psi(hubbard.after(occupied_WM, walker_C, hop_C))
        ratio_C = (log_C - log_W[walker_C]).exp() * sign_C * sign_W[walker_C].conj()
        energy_W.index_add_(0, walker_C, (element_C * ratio_C).to(dtype))
    return energy_W
