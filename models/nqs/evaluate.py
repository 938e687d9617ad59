"""How good a trained state is: against exact and published energies, extrapolated, gated, and shown."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.common.contract import World
from models.common.report import Gate, Report, Table
from models.nqs import comparison, figures, measurement
from models.nqs.config import EvaluationConfig
from models.nqs.extrapolation import LineFit, v_score, zero_variance
from models.nqs.published import REFERENCE_STATES, PublishedEnergy, Reference, published, reference_energy
from models.nqs.system import SystemConfig

_SETTLED = 2 / 3  # of the training is left out of the extrapolation: there the state is far from any eigenstate
_POINTS = 8

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Known:
    """What is known of the system from elsewhere; `double_occupancy` per site, exact."""

    reference: Reference | None
    double_occupancy: float | None


def shards(config: EvaluationConfig) -> list[dict[str, Any]]:
    """One: the exact diagonalisation, where there is one."""
    return [{"kind": "reference"}]


def process(config: EvaluationConfig, shard: dict[str, Any], world: World) -> Known:
    """The exact ground state of the system, or what was published of it."""
    from models.nqs.exact import ground_observables
    from models.nqs.sector import Sector

    system = config.state.system
    diagonalised = Sector(system.sites, *system.particles).dimension <= REFERENCE_STATES
    return Known(reference_energy(system), ground_observables(system).double_occupancy if diagonalised else None)


@dataclass(frozen=True)
class Training:
    """The curves of the training: at these steps, each metric."""

    steps: Array
    metrics: dict[str, Array]

    @classmethod
    def read(cls, folder: Path) -> "Training":
        curves = json.loads((folder / "curves.json").read_text())
        return cls(np.array(curves["steps"], float), {name: np.array(v) for name, v in curves["metrics"].items()})


@dataclass(frozen=True)
class Found:
    """All that the report is made of."""

    system: SystemConfig
    numbers: dict[str, Any]  # of the measurement
    observables: dict[str, Array]
    training: Training
    known: Known
    published: list[PublishedEnergy]
    extrapolated: LineFit | None
    points: figures.VariancePoints
    sizes: figures.SizePoints | None
    optimizers: list[dict[str, Any]]
    costs: list[dict[str, Any]]


def collect(config: EvaluationConfig, parts: list[Any], inputs: Mapping[str, Path], folder: Path) -> None:
    """Brings the measurement, the training's curves and what is known together in a report."""
    (known,) = parts
    system = config.state.system
    numbers = json.loads((inputs["measurement"] / measurement.RESULT_FILE).read_text())
    with np.load(inputs["measurement"] / measurement.ARRAYS_FILE) as arrays:
        observables = dict(arrays)
    training = Training.read(inputs["state"])
    points = variance_points(training, numbers)
    found = Found(
        system=system,
        numbers=numbers,
        observables=observables,
        training=training,
        known=known,
        published=published(system),
        extrapolated=zero_variance(points.variances, points.energies, points.errors) if points.can_be_fitted else None,
        points=points,
        sizes=size_points(config, numbers, inputs),
        optimizers=_compared(inputs, comparison.CURVES_FILE),
        costs=_compared(inputs, comparison.COSTS_FILE),
    )
    make_report(config, found).write(folder)


def size_points(
    config: EvaluationConfig, numbers: Mapping[str, Any], inputs: Mapping[str, Path]
) -> figures.SizePoints | None:
    """Energies per site of this and the other lattices, against their lengths; None where there are no others."""
    others = [folder for name, folder in sorted(inputs.items()) if name.startswith("size_")]
    if not others:
        return None
    systems, energies = [config.state.system], [(numbers["energy"], numbers["energy_error"])]
    for folder in others:
        systems.append(SystemConfig.model_validate(json.loads((folder / "config.json").read_text())["system"]))
        metrics = json.loads((folder / "metrics.json").read_text())
        energies.append((metrics["energy"], metrics["energy_error"]))
    per_site = np.array(energies) / np.array([[system.sites] for system in systems])
    widths = {system.shape[1] for system in systems}
    lengths = np.array([system.shape[0] if len(widths) == 1 else system.sites**0.5 for system in systems], float)
    return figures.SizePoints(lengths, per_site[:, 0], per_site[:, 1], config.size_power)


def _compared(inputs: Mapping[str, Path], file: str) -> list[dict[str, Any]]:
    """What the comparison left in a file; nothing where there was no comparison."""
    return json.loads((inputs["comparison"] / file).read_text()) if "comparison" in inputs else []


def variance_points(training: Training, numbers: Mapping[str, Any]) -> figures.VariancePoints:
    """(variance, energy) of the settled part of the training in a few bins of steps, and of the measurement, last."""
    settled = training.steps > _SETTLED * training.steps[-1]
    bins = [part for part in np.array_split(np.flatnonzero(settled), _POINTS) if len(part)]
    energies = [float(training.metrics["loss"][part].mean()) for part in bins]
    variances = [float(training.metrics["variance"][part].mean()) for part in bins]
    # Steps share their walkers: so many of them count as one.
    together = max(1.0, numbers["autocorrelation_time"])
    errors = [
        float(np.sqrt((training.metrics["energy_error"][part] ** 2).mean() * together / len(part))) for part in bins
    ]
    return figures.VariancePoints(
        np.array([*variances, numbers["variance"]]),
        np.array([*energies, numbers["energy"]]),
        np.array([*errors, numbers["energy_error"]]),
    )


def relative_error(energy: float, exact: float) -> float:
    """|E - E_0| / |E_0|."""
    return abs(energy - exact) / abs(exact)


