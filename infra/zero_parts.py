"""What DeepSpeed's ZeRO spread over one number of workers, cut anew for another.

Each rank's state has flat pieces of the float32 weights, and of what the optimizer keeps beside them (AdamW's means).
At stages 1 and 2 the parameters of a group lie one after the other in one flat tensor, of which the ranks have equal
pieces (ZeRO, arXiv 1910.02054, section 5); at stage 3 each parameter is cut for itself, and a rank's pieces of many
parameters lie one after the other. Both are padded with zeros at the end.
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

State = dict[str, Any]
Flats = list[Tensor]  # one for each group of parameters

_WEIGHTS = {1: "single_partition_of_fp32_groups", 2: "single_partition_of_fp32_groups", 3: "fp32_flat_groups"}
_OPTIMIZER = {1: "base_optimizer_state", 2: "base_optimizer_state", 3: "optimizer_state_dict"}


def for_rank(states: Sequence[State], optimizer: Any, *, zero_stage: int, rank: int, size: int) -> State:
    """The state that rank `rank` of `size` would have saved, from those that another number of ranks did save.

    states: what `optimizer.state_dict()` gave on each of these ranks, in their order.
    optimizer: DeepSpeed's, made for `size` ranks and the same module.
    """
    cut = _parameters_cut if zero_stage == 3 else _groups_cut
    weights, inner = _WEIGHTS[zero_stage], _OPTIMIZER[zero_stage]
    of_weights = cut([state[weights] for state in states], optimizer, rank, size)
    saved: list[dict[int, State]] = [state[inner]["state"] for state in states]
    kept: dict[int, State] = {group: {} for group in range(len(of_weights))} if saved[0] else {}
    for key, first in saved[0].get(0, {}).items():
        if torch.is_tensor(first) and first.dim():
            pieces = cut([[each[group][key] for group in sorted(each)] for each in saved], optimizer, rank, size)
        else:  # a count of steps, the same everywhere; each group adds to its own
            pieces = [copy.deepcopy(first) for _ in kept]
        for group, piece in enumerate(pieces):
            kept[group][key] = piece
    groups = [{**group, "params": []} for group in states[0][inner]["param_groups"]]
    for group, of in enumerate(getattr(optimizer, "sub_group_to_group_id", {}).values() or range(len(of_weights))):
        groups[of]["params"].append(group)
    return states[0] | {weights: of_weights, inner: {"state": kept, "param_groups": groups}}


def _groups_cut(flats: Sequence[Flats], optimizer: Any, rank: int, size: int) -> Flats:
    """Stages 1 and 2."""
    counts = [sum(parameter.numel() for parameter in group) for group in optimizer.bit16_groups]
    lengths = [flat.numel() for flat in optimizer.single_partition_of_fp32_groups]
    return [
        _piece([each[group] for each in flats], count, length, rank)
        for group, (count, length) in enumerate(zip(counts, lengths, strict=True))
    ]


def _parameters_cut(flats: Sequence[Flats], optimizer: Any, rank: int, size: int) -> Flats:
    """Stage 3."""
    counts = [parameter.ds_numel for group in optimizer.fp16_groups for parameter in group]
    of_ranks = [_in_turn(each, (-(-count // len(flats)) for count in counts)) for each in flats]
    return [
        torch.cat(
            [
                _piece([next(each) for each in of_ranks], parameter.ds_numel, -(-parameter.ds_numel // size), rank)
                for parameter in group
            ]
        )
        for group in optimizer.fp16_groups
    ]


def _piece(pieces: Flats, count: int, length: int, rank: int) -> Tensor:
    """Of `count` elements that lie in these pieces, those of this rank when each has `length`; zeros after the last."""
    begin, end = min(rank * length, count), min((rank + 1) * length, count)
    at, taken = 0, []
    for piece in pieces:
        taken.append(piece[max(0, begin - at) : max(0, end - at)])
        at += piece.numel()
    return torch.nn.functional.pad(torch.cat(taken), (0, length - (end - begin)))


def _in_turn(flats: Flats, lengths: Iterable[int]) -> Iterator[Tensor]:
    """Pieces of these lengths, one after the other; none reaches from one tensor into the next."""
    rest = iter(flats)
    flat, at = next(rest), 0
    for length in lengths:
        if at == flat.numel():
            flat, at = next(rest), 0
        yield flat[at : at + length]
        at += length
