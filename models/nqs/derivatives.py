"""Per-sample derivatives of log psi by the parameters, a block of columns at a time.

All of O is samples times parameters, gigabytes where the network is a few megabytes; what a natural gradient needs of
it is a sum over columns, so that only a block has to be there at once.
"""

# W walkers on this rank   M spin-orbitals   K parts of log psi: its real part, and its phase where psi is complex
# R rows: the parts one after the other, each with its walkers   C columns: parameters of a block

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.utils.checkpoint import checkpoint

from models.common.errors import ConfigError

# A block exists three times at most: as computed, as sent, as received. In float32 it is a fourth time in float64, and
# the four together are no larger.
_COPIES = 3
_BYTES = 8


@dataclass(frozen=True)
class Columns:
    """Some columns of one parameter, flattened."""

    name: str
    start: int
    stop: int


Block = list[Columns]


def blocks(parameters: Mapping[str, Tensor], rows: int, memory_bytes: int) -> list[Block]:
    """All parameters in order, grouped so that a block of so many rows, with its copies, fits the memory.

    Whole tensors are grouped; a tensor that does not fit is in several blocks of its own. Raises ConfigError where
    one column, or one sample's derivatives by one tensor, does not fit.
    """
    largest = max(rows, *(parameter.numel() for parameter in parameters.values()))
    if _COPIES * _BYTES * largest > memory_bytes:
        needed = _COPIES * _BYTES * largest
        raise ConfigError(
            f"derivatives: {memory_bytes} bytes do not hold {_COPIES} copies of {largest} numbers\n"
            f"try memory_gib={needed / 2**30:.2g} or more: each block costs a pass through the network"
        )
    most = memory_bytes // (_COPIES * _BYTES * rows)
    found: list[Block] = []
    room = 0
    for name, parameter in parameters.items():
        count = parameter.numel()
        if count > most:
            found += [[Columns(name, start, min(start + most, count))] for start in range(0, count, most)]
            room = 0
        else:
            if count > room:
                found.append([])
                room = most
            found[-1].append(Columns(name, 0, count))
            room -= count
    return found


def width(block: Block) -> int:
    """The number of columns."""
    return sum(columns.stop - columns.start for columns in block)


def is_complex(network: nn.Module, occupied_WM: Tensor) -> bool:
    """Whether the network's psi has a phase, and not only a sign, as its answer to the first walker shows."""
    with torch.no_grad():
        return network(occupied_WM[:1])[1].is_complex()


def parts_of(network_output: tuple[Tensor, Tensor], count: int) -> Tensor:
    """log|psi|, and the phase in radians where two parts are asked for, as [K, W]."""
    log_abs_W, sign_W = network_output
    return torch.stack([log_abs_W, torch.angle(sign_W)][:count])


def derivatives(
    network: nn.Module, block: Block, occupied_WM: Tensor, *, parts: int, samples_at_once: int, memory_bytes: int
) -> Tensor:
    """O_RC = d log|psi(n_R)| / d theta_C, and below it d phase(n_R) / d theta_C where there are two parts.

    In the network's precision. The network takes any number of walkers, and its operations have shapes that do not
    depend on which sites are occupied, as `torch.func.vmap` asks.
    """
    wanted = {columns.name for columns in block}
    chosen = {name: p.detach() for name, p in network.named_parameters() if name in wanted}
    rest = {name: p.detach() for name, p in network.named_parameters() if name not in wanted}

    def log_psi(chosen: dict[str, Tensor], occupied_M: Tensor, part: int) -> Tensor:
        output = functional_call(network, {**rest, **chosen}, (occupied_M[None],))
        return parts_of(output, parts)[part, 0]

    walkers = len(occupied_WM)
    any_of_them = next(iter(chosen.values()))
    O_RC = any_of_them.new_empty(parts * walkers, width(block))
    one_sample = _BYTES * sum(p.numel() for p in chosen.values())
    at_once = max(1, min(samples_at_once, memory_bytes // (_COPIES * one_sample)))
    per_sample = vmap(grad(log_psi), in_dims=(None, 0, None))
    for part in range(parts):
        for start in range(0, walkers, at_once):
            occupied_SM = occupied_WM[start : start + at_once]
            gradients = per_sample(chosen, occupied_SM, part)
            first = part * walkers + start
            _fill(O_RC[first : first + len(occupied_SM)], gradients, block)
    return O_RC


def _fill(rows_SC: Tensor, gradients: dict[str, Tensor], block: Block) -> None:
    """Puts the block's columns of these gradients, which have whole parameters, side by side."""
    place = 0
    for columns in block:
        flat = gradients[columns.name].flatten(1)[:, columns.start : columns.stop]
        rows_SC[:, place : place + flat.shape[1]] = flat
        place += flat.shape[1]


class WeightedLogPsi(nn.Module):
    """sum over walkers and parts of coefficient_KW * log psi_KW, whose gradient is O^T coefficient.

    Walkers go through a few at a time, and through again on the way back, so that the activations of all are never
    there at once.
    """

    def __init__(self, network: nn.Module, samples_at_once: int) -> None:
        super().__init__()
        self.network = network
        self.samples_at_once = samples_at_once

    def forward(self, occupied_WM: Tensor, coefficient_KW: Tensor) -> Tensor:
        at_once = self.samples_at_once
        if len(occupied_WM) <= at_once:
            return self._sum(occupied_WM, coefficient_KW)
        pieces = zip(occupied_WM.split(at_once), coefficient_KW.split(at_once, dim=1), strict=True)
        sums = [checkpoint(self._sum, *piece, use_reentrant=False, preserve_rng_state=False) for piece in pieces]
        return torch.stack(sums).sum()

    def _sum(self, occupied_WM: Tensor, coefficient_KW: Tensor) -> Tensor:
        log_psi_KW = parts_of(self.network(occupied_WM), len(coefficient_KW))
        return (coefficient_KW.to(log_psi_KW.dtype) * log_psi_KW).sum()
