"""Natural gradients against dense linear algebra in the space of parameters, written out here in numpy."""

import copy
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from models.common.errors import ConfigError, TrainingError
from models.nqs.natural_gradient import NaturalGradient, clip_energies, solve_samples, weighted_median
from models.nqs.natural_step import step_scale
from models.nqs.optimizer_config import OptimizerConfig
from tests.models.nqs.tiny_backflow import TinyBackflow, energies, samples, world_of

torch.set_num_threads(1)
# theta changes by d itself: a rate of 1, and a length that never binds.
UNSCALED = {"learning_rate": 1.0, "squared_length": 1e6, "warmup_steps": 0, "damping": 1e-2, "clip_factor": None}
Array: TypeAlias = Any  # of numpy


def _natural(config: OptimizerConfig, network: TinyBackflow | None = None, **how: Any) -> NaturalGradient:
    return NaturalGradient(config, network or TinyBackflow(), world_of(), **how)


def _theta(natural: NaturalGradient) -> Array:
    return torch.cat([p.detach().reshape(-1) for p in natural.network.parameters()]).numpy().copy()


def _dense(natural: NaturalGradient, occupied: Tensor, weights: Tensor, local: Tensor) -> tuple[Array, Array]:
    """Centred, weighted O and eps, from one backward pass for each sample, complex rows taken apart at the end."""
    rows = []
    for sample in occupied:
        log_abs, sign = natural.network(sample[None])
        parts = [log_abs[0], torch.angle(sign)[0]] if sign.is_complex() else [log_abs[0]]
        gradients = [torch.autograd.grad(p, list(natural.network.parameters()), retain_graph=True) for p in parts]
        real, *imaginary = [torch.cat([g.reshape(-1) for g in each]).numpy() for each in gradients]
        rows.append(real + 1j * imaginary[0] if imaginary else real)
    derivative: Array = np.array(rows)
    w, e = weights.numpy(), local.numpy()
    centred: Array = np.sqrt(w)[:, None] * (derivative - w @ derivative)
    residual: Array = -np.sqrt(w) * (e - w @ e)
    if np.iscomplexobj(rows[0]):
        return np.vstack([centred.real, centred.imag]), np.concatenate([residual.real, residual.imag])
    return centred, residual.real


def _change(natural: NaturalGradient, occupied: Tensor, weights: Tensor, local: Tensor, step: int = 1) -> Array:
    before = _theta(natural)
    natural.step(occupied, weights, local, step)
    return _theta(natural) - before


def _equal_weights(count: int) -> Tensor:
    return torch.full((count,), 1.0 / count, dtype=torch.float64)


def _some_weights(count: int) -> Tensor:
    weights = torch.linspace(0.2, 3.0, count, dtype=torch.float64)
    return weights / weights.sum()


def _close(found: Array, expected: Array, tolerance: float) -> None:
    assert np.linalg.norm(found - expected) <= tolerance * np.linalg.norm(expected)


@pytest.mark.parametrize("weights_of", [_equal_weights, _some_weights])
@pytest.mark.parametrize("parts", [1, 2])
def test_minsr_is_stochastic_reconfiguration(weights_of: Callable[[int], Tensor], parts: int) -> None:
    natural = _natural(OptimizerConfig(kind="minsr", **UNSCALED), TinyBackflow(parts=parts))
    occupied, weights = samples(13), weights_of(13)
    local = energies(occupied) + (0.3j * energies(occupied, step=2) if parts == 2 else 0)
    derivative, residual = _dense(natural, occupied, weights, local)
    metric = derivative.T @ derivative
    expected = np.linalg.solve(metric + 1e-2 * np.eye(len(metric)), derivative.T @ residual)
    _close(_change(natural, occupied, weights, local), expected, 1e-10)


@pytest.mark.parametrize("parts", [1, 2])
def test_spring_is_ridge_regression_towards_the_last_update(parts: int) -> None:
    natural = _natural(OptimizerConfig(kind="spring", momentum=0.8, **UNSCALED), TinyBackflow(parts=parts))
    last = np.zeros_like(_theta(natural))
    for step in range(1, 5):
        occupied, weights = samples(13, seed=step), _some_weights(13)
        local = energies(occupied, step=step)
        derivative, residual = _dense(natural, occupied, weights, local)
        # min |O d - eps|^2 + lambda |d - mu last|^2
        left = np.vstack([derivative, 0.1 * np.eye(len(last))])
        expected = np.linalg.lstsq(left, np.concatenate([residual, 0.1 * 0.8 * last]), rcond=None)[0]
        last = _change(natural, occupied, weights, local, step)
        _close(last, expected, 1e-9)