def make_report(config: EvaluationConfig, found: Found) -> Report:
    numbers, system, reference = found.numbers, found.system, found.known.reference
    energy, error = numbers["energy"], numbers["energy_error"]
    exact = reference.energy if reference else None
    distance = None if exact is None else relative_error(energy, exact)
    said = (
        f"{distance:.2g} of the exact {exact:.6f} away from it"
        if distance is not None and exact is not None
        else "no exact energy is known"
    )
    return Report(
        workload="nqs",
        title=f"NQS: {system.label}",
        summary=f"E = {energy:.6f} +- {error:.6f} t ({energy / system.sites:.6f} per site): {said}.",
        metrics={
            **numbers,
            "energy_per_site": energy / system.sites,
            "exact": exact,
            "relative_error": distance,
            "extrapolated_energy": found.extrapolated.intercept if found.extrapolated else None,
            "extrapolated_error": found.extrapolated.intercept_error if found.extrapolated else None,
            "infinite_size_energy_per_site": found.sizes.fit.intercept if found.sizes else None,
            "infinite_size_error_per_site": found.sizes.fit.intercept_error if found.sizes else None,
            "v_score": v_score(energy, numbers["variance"], system.particles, system.sites, system.U),
            "double_occupancy": float(found.observables["double_occupancy"]),
            "double_occupancy_error": float(found.observables["double_occupancy_error"]),
            "exact_double_occupancy": found.known.double_occupancy,
        },
        gates=tuple(_gates(config, found, exact, distance)),
        headline=_headline(found, exact, distance),
        figures=tuple(figures.all_figures(found)),
        tables=tuple(_tables(found)),
    )


def _gates(config: EvaluationConfig, found: Found, exact: float | None, distance: float | None) -> list[Gate]:
    numbers = found.numbers
    gates = [
        Gate(name="acceptance", value=numbers["acceptance"], at_least=config.least_acceptance),
        Gate(name="R-hat", value=numbers["r_hat"], at_most=config.most_r_hat),
    ]
    if exact is not None and distance is not None:
        assert found.known.reference is not None
        # An eigenstate has no error but rounding's.
        error = math.hypot(numbers["energy_error"], found.known.reference.error, 1e-9 * abs(exact))
        below = (exact - numbers["energy"]) / error
        gates += [
            Gate(name="relative error of the energy", value=distance, at_most=config.most_relative_error),
            Gate(name="standard errors below the exact energy", value=below, at_most=config.errors_below),
        ]
    return gates


def _headline(found: Found, exact: float | None, distance: float | None) -> Table:
    numbers, sites = found.numbers, found.system.sites
    rows = [_energy_row("this state", numbers["energy"], numbers["energy_error"], sites, exact)]
    if numbers["fixed_node_energy"] is not None:
        rows.append(
            _energy_row(
                "fixed-node projection", numbers["fixed_node_energy"], numbers["fixed_node_error"], sites, exact
            )
        )
    if found.extrapolated:
        fit = found.extrapolated
        rows.append(_energy_row("at zero variance", fit.intercept, fit.intercept_error, sites, exact))
    if exact is not None and found.known.reference:
        rows.append((f"exact ({found.known.reference.source})", f"{exact:.6f}", f"{exact / sites:.6f}", ""))
    return Table(
        title=f"Energy of {found.system.label}",
        columns=("", "total, t", "per site, t", "above exact"),
        rows=tuple(rows),
        caption=f"Variance {numbers['variance']:.3g} t^2 from {numbers['samples']:,} samples; acceptance "
        f"{numbers['acceptance']:.0%}, autocorrelation time {numbers['autocorrelation_time']:.2f} sweeps, R-hat "
        f"{numbers['r_hat']:.3f}. Errors are standard errors between walkers, autocorrelation included.",
    )


def _energy_row(name: str, energy: float, error: float, sites: int, exact: float | None) -> tuple[str, ...]:
    above = "" if exact is None else f"{(energy - exact) / abs(exact):.1e} +- {error / abs(exact):.0e}"
    return (name, f"{energy:.6f} +- {error:.6f}", f"{energy / sites:.6f}", above)


def _tables(found: Found) -> list[Table]:
    tables = [_observable_table(found)]
    if found.published:
        tables.append(
            Table(
                title="Published energies of this system",
                columns=("method", "per site, t", "total, t", "source"),
                rows=tuple(
                    (
                        row.method,
                        f"{row.energy_per_site:.5f}",
                        _with_error(row.energy, row.error),
                        f"{row.source}{', exact' if row.exact else ''}",
                    )
                    for row in found.published
                ),
            )
        )
    return tables


def _with_error(value: float, error: float) -> str:
    return f"{value:.6f} +- {error:.6f}" if error else f"{value:.6f}"


def _observable_table(found: Found) -> Table:
    double, error = (float(found.observables[name]) for name in ("double_occupancy", "double_occupancy_error"))
    exact = found.known.double_occupancy
    rows = [("double occupancy per site", _with_error(double, error), "" if exact is None else f"{exact:.6f}")]
    spin, charge = found.observables["spin_structure"], found.observables["charge_structure"]
    for name, values, errors in (
        ("largest spin structure factor", spin, found.observables["spin_structure_error"]),
        ("largest charge structure factor", charge, found.observables["charge_structure_error"]),
    ):
        at = np.unravel_index(int(values.argmax()), values.shape)
        where = ", ".join(f"{2 * int(m)}/{length}" for m, length in zip(at, values.shape, strict=True))
        rows.append((f"{name}, at q = pi ({where})", _with_error(float(values[at]), float(errors[at])), ""))
    return Table(title="Observables", columns=("", "this state", "exact"), rows=tuple(rows))
