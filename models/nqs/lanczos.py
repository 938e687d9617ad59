"""The lowest eigenpair of a Hermitian operator that is only known by its product with a vector.

D components   V vectors of the Krylov basis   K eigenvectors found before
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from models.common.errors import TrainingError

MOST_PRODUCTS = 5000
BLOCK = 1 << 20  # components that a restart rotates at once


@dataclass(frozen=True)
class Eigenpair:
    """An eigenvalue, its vector of norm 1, the norm of H v - value v, and how many products it took."""

    value: float
    vector_D: Tensor
    residual: float
    products: int


def lowest_eigenpair(
    apply: Callable[[Tensor], Tensor], start_D: Tensor, found: list[Tensor], vectors: int, tolerance: float
) -> Eigenpair:
    """The lowest eigenpair orthogonal to those `found`, by thick-restart Lanczos (Wu and Simon, SIMAX 22, 602 (2000)).

    A basis of `vectors` (4 or more) is filled by repeated products, then shrunk to its lowest third, and filled again.
    Every new vector is made orthogonal to all others twice, so that no eigenvalue is found a second time by rounding.
    Ends when the residual's norm is below `tolerance` times the eigenvalue or 1; raises TrainingError when
    5000 products were not enough.
    """
    basis_VD = start_D.new_empty(vectors, len(start_D))
    projected_VV = start_D.new_zeros(vectors, vectors)
    found_KD = torch.stack(found) if found else start_D.new_empty(0, len(start_D))
    filled, residual = 0, float("inf")
    following_D, _ = _orthogonal(start_D, found_KD)
    for product in range(1, MOST_PRODUCTS + 1):
        basis_VD[filled] = following_D / following_D.norm()
        filled += 1
        following_D, _ = _orthogonal(apply(basis_VD[filled - 1]), found_KD)
        following_D, projected_V = _orthogonal(following_D, basis_VD[:filled])
        projected_VV[:filled, filled - 1], projected_VV[filled - 1, :filled] = projected_V, projected_V.conj()
        values_V, mixing_VV = torch.linalg.eigh(projected_VV[:filled, :filled])
        value = float(values_V[0])
        residual = float(following_D.norm() * mixing_VV[-1, 0].abs())
        if residual <= tolerance * max(1.0, abs(value)):
            return Eigenpair(value, mixing_VV[:, 0] @ basis_VD[:filled], residual, product)
        if filled == vectors:
            filled = max(1, vectors // 3)
            _rotate(basis_VD, mixing_VV[:, :filled])
            projected_VV.zero_()[:filled, :filled] = values_V[:filled].diag()
    raise TrainingError(
        f"the lowest eigenvalue is not converged after {MOST_PRODUCTS} products: residual {residual:.1e}\n"
        "the levels lie close together; try: a smaller lattice, or a pinning field that splits them"
    )


def _orthogonal(vector_D: Tensor, basis_VD: Tensor) -> tuple[Tensor, Tensor]:
    """The part of a vector orthogonal to the basis, and its components along the basis; `vector_D` is overwritten."""
    components_V = vector_D.new_zeros(len(basis_VD))
    for _ in range(2):
        correction_V = (basis_VD @ vector_D.conj()).conj().resolve_conj()
        vector_D.addmv_(basis_VD.T, correction_V, alpha=-1)
        components_V += correction_V
    return vector_D, components_V


def _rotate(basis_VD: Tensor, mixing_VK: Tensor) -> None:
    """The first K vectors become the mixtures of all; in blocks, as there is no memory for a second basis."""
    for begin in range(0, basis_VD.shape[1], BLOCK):
        block = basis_VD[:, begin : begin + BLOCK]
        block[: mixing_VK.shape[1]] = mixing_VK.T @ block
