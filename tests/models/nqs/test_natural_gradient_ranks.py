"""The same updates on one, two and four ranks, by plain torch and by DeepSpeed, and resumed half-way."""

import io
from typing import Any, TypeAlias

import pytest
import torch
from torch import Tensor

from infra.clusters import Cluster
from models.nqs.natural_gradient import NaturalGradient
from models.nqs.optimizer_config import OptimizerConfig
from tests.fixtures.ranks import run_ranks
from tests.models.nqs.tiny_backflow import TinyBackflow, energies, samples, world_of

torch.set_num_threads(1)
STEPS = 5
SHAPES = {
    "torch": Cluster(name="t", workers=1, engine="torch"),
    "zero-0": Cluster(name="z", workers=1, zero_stage=0),
    "zero-1": Cluster(name="z", workers=1, zero_stage=1, precision="bf16"),
    "zero-3": Cluster(name="z", workers=1, zero_stage=3),
}
Case: TypeAlias = tuple[str, Any, torch.dtype, int]  # cluster, optimizer, precision, parts of log psi
KINDS: tuple[Any, ...] = ("adam", "minsr", "spring", "march")


def _natural(shape: str, kind: Any, dtype: torch.dtype, parts: int = 1) -> NaturalGradient:
    # 85 numbers in all: neither two nor four ranks get equally many columns of a block.
    network = TinyBackflow(parts=parts).to(dtype)
    config = OptimizerConfig(kind=kind, warmup_steps=3, damping=1e-2)
    return NaturalGradient(config, network, world_of(SHAPES[shape]), samples_at_once=4, memory_bytes=24 * 18 * 24)


def _train(natural: NaturalGradient, steps: range) -> list[dict[str, float]]:
    """Steps on this rank's share of sixteen samples; ranks merge duplicates, and so have different numbers of rows."""
    rank, size = natural.world.rank, natural.world.size
    seen = []
    for step in steps:
        share = samples(16, seed=step)[rank * 16 // size : (rank + 1) * 16 // size]
        occupied, counts = share.unique(dim=0, return_counts=True)
        seen.append(natural.step(occupied, counts.double() / 16, energies(occupied, step=step), step))
    return seen


def _trained(rank: int, cases: list[Case]) -> dict[Case, tuple[dict[str, Tensor], dict[str, float]]]:
    results = {}
    for case in cases:
        natural = _natural(*case)
        metrics = _train(natural, range(1, STEPS + 1))
        results[case] = natural.weights(), metrics[-1]
    return results


def _trained_and_resumed(rank: int, cases: list[Case], resumed: list[Case]) -> tuple[Any, Any]:
    """What `_trained` returns, and the weights of trainings that went through their saved state half-way."""
    again = {}
    for case in resumed:
        first, second = _natural(*case), _natural(*case)
        _train(first, range(1, 4))
        saved = io.BytesIO()
        torch.save(first.state_dict(), saved)
        second.load_state_dict(torch.load(io.BytesIO(saved.getvalue()), weights_only=False))
        _train(second, range(4, STEPS + 1))
        again[case] = second.weights()
    return _trained(rank, cases), again


EXACT: list[Case] = [
    *((shape, kind, torch.float64, 1) for shape in ("torch", "zero-0") for kind in KINDS),
    *((shape, "march", torch.float64, 2) for shape in ("torch", "zero-0")),
    ("zero-1", "march", torch.float64, 1),  # runs at ZeRO 0
]
FOUR: list[Case] = [
    *(("torch", kind, torch.float64, 1) for kind in KINDS),
    *(("zero-0", "march", torch.float64, parts) for parts in (1, 2)),
]
CLOSE: list[Case] = [
    *(("zero-1", kind, torch.float32, 1) for kind in KINDS),
    ("torch", "march", torch.float32, 1),
    ("zero-3", "march", torch.float32, 1),  # runs at ZeRO 2
]
RESUMED: list[Case] = [
    *((shape, "march", torch.float64, 1) for shape in ("torch", "zero-0")),
    *(("zero-1", kind, torch.float32, 1) for kind in KINDS),
    ("zero-3", "march", torch.float32, 1),
]


@pytest.fixture(scope="module")
def one_process() -> dict[Case, Any]:
    """By plain torch alone, in float64."""
    return _trained(0, [("torch", kind, torch.float64, parts) for kind in KINDS for parts in (1, 2)])


@pytest.fixture(scope="module")
def two_ranks() -> list[Any]:
    return run_ranks(_trained_and_resumed, 2, EXACT + CLOSE, RESUMED)


def _require_alike(results: dict[Case, Any], one_process: dict[Case, Any]) -> None:
    for (shape, kind, dtype, parts), (weights, metrics) in results.items():
        expected, expected_metrics = one_process["torch", kind, torch.float64, parts]
        tolerance = 1e-10 if dtype == torch.float64 else 1e-4
        assert weights.keys() == expected.keys()
        for name, value in expected.items():
            assert weights[name].dtype == dtype
            distance = (weights[name].double() - value).abs().max()
            assert distance < tolerance, (shape, kind, dtype, name, distance)
        assert metrics == pytest.approx(expected_metrics, rel=10 * tolerance), (shape, kind)


def test_two_ranks_move_the_weights_as_one_process_does(two_ranks: list[Any], one_process: Any) -> None:
    for results, _ in two_ranks:
        _require_alike(results, one_process)


def test_four_ranks_move_the_weights_as_one_process_does(one_process: Any) -> None:
    for results in run_ranks(_trained, 4, FOUR):
        _require_alike(results, one_process)


def test_a_resumed_training_continues_bit_for_bit(two_ranks: list[Any]) -> None:
    for unbroken, resumed in two_ranks:
        for case, weights in resumed.items():
            for name, value in unbroken[case][0].items():
                assert torch.equal(value, weights[name]), (case, name)
