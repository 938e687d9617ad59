"""DeepSpeed's engine at every ZeRO stage against plain torch written out by hand."""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from infra import engine as engines
from infra.checkpoints import CheckpointStore
from infra.clusters import Cluster
from infra.engine import engine_factory
from models.common.contract import Engine, LearnerState
from models.common.errors import CheckpointError
from models.common.loop import Progress
from tests.fixtures.ranks import run_ranks

STEPS = 6
_ENGINES = ["torch", "zero-0", "zero-1", "zero-2", "zero-3"]


def _network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))


def _batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    inputs = torch.randn(12, 8, generator=generator)
    return inputs, inputs.prod(1, keepdim=True) * 40


def _engine(cluster: Cluster, kind: torch.dtype = torch.float32, **how: Any) -> Engine:
    make = engine_factory(cluster, torch.device("cpu"))
    return make(
        _network().to(kind), lambda parameters: torch.optim.AdamW(parameters, lr=0.01, fused=True), clip_norm=1.0, **how
    )


def _train(engine: Engine, steps: range, rank: int, size: int, pieces: int = 1) -> list[tuple[float, float]]:
    """(loss, gradient norm) of each step on this rank's rows of the batch, which may go in pieces."""
    seen = []
    for step in steps:
        mine = [part[rank * 12 // size : (rank + 1) * 12 // size].chunk(pieces) for part in _batch(step)]
        kind = next(engine.module.parameters()).dtype
        total = 0.0
        for place, (inputs, targets) in enumerate(zip(*mine, strict=True)):
            found = engine(inputs.to(kind))
            loss = (found.to(torch.promote_types(found.dtype, torch.float32)) - targets).square().mean() / pieces
            engine.backward(loss, last=place == pieces - 1)
            total += float(loss.detach())
        seen.append((total, engine.step()))
    return seen


def _reference(kind: torch.dtype = torch.float32) -> tuple[dict[str, Tensor], list[float], list[Tensor]]:
    """Weights after, gradient norms of, and AdamW's mean gradients after the same steps on the whole batch."""
    network: nn.Module = _network().to(kind)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    norms = []
    for step in range(STEPS):
        inputs, targets = _batch(step)
        optimizer.zero_grad()
        (network(inputs.to(kind)) - targets).square().mean().backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)))
        optimizer.step()
    weights = {name: value.detach().clone() for name, value in network.named_parameters()}
    return weights, norms, [optimizer.state[parameter]["exp_avg"] for parameter in network.parameters()]


def _all_engines(rank: int) -> dict[str, Any]:
    """Every engine on two ranks, in one pair of processes: starting DeepSpeed takes seconds."""
    shapes = {
        "torch": Cluster(name="t", workers=2, engine="torch"),
        **{f"zero-{stage}": Cluster(name="z", workers=2, zero_stage=stage) for stage in (0, 1, 2, 3)},
        "zero-2-bf16": Cluster(name="z", workers=2, zero_stage=2, precision="bf16"),
        "torch-bf16": Cluster(name="t", workers=2, engine="torch", precision="bf16"),
    }
    results = {}
    for name, cluster in shapes.items():
        engine = _engine(cluster)
        norms = [norm for _, norm in _train(engine, range(STEPS), rank, 2)]
        results[name] = engine.weights(), norms
    for name, cluster in shapes.items():
        engine = _engine(cluster, full_precision=True)
        before = engine.optimizer_state("exp_avg")
        _train(engine, range(STEPS), rank, 2)
        results[f"full {name}"] = engine.weights(), before, engine.optimizer_state("exp_avg")
    for name in _ENGINES:
        engine = _engine(shapes[name])
        norms = [norm for _, norm in _train(engine, range(STEPS), rank, 2, pieces=3)]
        results[f"pieces {name}"] = engine.weights(), norms
        results[f"frozen {name}"] = _half_frozen(shapes[name], rank)
        results[f"pair {name}"] = _side_by_side(shapes[name], rank)
    for name in ("torch", "zero-0", "zero-2-bf16"):
        engine = _engine(shapes[name], torch.float64)
        _train(engine, range(STEPS), rank, 2)
        results[f"float64 {name}"] = engine.weights(), engine.optimizer_state("exp_avg")
    results["state at zero-3"] = _state_at_zero_3(rank)
    return results