@pytest.mark.parametrize("parts", [1, 2])
def test_march_minimises_its_objective_in_the_metric_of_earlier_updates(parts: int) -> None:
    natural = _natural(
        OptimizerConfig(kind="march", momentum=0.8, metric_decay=0.9, **UNSCALED), TinyBackflow(parts=parts)
    )
    count = len(_theta(natural))
    last, variance = np.zeros(count), np.full(count, 1e-3)
    for step in range(1, 6):
        occupied, weights = samples(13, seed=step), _some_weights(13)
        local = energies(occupied, step=step)
        derivative, residual = _dense(natural, occupied, weights, local)
        # S17: min |O d - eps|^2 / lambda + |v^(1/4) (d - phi)|^2, with v normalised and the floor under the root of v
        variance = variance * np.sqrt(count) / np.linalg.norm(variance)
        stiffness = np.sqrt(np.sqrt(variance) + 1e-3)
        momentum = 0.8 * last
        left = np.vstack([derivative / 0.1, np.diag(stiffness)])
        expected = np.linalg.lstsq(left, np.concatenate([residual / 0.1, stiffness * momentum]), rcond=None)[0]
        last = _change(natural, occupied, weights, local, step)
        _close(last, expected, 1e-8)
        variance = 0.9 * variance + (last - momentum) ** 2


def _all_states_and_hamiltonian(parts: int) -> tuple[Tensor, Tensor]:
    occupied = samples(20, distinct=True)
    generator = torch.Generator().manual_seed(11)
    kind = torch.complex128 if parts == 2 else torch.float64
    matrix = torch.randn(20, 20, dtype=kind, generator=generator)
    return occupied, (matrix + matrix.mH) / 2


