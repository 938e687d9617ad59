"""What ranks tell each other, against the same matrices put together by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor

from infra import collectives
from tests.fixtures.ranks import run_ranks

ROWS = 2
WIDTHS = (7, 6, 2, 0)  # columns: more than three ranks share evenly, as many, fewer, and none
KINDS = (torch.float32, torch.float64, torch.complex128, torch.int64, torch.bool)


def _matrix(rank: int, columns: int, kind: torch.dtype) -> Tensor:
    values = torch.arange(ROWS * columns).view(ROWS, columns) * 10 + rank
    return (
        values % 3 == 0 if kind == torch.bool else (values * (1 + 2j)).to(kind) if kind.is_complex else values.to(kind)
    )


def _all_of_it(rank: int) -> dict[Any, Any]:
    return {
        "mean": collectives.mean(torch.tensor([rank, 1.0], requires_grad=True)),
        "sum": collectives.total(torch.tensor([[rank, 1.0], [2.0, 3.0]], dtype=torch.float64).T),
        "gather": {kind: collectives.gather(_matrix(rank, 4, kind)) for kind in KINDS},
        "vector": collectives.gather(torch.tensor([rank])),
        "exchange": {columns: collectives.exchange(_matrix(rank, columns, torch.float64)) for columns in WIDTHS},
        "transposed": collectives.exchange(_matrix(rank, 4, torch.float32).T),
    }


@pytest.mark.parametrize("size", [1, 3])
def test_sums_gathers_and_exchanges_are_those_of_the_whole(size: int) -> None:
    found = [_all_of_it(0)] if size == 1 else run_ranks(_all_of_it, size)
    for rank, results in enumerate(found):
        assert results["mean"].tolist() == [sum(range(size)) / size, 1.0]
        assert not results["mean"].requires_grad
        assert results["sum"].tolist() == [[sum(range(size)), 2.0 * size], [size, 3.0 * size]]
        assert results["vector"].tolist() == list(range(size))
        for kind, gathered in results["gather"].items():
            assert torch.equal(gathered, torch.cat([_matrix(each, 4, kind) for each in range(size)]))
        for columns, exchanged in results["exchange"].items():
            whole = torch.cat([_matrix(each, columns, torch.float64) for each in range(size)])
            assert torch.equal(exchanged, whole.tensor_split(size, dim=1)[rank])
        whole = torch.cat([_matrix(each, 4, torch.float32).T for each in range(size)])
        assert torch.equal(results["transposed"], whole.tensor_split(size, dim=1)[rank])