def _half_frozen(cluster: Cluster, rank: int) -> tuple[dict[str, Tensor], LearnerState]:
    """Weights and state of a training whose first layer stands still."""
    network = _network()
    network[0].requires_grad_(requires_grad=False)
    make = engine_factory(cluster, torch.device("cpu"))
    engine = make(network, lambda parameters: torch.optim.AdamW(parameters, lr=0.01), clip_norm=1.0)
    _train(engine, range(STEPS), rank, 2)
    return engine.weights(), engine.state_dict()


def _side_by_side(cluster: Cluster, rank: int) -> list[dict[str, Tensor]]:
    """The weights of two engines of one process that take turns."""
    engines = [_engine(cluster), _engine(cluster)]
    for step in range(STEPS):
        for engine in engines:
            _train(engine, range(step, step + 1), rank, 2)
    return [engine.weights() for engine in engines]


def _state_at_zero_3(rank: int) -> tuple[list[Tensor], list[Tensor]]:
    engine = _engine(Cluster(name="z", workers=2, zero_stage=3))
    before = engine.optimizer_state("exp_avg")
    _train(engine, range(STEPS), rank, 2)
    return before, engine.optimizer_state("exp_avg")


@pytest.fixture(scope="module")
def two_ranks() -> list[dict[str, Any]]:
    return run_ranks(_all_engines, 2)


@pytest.mark.parametrize("name", _ENGINES)
def test_two_ranks_train_as_one_process_does_on_the_whole_batch(two_ranks: list[Any], name: str) -> None:
    expected, norms, _ = _reference()
    for results in two_ranks:
        weights, found_norms = results[name]
        assert weights.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(weights[key], value, rtol=1e-4, atol=1e-5)
        assert found_norms == pytest.approx(norms, rel=1e-3)


@pytest.mark.parametrize("name", _ENGINES)
def test_a_batch_in_pieces_is_the_same_step(two_ranks: list[Any], name: str) -> None:
    expected, norms, _ = _reference()
    for results in two_ranks:
        weights, found_norms = results[f"pieces {name}"]
        for key, value in expected.items():
            torch.testing.assert_close(weights[key], value, rtol=1e-4, atol=1e-5)
        assert found_norms == pytest.approx(norms, rel=1e-3)


