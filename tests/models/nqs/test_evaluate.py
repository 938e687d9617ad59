"""The report: numbers against closed forms, gates that refuse, pictures that hold what was measured."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models.common.errors import GateFailed
from models.common.report import Figure, MapRow, Report
from models.nqs import comparison, evaluate, measurement
from models.nqs.comparison import variant
from models.nqs.costs import Cost
from models.nqs.exact import ground_observables, ground_state
from models.nqs.presets import tiny
from models.nqs.start import make_state
from tests.models.nqs.tiny_backflow import world_of

QUICK = {
    "measurement.walkers": 32,
    "measurement.sweeps": 8,
    "comparison.seeds": 2,
    "comparison.steps": 12,
    "comparison.batch_size": 16,
    "comparison.cost_repeats": 1,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An untrained state, its measurement and a comparison, as the stages leave them; costs of the smallest sizes."""
    root, config = tmp_path_factory.mktemp("nqs"), tiny().with_overrides(QUICK)
    found = {name: root / name for name in ("state", "measurement", "comparison")}
    for folder in found.values():
        folder.mkdir()
    torch.manual_seed(1)
    weights = make_state(config.state).state_dict()
    save_file({name: value.contiguous() for name, value in weights.items()}, found["state"] / "weights.safetensors")
    steps = list(range(1, 61))
    metrics = {
        "loss": [-3.0 - 0.4 * (1 - 0.9**step) for step in steps],
        "variance": [0.9**step for step in steps],
        "energy_error": [0.01] * 60,
        **{name: [0.5] * 60 for name in ("acceptance", "effective_share", "different_share")},
    }
    (found["state"] / "curves.json").write_text(json.dumps({"steps": steps, "metrics": metrics}))
    world = replace(world_of(), inputs={"state": found["state"]}, seed=3)
    parts = [measurement.process(config.measure, shard, world) for shard in measurement.shards(config.measure)]
    measurement.collect(config.measure, parts, found["measurement"])
    shards = comparison.shards(config.compare)
    quick = [shard for shard in shards if shard["kind"] == "optimizer" or shard["size"]["lattice"] == "4x2"]
    assert len(shards) - len(quick) == 11, "four sizes along each of three axes, one of them 4x2"
    *compared, real = [comparison.process(config.compare, shard, world) for shard in quick]
    assert isinstance(real, Cost)
    assert all(seconds > 0 for seconds in real.seconds.values())
    for sites in (8, 16, 32):  # made-up costs, which grow as the square of whatever grows
        seconds = dict.fromkeys(real.seconds, 1e-6 * sites**2)
        for axis in ("sites", "walkers", "parameters"):
            size = replace(real.size, axis=axis, walkers=sites)
            compared.append(replace(real, size=size, sites=sites, parameters=sites, seconds=seconds))
    comparison.collect(config.compare, compared, found["comparison"])
    return found


def _report(folders: dict[str, Path], tmp_path: Path, **overrides: Any) -> Report:
    config = tiny().with_overrides({**QUICK, **overrides}).evaluation
    (shard,) = evaluate.shards(config)
    evaluate.collect(config, [evaluate.process(config, shard, world_of())], folders, tmp_path)
    return Report.read(tmp_path)


def test_the_metrics_are_those_of_the_measurement_beside_the_exact_energy(folders: dict[str, Path], tmp_path: Path):
    report = _report(folders, tmp_path)
    exact = ground_state(tiny().system).energy
    metrics = report.metrics
    assert metrics["exact"] == pytest.approx(exact, abs=1e-10)
    assert metrics["relative_error"] == pytest.approx(abs(metrics["energy"] - exact) / abs(exact))
    assert metrics["energy_per_site"] == pytest.approx(metrics["energy"] / 4)
    assert metrics["exact_double_occupancy"] == pytest.approx(ground_observables(tiny().system).double_occupancy)
    measured = json.loads((folders["measurement"] / measurement.RESULT_FILE).read_text())
    assert measured.items() <= metrics.items()


