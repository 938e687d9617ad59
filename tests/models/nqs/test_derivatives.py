"""Derivatives of log psi against autograd one sample at a time and finite differences, in blocks of any size."""

from typing import Any

import pytest
import torch
from torch import Tensor

from models.common.errors import ConfigError
from models.nqs.derivatives import WeightedLogPsi, blocks, derivatives, is_complex, parts_of, width
from tests.models.nqs.tiny_backflow import TinyBackflow, samples

torch.set_num_threads(1)
LARGE = 10**9


def _all_columns(network: TinyBackflow, occupied: Tensor, memory_bytes: int, **how: Any) -> Tensor:
    parts = len(network.table)
    found = blocks(dict(network.named_parameters()), parts * len(occupied), memory_bytes)
    options = {"parts": parts, "samples_at_once": 4, "memory_bytes": memory_bytes, **how}
    return torch.cat([derivatives(network, block, occupied, **options) for block in found], dim=1)


def _one_by_one(network: TinyBackflow, occupied: Tensor) -> Tensor:
    """By plain backward passes, first of all log|psi|, then of all phases."""
    rows = []
    for part in range(len(network.table)):
        for sample in occupied:
            value = parts_of(network(sample[None]), len(network.table))[part, 0]
            gradients = torch.autograd.grad(value, list(network.parameters()))
            rows.append(torch.cat([gradient.reshape(-1) for gradient in gradients]))
    return torch.stack(rows)


@pytest.mark.parametrize("parts", [1, 2])
def test_derivatives_are_those_of_one_sample_at_a_time(parts: int) -> None:
    network, occupied = TinyBackflow(parts=parts), samples(7)
    assert is_complex(network, occupied) == (parts == 2)
    torch.testing.assert_close(
        _all_columns(network, occupied, LARGE), _one_by_one(network, occupied), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("parts", [1, 2])
def test_derivatives_are_those_of_finite_differences(parts: int) -> None:
    network, occupied = TinyBackflow(parts=parts), samples(5)
    found = _all_columns(network, occupied, LARGE)
    flat = torch.nn.utils.parameters_to_vector(network.parameters()).detach()

    def log_psi(theta: Tensor) -> Tensor:
        torch.nn.utils.vector_to_parameters(theta, network.parameters())
        with torch.no_grad():
            log_abs, sign = network(occupied)
        # A ratio of phases, since a phase on its own may jump by 2 pi.
        return torch.cat([log_abs, sign]) if parts == 2 else log_abs

    for column in range(0, len(flat), 11):
        change = torch.zeros_like(flat)
        change[column] = 1e-6
        above, below = log_psi(flat + change), log_psi(flat - change)
        count = len(occupied)
        expected = [(above[:count] - below[:count]).real / 2e-6]
        if parts == 2:
            expected.append((above[count:] / below[count:]).log().imag / 2e-6)
        torch.testing.assert_close(found[:, column], torch.cat(expected), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("memory_bytes", [24 * 90, 24 * 7 * 13, 24 * 7 * 60, 24 * 7 * 100])
def test_blocks_of_any_size_hold_the_same_derivatives(memory_bytes: int) -> None:
    network, occupied = TinyBackflow(), samples(7)
    whole, pieces = _all_columns(network, occupied, LARGE), _all_columns(network, occupied, memory_bytes)
    torch.testing.assert_close(pieces, whole, rtol=1e-13, atol=1e-13)


def test_blocks_cover_every_parameter_once_in_order_and_group_whole_tensors() -> None:
    parameters = {"a": torch.zeros(2, 3), "b": torch.zeros(4), "c": torch.zeros(25), "d": torch.zeros(1)}
    found = blocks(parameters, rows=10, memory_bytes=24 * 10 * 10)
    assert [[(c.name, c.start, c.stop) for c in block] for block in found] == [
        [("a", 0, 6), ("b", 0, 4)],
        [("c", 0, 10)],
        [("c", 10, 20)],
        [("c", 20, 25)],
        [("d", 0, 1)],
    ]
    assert [width(block) for block in found] == [10, 10, 10, 5, 1]


@pytest.mark.parametrize(("rows", "largest"), [(100, 25), (10, 25)])
def test_memory_that_does_not_hold_one_column_or_one_sample_is_refused(rows: int, largest: int) -> None:
    needed = 24 * max(rows, largest)
    with pytest.raises(ConfigError, match="try memory_gib="):
        blocks({"a": torch.zeros(largest)}, rows, needed - 1)
    assert blocks({"a": torch.zeros(largest)}, rows, needed)


@pytest.mark.parametrize("parts", [1, 2])
def test_the_weighted_sum_has_the_gradient_that_the_derivatives_give(parts: int) -> None:
    network, occupied = TinyBackflow(parts=parts), samples(7)
    coefficients = torch.randn(parts, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = _one_by_one(network, occupied).T @ coefficients.reshape(-1)
    for at_once in (2, 7, 100):
        gradients = torch.autograd.grad(
            WeightedLogPsi(network, at_once)(occupied, coefficients), list(network.parameters())
        )
        found = torch.cat([gradient.reshape(-1) for gradient in gradients])
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
