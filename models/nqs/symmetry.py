"""Projection of a state on a representation of the lattice's symmetries.

W walkers   M = 2N spin-orbitals   G elements of the group   g some of them
"""

import numpy as np
import torch
from torch import Tensor, nn

from models.nqs.determinants import log_sum
from models.nqs.hamiltonian import LogPsi
from models.nqs.symmetry_group import Projection

IMAGES_AT_ONCE = 8192  # configurations that the ansatz sees in one pass
COMPARISONS_AT_ONCE = 2**24  # entries of the matrices that count inversions


class Symmetrizer(nn.Module):
    """How the elements of a group act on configurations: U_g |n> = sign_g(n) |g n>."""

    inverse_GM: Tensor
    permutation_GM: Tensor
    odd_GM: Tensor
    vacuum_G: Tensor
    holes_G: Tensor
    character_G: Tensor

    def __init__(self, projection: Projection) -> None:
        super().__init__()
        elements = projection.elements
        permutation_GM = np.stack([element.permutation_M for element in elements])
        holes_G = np.array([element.swaps_holes for element in elements])
        negative_GM = np.stack([element.sign_M for element in elements]) < 0
        odd_GM = negative_GM ^ (holes_G[:, None] & (permutation_GM % 2 == 1))
        character_G = projection.character_G if projection.is_complex else projection.character_G.real.copy()
        buffers = {
            "inverse_GM": np.argsort(permutation_GM, axis=1),
            "permutation_GM": permutation_GM,
            "odd_GM": odd_GM,
            "vacuum_G": np.array([element.vacuum for element in elements], dtype=np.float64),
            "holes_G": holes_G,
            "character_G": character_G,
        }
        for name, value in buffers.items():
            self.register_buffer(name, torch.from_numpy(value), persistent=False)

    def images(self, occupied_WM: Tensor, some: slice = slice(None)) -> Tensor:
        """occupied_WGM: the configurations g n of some elements; bool."""
        moved_WGM = occupied_WM[:, self.inverse_GM[some]]
        return moved_WGM ^ self.holes_G[some][:, None]

    def signs(self, occupied_WM: Tensor, some: slice = slice(None)) -> Tensor:
        """sign_WG in U_g |n> = sign |g n>, +1 or -1, float64.

            sign = v (prod_j s_mj) (-1)^inversions                        m_1 < m_2 < ... the occupied orbitals of n
            sign = v (prod_j s_mj) (-1)^inversions (-1)^(sum_j p(m_j))    where g exchanges electrons and holes

        inversions = sum_{a<b} n_a n_b [p(a) > p(b)] sorts the images in ascending order. With holes the sorted
        c_q1 ... c_qk acts on the full state, from the right: c_q passes the q electrons below it.
        """
        permutation_gM = self.permutation_GM[some]
        occupied = occupied_WM.to(torch.float32)  # counts up to 2^24 are exact
        inverted_gMM = (permutation_gM[:, :, None] > permutation_gM[:, None, :]).triu(1).to(torch.float32)
        # sum_ab n_a inverted_gab n_b
        inversions_Wg = torch.einsum("wga,wa->wg", torch.einsum("gab,wb->wga", inverted_gMM, occupied), occupied)
        count_Wg = inversions_Wg + occupied @ self.odd_GM[some].to(torch.float32).T
        return self.vacuum_G[some] * (1 - 2 * (count_Wg % 2)).double()


class Projected(nn.Module):
    """The part of a state that has the characters of a projection.

        psi_sym(n) = (1/G) sum_g character_g sign_g(n) psi(g n)

    This is <n| (1/G) sum_g conj(character_g) U_g |psi>, summed over g^-1; the result is an eigenstate of every U_g with
    eigenvalue character_g (Nomura 2021, J. Phys. Condens. Matter 33, 174003, with the sign of fermions).
    """

    def __init__(self, ansatz: nn.Module, projection: Projection) -> None:
        super().__init__()
        self.ansatz = ansatz
        self.symmetrizer = Symmetrizer(projection)

    def forward(self, occupied_WM: Tensor) -> LogPsi:
        """(log |psi|, sign) of each walker; complex where a character or the ansatz is."""
        walkers, orbitals = occupied_WM.shape
        elements = len(self.symmetrizer.vacuum_G)
        at_once = max(1, min(IMAGES_AT_ONCE // walkers, COMPARISONS_AT_ONCE // (max(walkers, orbitals) * orbitals)))
        logs, factors = [], []
        for start in range(0, elements, at_once):
            some = slice(start, start + at_once)
            images_Wgm = self.symmetrizer.images(occupied_WM, some)
            log_C, sign_C = self.ansatz(images_Wgm.reshape(-1, orbitals))
            weight_Wg = self.symmetrizer.character_G[some] * self.symmetrizer.signs(occupied_WM, some) / elements
            logs.append(log_C.reshape(walkers, -1))
            factors.append(weight_Wg * sign_C.reshape(walkers, -1))
        return log_sum(torch.cat(logs, dim=1), torch.cat(factors, dim=1))