def test_a_state_that_is_not_trained_does_not_pass_the_gate(folders: dict[str, Path], tmp_path: Path):
    report = _report(folders, tmp_path, **{"gates.most_relative_error": 1e-9})
    with pytest.raises(GateFailed, match=r"relative error of the energy: .* above 1e-09"):
        report.require_gates()


def test_energies_on_a_line_are_extrapolated_to_its_end():
    steps = np.arange(1.0, 91.0)
    variances = 1.0 / steps
    training = evaluate.Training(
        steps, {"loss": -2.0 + 0.3 * variances, "variance": variances, "energy_error": np.full(90, 0.01)}
    )
    numbers = {"variance": 0.01, "energy": -2.0 + 0.003, "energy_error": 0.001, "autocorrelation_time": 1.0}
    points = evaluate.variance_points(training, numbers)
    fit = evaluate.zero_variance(points.variances, points.energies, points.errors)
    assert fit.intercept == pytest.approx(-2.0, abs=1e-6)
    assert fit.slope == pytest.approx(0.3, abs=1e-4)


def test_other_lattices_are_extrapolated_to_infinite_size(folders: dict[str, Path], tmp_path: Path):
    config, inputs = tiny().evaluation, dict(folders)
    numbers = {"energy": 4 * (-1.0 + 0.2 / 2), "energy_error": 0.01}  # 2x2: L = 2
    for place, length in enumerate((4, 6)):
        inputs[f"size_{place}"] = tmp_path / str(length)
        inputs[f"size_{place}"].mkdir()
        system = {**tiny().system.model_dump(), "lattice": f"{length}x2", "filling": f"{length // 2},{length // 2}"}
        (inputs[f"size_{place}"] / "config.json").write_text(json.dumps({"system": system}))
        energy = {"energy": 2 * length * (-1.0 + 0.2 / length), "energy_error": 0.01}
        (inputs[f"size_{place}"] / "metrics.json").write_text(json.dumps(energy))
    points = evaluate.size_points(config, numbers, inputs)
    assert points is not None
    assert points.fit.intercept == pytest.approx(-1.0)
    assert points.fit.slope == pytest.approx(0.2)
    assert evaluate.size_points(config, numbers, folders) is None


def test_the_pictures_hold_what_was_measured(folders: dict[str, Path], tmp_path: Path):
    report = _report(folders, tmp_path)
    drawn = {figure.title: figure for figure in report.figures}
    factors = drawn["Structure factors"]
    assert isinstance(factors, MapRow)
    with np.load(folders["measurement"] / measurement.ARRAYS_FILE) as arrays:
        spin, charge, attention = (arrays[name] for name in ("spin_structure", "charge_structure", "attention"))
        density = arrays["density"]
    assert np.allclose(np.array(factors.maps[0].values, float), spin.T[::-1])
    # sum_q S(q) = sum_j (S^z_j)^2: a quarter for each singly occupied site
    double = report.metrics["double_occupancy"]
    assert spin.sum() == pytest.approx((density.sum() - 2 * 4 * double) / 4, rel=1e-6)
    assert charge[0, 0] == pytest.approx(0.0, abs=1e-12), "the number of electrons does not fluctuate"
    assert np.allclose(attention.sum(axis=-1), 1.0)
    optimizers = drawn["Optimizers, by step"]
    assert isinstance(optimizers, Figure)
    assert [curve.label for curve in optimizers.curves] == ["adam", "minsr", "spring", "march"]
    cost = drawn["Cost of a step against sites"]
    assert isinstance(cost, Figure)
    assert "proposals 2.00 +- 0.00" in cost.caption


def test_an_optimizer_of_another_kind_keeps_what_both_have():
    config = tiny().compare
    for kind in config.optimizers:
        other = variant(config, kind)
        assert other.kind == kind
        assert (other.damping, other.warmup_steps) == (config.training.optimizer.damping, 10)
    assert variant(config, "adam").learning_rate == config.adam_learning_rate