def _exact(network: TinyBackflow, occupied: Tensor, hamiltonian: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Energy, weights |psi|^2 and local energies, over all states."""
    log_abs, sign = network(occupied)
    psi = (sign * (log_abs - log_abs.detach().max()).exp()).to(hamiltonian.dtype)
    energy = (psi.conj() @ hamiltonian @ psi).real / (psi.conj() @ psi).real
    weights = psi.abs().square() / psi.abs().square().sum()
    return energy, weights.detach(), (hamiltonian @ psi / psi).detach()


@pytest.mark.parametrize("kind", ["minsr", "adam"])
@pytest.mark.parametrize("parts", [1, 2])
def test_the_gradient_is_that_of_the_energy_over_all_states(parts: int, kind: Any) -> None:
    network = TinyBackflow(parts=parts)
    occupied, hamiltonian = _all_states_and_hamiltonian(parts)
    energy, weights, local = _exact(network, occupied, hamiltonian)
    expected = torch.cat([g.reshape(-1) for g in torch.autograd.grad(energy, list(network.parameters()))]).numpy()
    natural = _natural(OptimizerConfig(kind=kind, clip_factor=None, warmup_steps=0, learning_rate=1e-3), network)
    before = _theta(natural)
    metrics = natural.step(occupied, weights, local, 1)
    assert 2 * metrics["gradient_norm"] == pytest.approx(np.linalg.norm(expected), rel=1e-10)
    if kind == "adam":  # its first step is the rate times the signs
        clear = abs(expected) > 1e-6
        np.testing.assert_allclose((_theta(natural) - before)[clear], -1e-3 * np.sign(expected[clear]), rtol=1e-2)


@pytest.mark.parametrize("kind", ["adam", "minsr", "spring", "march"])
def test_every_optimizer_finds_the_lowest_energy_of_a_small_matrix(kind: Any) -> None:
    network = TinyBackflow(hidden=20)
    occupied, hamiltonian = _all_states_and_hamiltonian(1)
    lowest = float(torch.linalg.eigvalsh(hamiltonian)[0])
    config = OptimizerConfig(
        kind=kind, clip_factor=None, warmup_steps=10, decay_start=60, decay_steps=20, learning_rate=0.05
    )
    natural = _natural(config, network)
    for step in range(1, 201):
        _, weights, local = _exact(network, occupied, hamiltonian)
        natural.step(occupied, weights, local, step)
    energy = float(_exact(network, occupied, hamiltonian)[0].detach())
    assert lowest - 1e-9 <= energy < lowest + 1e-5


@pytest.mark.parametrize("kind", ["spring", "march"])
def test_blocks_of_any_size_and_any_number_of_passes_give_the_same_update(kind: Any) -> None:
    config = OptimizerConfig(kind=kind)
    thetas = []
    for memory_bytes, at_once in ((10**9, 256), (24 * 91, 256), (24 * 12 * 17, 5)):
        natural = _natural(config, memory_bytes=memory_bytes, samples_at_once=at_once)
        for step in range(1, 4):
            occupied = samples(12, seed=step)
            natural.step(occupied, _some_weights(12), energies(occupied), step)
        thetas.append(_theta(natural))
    for theta in thetas[1:]:
        np.testing.assert_allclose(theta, thetas[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["adam", "minsr", "march"])
@pytest.mark.parametrize("parts", [1, 2])
def test_merged_samples_give_the_update_of_all_of_them(kind: Any, parts: int) -> None:
    config = OptimizerConfig(kind=kind, clip_factor=1.0)
    drawn = samples(60)
    merged, counts = drawn.unique(dim=0, return_counts=True)
    assert len(merged) < 20
    thetas = []
    for occupied, weights in ((drawn, _equal_weights(60)), (merged, counts / 60)):
        natural = _natural(config, TinyBackflow(parts=parts))
        for step in range(1, 4):
            metrics = natural.step(occupied, weights, energies(occupied, step=step), step)
            assert metrics["clipped"] > 0.1
        thetas.append(_theta(natural))
    np.testing.assert_allclose(thetas[1], thetas[0], rtol=0, atol=1e-10)


def test_a_resumed_optimizer_continues_bit_for_bit() -> None:
    for kind in ("adam", "minsr", "spring", "march"):
        unbroken, resumed = (_natural(OptimizerConfig(kind=kind)) for _ in range(2))
        for step in range(1, 7):
            if step == 4:
                resumed.load_state_dict(copy.deepcopy(unbroken.state_dict()))
            occupied = samples(12, seed=step)
            for natural in (unbroken, resumed) if step >= 4 else (unbroken,):
                natural.step(occupied, _equal_weights(12), energies(occupied), step)
        assert np.array_equal(_theta(unbroken), _theta(resumed)), kind


def test_metrics_are_those_of_the_dense_problem() -> None:
    config = OptimizerConfig(kind="minsr", clip_factor=None, warmup_steps=10, damping=0.05, squared_length=0.04)
    natural = _natural(config)
    occupied, weights = samples(9, distinct=True), _some_weights(9)
    derivative, residual = _dense(natural, occupied, weights, energies(occupied))
    update = derivative.T @ np.linalg.solve(derivative @ derivative.T + 0.05 * np.eye(9), residual)
    before = _theta(natural)
    metrics = natural.step(occupied, weights, energies(occupied), 3)
    assert metrics["step_norm"] == pytest.approx(0.2 * 0.3, rel=1e-12)
    assert np.linalg.norm(_theta(natural) - before) == pytest.approx(0.2 * 0.3, rel=1e-10)
    assert metrics["gradient_norm"] == pytest.approx(np.linalg.norm(derivative.T @ residual), rel=1e-10)
    left_over = np.linalg.norm(derivative @ update - residual) / np.linalg.norm(residual)
    assert metrics["residual"] == pytest.approx(left_over, rel=1e-8)
    assert metrics["clipped"] == 0.0
    assert set(natural.weights()) == {name for name, _ in natural.network.named_parameters()}


def test_the_samples_equations_are_solved_as_numpy_solves_them() -> None:
    random = np.random.default_rng(2)
    rows, null = random.normal(size=(8, 30)), np.full((8, 1), 8**-0.5)
    rows -= rows.mean(0)
    gram, overlap, residual = rows @ rows.T, random.normal(size=8), random.normal(size=8)
    matrix = gram + np.linalg.norm(gram) * null @ null.T + 0.01 * np.eye(8)
    x = np.linalg.solve(matrix, residual - overlap)
    tensor = torch.from_numpy
    found = solve_samples(tensor(gram.copy()), tensor(overlap), tensor(residual), tensor(null), 0.01)
    np.testing.assert_allclose(found.x_R.numpy(), x, rtol=1e-10)
    left_over = np.linalg.norm(residual - overlap - gram @ x) / np.linalg.norm(residual)
    assert found.residual == pytest.approx(left_over, rel=1e-8)
    assert found.condition >= np.linalg.cond(matrix)
    twice = np.kron(gram, np.ones((2, 2))) / 2
    again = torch.cat([torch.tensor(null)] * 2) / 2**0.5
    zeros = torch.zeros(16, dtype=torch.float64)
    expected = np.linalg.cond(twice + np.linalg.norm(twice) * np.ones((16, 16)) / 16 + 0.01 * np.eye(16))
    assert solve_samples(torch.tensor(twice), zeros, zeros, again, 0.01).condition == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("scale", "told"), [(-1.0, "not positive at row"), (float("nan"), "not finite")])
def test_equations_that_cannot_be_solved_say_why(scale: float, told: str) -> None:
    zeros = torch.zeros(4, dtype=torch.float64)
    with pytest.raises(TrainingError, match=told):
        solve_samples(scale * torch.eye(4, dtype=torch.float64), zeros, zeros, zeros[:, None], 1e-3)


def test_local_energies_that_are_not_finite_stop_the_training_unless_they_weigh_nothing() -> None:
    occupied, local, weights = samples(6), energies(samples(6)), _equal_weights(6)
    local[2] = float("inf")
    with pytest.raises(TrainingError, match="step 7: 1 of 6 local energies"):
        _natural(OptimizerConfig()).step(occupied, weights, local, 7)
    weights[2] = 0.0
    without = [0, 1, 3, 4, 5]
    found = _change(_natural(OptimizerConfig()), occupied, weights / weights.sum(), local)
    expected = _change(_natural(OptimizerConfig()), occupied[without], _equal_weights(5), local[without])
    _close(found, expected, 1e-10)


@pytest.mark.parametrize("count", [7, 8])
def test_energies_are_clipped_to_five_mean_deviations_of_the_median(count: int) -> None:
    random = np.random.default_rng(count)
    values = random.normal(size=count) + 1j * random.normal(size=count)
    values[0] += 100 - 300j

    def clipped(part: Array) -> Array:
        middle = np.median(part)
        reach = 1.5 * np.mean(abs(part - middle))
        return part.clip(middle - reach, middle + reach)

    weights = _equal_weights(count)
    found = clip_energies(torch.tensor(values), weights, 1.5).numpy()
    np.testing.assert_allclose(found, clipped(values.real) + 1j * clipped(values.imag), rtol=1e-12)
    assert abs(found[0]) < 100
    np.testing.assert_allclose(clip_energies(torch.tensor(values.real), weights, 1.5), clipped(values.real), rtol=1e-12)


def test_a_weighted_median_is_that_of_repeated_values() -> None:
    random = np.random.default_rng(4)
    for _ in range(50):
        values, counts = random.normal(size=6), random.integers(1, 5, size=6)
        repeated = np.repeat(values, counts)
        found = weighted_median(torch.tensor(values), torch.tensor(counts / counts.sum()))
        assert float(found) == pytest.approx(np.median(repeated), rel=1e-12)


def test_steps_warm_up_stay_and_get_smaller_as_the_paper_has_it() -> None:
    config = OptimizerConfig()
    assert config.kept_momentum == 0.95
    assert config.kept_metric == 0.995
    shares = {step: config.schedule(step) for step in (1, 25, 50, 8000, 16000, 24000)}
    assert shares == pytest.approx({1: 0.02, 25: 0.5, 50: 1.0, 8000: 1.0, 16000: 0.5, 24000: 1 / 3})
    assert OptimizerConfig(warmup_steps=0, decay_steps=None).schedule(10**8) == 1.0


def test_a_rate_is_taken_unless_the_step_would_be_too_long() -> None:
    assert step_scale(0.5, 0.2, None) == 0.4
    assert step_scale(0.5, 0.2, 0.1) == 0.1
    assert step_scale(50.0, 0.2, 0.1) == 0.2 / 50
    assert step_scale(0.0, 0.2, None) == 0.0


class _LargestTensor(TorchDispatchMode):
    """Remembers the largest tensor that any operation made."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.bytes = max([self.bytes, *(tensor.numel() * tensor.element_size() for tensor in made)])
        return result


def test_a_step_makes_no_tensor_larger_than_its_share_of_the_memory() -> None:
    natural = _natural(OptimizerConfig(), TinyBackflow(hidden=100), memory_bytes=100_000, samples_at_once=20)
    occupied = samples(60)
    assert 60 * len(_theta(natural)) * 8 > 1.2e6
    for step in (1, 2):
        with _LargestTensor() as seen:
            natural.step(occupied, _equal_weights(60), energies(occupied), step)
        assert 60 * 60 * 8 <= seen.bytes <= 100_000 / 3


@pytest.mark.parametrize(
    ("kind", "field"), [("minsr", "momentum"), ("adam", "metric_decay"), ("spring", "metric_decay")]
)
def test_a_field_that_the_optimizer_does_not_read_is_refused(kind: Any, field: str) -> None:
    with pytest.raises(ConfigError, match=f"{kind} has no {field}"):
        OptimizerConfig().but(**{"kind": kind, field: 0.5})
