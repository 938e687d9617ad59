"""What ranks tell each other: the sums, gathers and exchanges of a `World`, over gloo or nccl.

Each returns a detached tensor and is the identity where there is one rank.
"""

import torch
import torch.distributed as dist
from torch import Tensor


def mean(value: Tensor) -> Tensor:
    """The mean over ranks, the same on each."""
    return total(value) / _size() if _size() > 1 else value.detach()


def total(value: Tensor) -> Tensor:
    """The sum over ranks, the same on each."""
    if _size() == 1:
        return value.detach()
    copy = value.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(copy)
    return copy


def gather(rows: Tensor) -> Tensor:
    """The rows of all ranks along dimension 0, in the order of ranks; every rank gives equally many."""
    if _size() == 1:
        return rows.detach()
    # Bytes travel, since not every backend carries booleans.
    sent = rows.detach().contiguous().reshape(-1).view(torch.uint8)
    received = [torch.empty_like(sent) for _ in range(_size())]
    dist.all_gather(received, sent)
    return torch.cat(received).view(rows.dtype).reshape(-1, *rows.shape[1:])


def exchange(block: Tensor) -> Tensor:
    """From this rank's rows of all columns to all ranks' rows of this rank's columns.

    Rows come in the order of ranks, equally many from each. Columns are split as `torch.tensor_split` does: their
    numbers differ by one at most, and rank r has the r-th part.
    """
    if _size() == 1:
        return block.detach()
    parts = block.detach().tensor_split(_size(), dim=1)
    rows, columns = len(block), parts[dist.get_rank()].shape[1]
    sent = torch.cat([part.reshape(-1) for part in parts])
    received = sent.new_empty(_size() * rows * columns)
    dist.all_to_all_single(received, sent, [rows * columns] * _size(), [part.numel() for part in parts])
    return received.view(_size() * rows, columns)


def _size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1