@pytest.mark.parametrize("name", _ENGINES)
def test_two_engines_take_turns_without_touching_each_other(two_ranks: list[Any], name: str) -> None:
    expected, _, _ = _reference()
    for results in two_ranks:
        for weights in results[f"pair {name}"]:
            for key, value in expected.items():
                torch.testing.assert_close(weights[key], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", _ENGINES)
def test_what_is_frozen_is_neither_moved_nor_saved(two_ranks: list[Any], name: str) -> None:
    network = _network()
    optimizer = torch.optim.AdamW(network[2].parameters(), lr=0.01)
    for step in range(STEPS):
        inputs, targets = _batch(step)
        optimizer.zero_grad()
        (network(inputs) - targets).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(network[2].parameters(), 1.0)
        optimizer.step()
    for results in two_ranks:
        weights, state = results[f"frozen {name}"]
        assert weights.keys() == {"2.weight", "2.bias"}
        for key, value in weights.items():
            torch.testing.assert_close(value, network.get_parameter(key).detach(), rtol=1e-4, atol=1e-5)
        assert set(state.shared.get("module", {})) <= {"2.weight", "2.bias"}


def test_bf16_trains_close_to_float32_and_publishes_float32(two_ranks: list[Any]) -> None:
    expected, _, _ = _reference()
    weights, _ = two_ranks[0]["zero-2-bf16"]
    for key, value in expected.items():
        assert weights[key].dtype == torch.float32
        torch.testing.assert_close(weights[key], value, rtol=0.1, atol=0.03)


_SHAPES = ["torch", "torch-bf16", "zero-0", "zero-1", "zero-2", "zero-2-bf16", "zero-3"]


@pytest.mark.parametrize("name", _SHAPES)
def test_full_precision_is_float32_with_whole_weights_on_any_cluster(two_ranks: list[Any], name: str) -> None:
    expected, _, state = _reference()
    for results in two_ranks:
        weights, before, after = results[f"full {name}"]
        for key, value in expected.items():
            torch.testing.assert_close(weights[key], value, rtol=1e-4, atol=1e-5)
        assert [tensor.abs().max() for tensor in before] == [0.0] * len(state)
        for found, mean_gradient in zip(after, state, strict=True):
            torch.testing.assert_close(found, mean_gradient, rtol=1e-3, atol=1e-5)


def test_zero_3_gathers_the_state_that_it_spreads(two_ranks: list[Any]) -> None:
    for results in two_ranks:
        before, after = results["state at zero-3"]
        for none, found, mean_gradient in zip(before, after, _reference()[2], strict=True):
            assert torch.equal(none, torch.zeros_like(mean_gradient))
            torch.testing.assert_close(found, mean_gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["torch", "zero-0", "zero-2-bf16"])
def test_a_float64_module_stays_so_and_its_gradients_are_averaged_so(two_ranks: list[Any], name: str) -> None:
    expected, _, state = _reference(torch.float64)
    for results in two_ranks:
        weights, after = results[f"float64 {name}"]
        for key, value in expected.items():
            assert weights[key].dtype == torch.float64
            torch.testing.assert_close(weights[key], value, rtol=0, atol=1e-12)
        for found, mean_gradient in zip(after, state, strict=True):
            torch.testing.assert_close(found, mean_gradient, rtol=1e-10, atol=1e-12)


_RESUMED: dict[str, dict[str, Any]] = {f"zero-{stage}": {"zero_stage": stage} for stage in (0, 1, 2, 3)} | {
    f"zero-{stage}-bf16": {"zero_stage": stage, "precision": "bf16"} for stage in (1, 2, 3)
}
_SPREAD = [name for name in _RESUMED if name != "zero-0"]


def _held(engine: Engine) -> dict[str, Any]:
    """What is learnt: float32 weights, and both of AdamW's means, as DeepSpeed itself gathers them."""
    means = {name: [each.clone() for each in engine.optimizer_state(name)] for name in ("exp_avg", "exp_avg_sq")}
    return {"weights": engine.weights(), **means}


def _interrupted(rank: int, folder: str) -> dict[str, Any]:
    """For each shape: what an unbroken training held half-way and at its end, and one that was saved and loaded."""
    results = {}
    for name, shape in _RESUMED.items():
        cluster = Cluster(name="z", workers=2, **shape)
        unbroken = _engine(cluster)
        _train(unbroken, range(3), rank, 2)
        store = _store(Path(folder) / name)
        store.save(Progress(3), unbroken.state_dict())
        saved = _held(unbroken)
        _train(unbroken, range(3, STEPS), rank, 2)
        resumed = _engine(cluster)
        found = store.newest()
        assert found is not None
        resumed.load_state_dict(found[1])
        loaded = _held(resumed)
        _train(resumed, range(found[0].step, STEPS), rank, 2)
        results[name] = saved, loaded, unbroken.weights(), resumed.weights()
    return results


def _store(folder: Path) -> CheckpointStore:
    return CheckpointStore(folder, identity="this", keep=2, warn=print)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    folder = tmp_path_factory.mktemp("interrupted")
    return folder, run_ranks(_interrupted, 2, str(folder))


@pytest.mark.parametrize("name", _RESUMED)
def test_a_resumed_engine_continues_bit_for_bit(interrupted: tuple[Path, list[Any]], name: str) -> None:
    for results in interrupted[1]:
        saved, loaded, unbroken, resumed = results[name]
        torch.testing.assert_close(loaded, saved, rtol=0, atol=0)
        torch.testing.assert_close(resumed, unbroken, rtol=0, atol=0)


def test_zero_0_resumes_from_two_workers_on_one(interrupted: tuple[Path, list[Any]]) -> None:
    found = _store(interrupted[0] / "zero-0").newest()
    assert found is not None
    engine = _engine(Cluster(name="one", workers=1, engine="torch"))
    engine.load_state_dict(found[1])
    _train(engine, range(3, STEPS), 0, 1)
    for name, value in _reference()[0].items():
        torch.testing.assert_close(engine.weights()[name], value, rtol=1e-4, atol=1e-5)


def _resumed_by_others(rank: int, folder: str, size: int) -> dict[str, Any]:
    """For each shape: what a group of another size holds after loading, and its weights at the end."""
    results = {}
    for name in _SPREAD:
        for elements in (None, 50):  # what a group of parameters of stage 3 may have on a rank before it is split
            if elements and not name.startswith("zero-3"):
                continue
            with pytest.MonkeyPatch.context() as patch:
                if elements:
                    patch.setattr(engines, "_deepspeed_config", partial(_in_small_groups, elements))
                engine = _engine(Cluster(name="z", workers=size, **_RESUMED[name]))
            found = _store(Path(folder) / name).newest()
            assert found is not None
            engine.load_state_dict(found[1])
            loaded = _held(engine)
            again = loaded
            if not elements:
                other = _engine(Cluster(name="z", workers=size, **_RESUMED[name]))
                other.load_state_dict(engine.state_dict())
                again = _held(other)
            _train(engine, range(3, STEPS), rank, size)
            results[name, elements] = loaded, again, engine.weights()
    return results


def _in_small_groups(elements: int, cluster: Cluster, clip_norm: float | None) -> dict[str, Any]:
    config = _DEEPSPEED_CONFIG(cluster, clip_norm)
    return config | {"zero_optimization": config["zero_optimization"] | {"sub_group_size": elements}}


_DEEPSPEED_CONFIG = engines._deepspeed_config


@pytest.mark.parametrize("size", [1, 3])
def test_what_zero_spread_over_two_workers_another_number_goes_on_with(
    interrupted: tuple[Path, list[Any]], tmp_path: Path, size: int
) -> None:
    folder = shutil.copytree(interrupted[0], tmp_path / "copy")
    for results in run_ranks(_resumed_by_others, size, str(folder), size):
        assert results.keys() > {(name, None) for name in _SPREAD}
        for (name, _), (loaded, again, at_end) in results.items():
            saved, _, unbroken, _ = interrupted[1][0][name]
            torch.testing.assert_close(loaded, saved, rtol=0, atol=0, msg=lambda text, name=name: f"{name}: {text}")
            torch.testing.assert_close(again, saved, rtol=0, atol=0)
            close = 2e-3 if name.endswith("bf16") else 1e-5  # sums in another order
            torch.testing.assert_close(at_end, unbroken, rtol=10 * close, atol=close)


def _refusals(rank: int, folder: str) -> dict[tuple[str, str], str]:
    """What each shape says of a checkpoint of each other one."""
    told = {}
    shapes = {"zero-0": {}, "zero-1": {"zero_stage": 1}, "zero-2-bf16": {"zero_stage": 2, "precision": "bf16"}}
    for name, shape in shapes.items():
        for other in _RESUMED:
            found = _store(Path(folder) / other).newest()
            assert found is not None
            try:
                _engine(Cluster(name="z", workers=2, **shape)).load_state_dict(found[1])
            except CheckpointError as refused:
                told[name, other] = str(refused)
    return told


def test_a_state_of_another_zero_stage_or_precision_is_refused(interrupted: tuple[Path, list[Any]]) -> None:
    for told in run_ranks(_refusals, 2, str(interrupted[0])):
        taken = {(a, b) for a in ("zero-0", "zero-1", "zero-2-bf16") for b in _RESUMED} - told.keys()
        assert taken == {(name, name) for name in ("zero-0", "zero-1", "zero-2-bf16")}
        assert "was spread by ZeRO 2 in fp32; here it is spread by ZeRO 2 in bf16" in told["zero-2-bf16", "zero-2"]
        assert "was whole on each worker; here it is spread by ZeRO 1 in fp32" in told["zero-1", "zero-0"]


def test_the_learning_rate_reaches_the_optimizer() -> None:
    engine = _engine(Cluster(name="one", workers=1, engine="torch"))
    before = engine.weights()
    engine.set_learning_rate(0.0)
    _train(engine, range(1), 0, 1)
    for name, value in engine.weights().items():
        assert torch.equal(value, before[name])


def test_an_engine_state_is_shared_unless_zero_spreads_it() -> None:
    state = _engine(Cluster(name="one", workers=1, engine="torch")).state_dict()
    assert isinstance(state, LearnerState)
    assert state.own == {}
    assert set(state.shared) == {"module", "optimizer"}
