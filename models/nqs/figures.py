"""The pictures of NQS's report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.common.report import Curve, Drawing, Figure, Level, Map, MapRow, Marks
from models.nqs.costs import AXES, PARTS, Cost, Size
from models.nqs.extrapolation import LineFit, infinite_size, scaling_exponent

if TYPE_CHECKING:
    from models.nqs.evaluate import Found

Array = NDArray[np.float64]

_WINDOW = 10  # steps that a curve of energies is averaged over
_LEAST_HOLES = 0.02  # per site: so many fill the colour scale, lest noise look like a pattern
_LEAST_DISTANCE = 1e-6  # what a logarithmic axis shows of a distance that noise has made negative


@dataclass(frozen=True)
class VariancePoints:
    """Energies of states on the way, with their variances and standard errors."""

    variances: Array
    energies: Array
    errors: Array

    @property
    def can_be_fitted(self) -> bool:
        return len(np.unique(self.variances)) > 2 and bool((self.errors > 0).all())


@dataclass(frozen=True)
class SizePoints:
    """Energies per site of several lattices, with their standard errors, and the power of 1 / length they go by."""

    lengths: Array
    energies: Array
    errors: Array
    power: float

    @property
    def fit(self) -> LineFit:
        return infinite_size(self.lengths, self.energies, self.errors, self.power)


def all_figures(found: Found) -> list[Drawing]:
    """In the order of the page: the energy, where it goes, what the state looks like, how it was made."""
    drawn: list[Drawing] = [energy_figure(found)]
    if found.extrapolated:
        drawn.append(variance_figure(found))
    if found.sizes:
        drawn.append(size_figure(found.sizes))
    drawn += [profile_map(found), structure_maps(found)]
    if "pairs_d" in found.observables:
        drawn.append(pair_figure(found))
    if "attention" in found.observables:
        drawn.append(attention_maps(found))
    drawn += [sampling_figure(found)]
    if found.optimizers:
        drawn += optimizer_figures(found)
    if found.costs:
        drawn += cost_figures(found.costs)
    return drawn


def energy_figure(found: Found) -> Figure:
    """Energy per site against step, averaged over a few steps, with what is known of the ground state."""
    sites = found.system.sites
    energies = smoothed(found.training.metrics["loss"] / sites)
    reference = found.known.reference
    levels = [Level(label=f"exact ({reference.source})", value=reference.energy / sites)] if reference else []
    others = [row for row in found.published if not row.exact]
    levels += [Level(label=row.method, value=row.energy_per_site, error=row.error / sites) for row in others[:3]]
    settled = energies[len(energies) // 5 :]
    lowest = min([settled.min(), *(level.value for level in levels)])
    highest = float(np.quantile(settled, 0.98))
    room = 0.1 * (highest - lowest) + 1e-9
    return Figure(
        title="Energy while training",
        x_label="step",
        y_label="energy per site, t",
        curves=(Curve(label="energy", x=tuple(found.training.steps), y=tuple(energies)),),
        levels=tuple(levels),
        y_range=(float(lowest - room), float(highest + room)),
        caption=f"Mean over {_WINDOW} steps.",
    )


def smoothed(values: Array) -> Array:
    """The mean of each value and those just before it."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    begins = np.maximum(0, ends - _WINDOW)
    return (sums[ends] - sums[begins]) / (ends - begins)


def variance_figure(found: Found) -> Figure:
    """Energy against variance, with the line to zero variance."""
    points, fit = found.points, found.extrapolated
    assert fit is not None
    ends = (0.0, float(points.variances.max()))
    reference = found.known.reference
    order = np.argsort(points.variances)
    energies, errors = points.energies[order], points.errors[order]
    return Figure(
        title="Extrapolation to zero variance",
        x_label="variance of the energy, t^2",
        y_label="energy, t",
        curves=(
            Curve(
                label="states on the way, and the last",
                x=tuple(points.variances[order]),
                y=tuple(energies),
                low=tuple(energies - errors),
                high=tuple(energies + errors),
                style="points",
            ),
            Curve(label="fit", x=ends, y=tuple(fit.at(end)[0] for end in ends), style="fit"),
        ),
        levels=(Level(label="exact", value=reference.energy),) if reference else (),
        caption=f"E = {fit.intercept:.5f} +- {fit.intercept_error:.5f} + {fit.slope:.4f} variance; chi^2 "
        f"{fit.chi_squared:.1f} for {fit.degrees_of_freedom} degrees of freedom.",
    )


def size_figure(points: SizePoints) -> Figure:
    """Energy per site against the inverse length, with the line to the infinite lattice."""
    fit, x = points.fit, points.lengths**-points.power
    order = np.argsort(x)
    ends = (0.0, float(x.max()))
    return Figure(
        title="Extrapolation to infinite size",
        x_label=f"1 / L^{points.power:g}",
        y_label="energy per site, t",
        curves=(
            Curve(
                label="states",
                x=tuple(x[order]),
                y=tuple(points.energies[order]),
                low=tuple((points.energies - points.errors)[order]),
                high=tuple((points.energies + points.errors)[order]),
                style="points",
            ),
            Curve(label="fit", x=ends, y=tuple(fit.at(end)[0] for end in ends), style="fit"),
        ),
        caption=f"E = {fit.intercept:.5f} +- {fit.intercept_error:.5f} + {fit.slope:.4f} / L^{points.power:g}; "
        f"chi^2 {fit.chi_squared:.1f} for {fit.degrees_of_freedom} degrees of freedom.",
    )


def profile_map(found: Found) -> Map:
    """Holes and staggered spins site by site, as the lattice lies: x to the right, y upwards."""
    shape = found.system.shape
    holes = 1.0 - found.observables["density"].sum(axis=0).reshape(shape)
    most = max(_LEAST_HOLES, float(np.abs(holes).max()))
    return Map(
        title="Holes and staggered spin",
        values=_as_rows(holes),
        unit="holes per site",
        x_label="x",
        y_label="y",
        scale="diverging",
        value_range=(-most, most),
        marks=Marks(label="staggered spin", values=_as_rows(found.observables["staggered_spin"].reshape(shape))),
        caption="Colour: 1 less the density of electrons. Arrows: (-1)^(x+y) S^z, the longest "
        f"{np.abs(found.observables['staggered_spin']).max():.3g}. A state of definite spin has none, but for noise.",
    )


def _as_rows(values_XY: Array) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(value) for value in row) for row in values_XY.T[::-1])


def structure_maps(found: Found) -> MapRow:
    """Structure factors of spin and charge over the momenta."""
    lengths = found.system.shape
    labels = [tuple(f"{2 * m / length:.3g}" for m in range(length)) for length in lengths]
    return MapRow(
        title="Structure factors",
        maps=tuple(
            Map(
                title=title,
                values=_as_rows(found.observables[name]),
                x_label="q_x / pi",
                y_label="q_y / pi",
                column_labels=labels[0],
                row_labels=labels[1][::-1],
            )
            for title, name in (("spin, S(q)", "spin_structure"), ("charge, N(q)", "charge_structure"))
        ),
        common_scale=False,
        caption="S(q) = |sum_j exp(-i q r_j) S^z_j|^2 / N, and N(q) of the density less its mean. "
        f"Largest standard errors: {found.observables['spin_structure_error'].max():.2g} and "
        f"{found.observables['charge_structure_error'].max():.2g}.",
    )


def pair_figure(found: Found) -> Figure:
    """Pair correlations along x."""
    curves = []
    for label, name in (("d-wave", "pairs_d"), ("extended s-wave", "pairs_s")):
        mean, error = found.observables[name][:, 0], found.observables[f"{name}_error"][:, 0]
        half = len(mean) // 2 + 1 if found.system.boundaries[0] != "open" else len(mean)
        along = slice(1, max(2, half)) if len(mean) > 1 else slice(0, 1)
        curves.append(
            Curve(
                label=label,
                x=tuple(float(x) for x in range(len(mean))[along]),
                y=tuple(mean[along]),
                low=tuple((mean - error)[along]),
                high=tuple((mean + error)[along]),
                style="points",
            )
        )
    return Figure(
        title="Pair correlations along x",
        x_label="distance, sites",
        y_label="P(r)",
        curves=tuple(curves),
        levels=(Level(label="none", value=0.0),),
        caption="<Delta+_i Delta_j> of singlet pairs on neighbouring sites, mean over all i.",
    )


def attention_maps(found: Found) -> MapRow:
    """Where each head looks, and how far."""
    maps_LHNN = found.observables["attention"]
    distance_NN = _distances(found)
    maps = []
    for layer, heads_HNN in enumerate(maps_LHNN, start=1):
        for head, map_NN in enumerate(heads_HNN, start=1):
            reach = float((map_NN * distance_NN).sum(axis=1).mean())
            maps.append(
                Map(
                    title=f"{layer}.{head}: {reach:.2f} sites",
                    values=tuple(tuple(float(value) for value in row) for row in map_NN),
                    unit="attention",
                    value_range=(0.0, float(maps_LHNN.max())),
                )
            )
    uniform = float(distance_NN.mean())
    return MapRow(
        title="Attention",
        maps=tuple(maps),
        columns=maps_LHNN.shape[1],
        caption="Layer.head: its range, the mean distance at which it looks; attention spread evenly has "
        f"{uniform:.2f} sites. Row: the site that looks; column: the site looked at, in the order x Ly + y; mean over "
        "walkers.",
    )


def _distances(found: Found) -> Array:
    """distance_NN along the lattice's bonds, around boundaries that are not open."""
    sites = np.arange(found.system.sites)
    total = np.zeros((len(sites), len(sites)))
    for place, length, boundary in zip(
        np.divmod(sites, found.system.shape[1]), found.system.shape, found.system.boundaries, strict=True
    ):
        apart = np.abs(place[:, None] - place)
        total += apart if boundary == "open" else np.minimum(apart, length - apart)
    return total


def sampling_figure(found: Found) -> Figure:
    """Acceptance, effective and different samples, against step."""
    steps, metrics = found.training.steps, found.training.metrics
    shown = (
        ("proposals accepted", "acceptance"),
        ("effective samples, share", "effective_share"),
        ("different samples, share", "different_share"),
    )
    numbers = found.numbers
    return Figure(
        title="Markov chains while training",
        x_label="step",
        y_label="share",
        curves=tuple(Curve(label=label, x=tuple(steps), y=tuple(smoothed(metrics[name]))) for label, name in shown),
        y_range=(0.0, 1.0),
        caption=f"At the end, over {numbers['samples']:,} samples: acceptance {numbers['acceptance']:.1%}, "
        f"autocorrelation time {numbers['autocorrelation_time']:.2f} sweeps, R-hat {numbers['r_hat']:.3f}.",
    )


def optimizer_figures(found: Found) -> list[Drawing]:
    """Energy above the reference against step and against seconds, mean and range over seeds."""
    reference = found.known.reference
    lowest = reference.energy if reference else min(min(run["energies"]) for run in found.optimizers)
    label = "above the exact energy" if reference else "above the lowest energy seen"
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for run in found.optimizers:
        by_kind.setdefault(run["optimizer"], []).append(run)
    stopped = [
        f"{run['optimizer']} with seed {run['seed']}: {run['stopped']}" for run in found.optimizers if run["stopped"]
    ]
    per_step, per_second = [], []
    for kind, runs in by_kind.items():
        length = min(len(run["energies"]) for run in runs)
        if not length:
            continue
        above = np.stack([smoothed(np.array(run["energies"][:length])) - lowest for run in runs]) / abs(lowest)
        above = np.maximum(above, _LEAST_DISTANCE)
        seconds = np.mean([run["seconds"][:length] for run in runs], axis=0)
        for curves, x in ((per_step, np.arange(1, length + 1)), (per_second, seconds)):
            curves.append(
                Curve(
                    label=kind,
                    x=tuple(float(value) for value in x),
                    y=tuple(np.exp(np.log(above).mean(axis=0))),
                    low=tuple(above.min(axis=0)),
                    high=tuple(above.max(axis=0)),
                )
            )
    seeds = max(len(runs) for runs in by_kind.values())
    caption = (
        f"Relative to |E|, mean over {_WINDOW} steps; line: geometric mean of {seeds} seeds, band: their range. "
        "A seed gives all optimizers the same weights and walkers to start with; none was tuned for itself but Adam's "
        "rate. " + " ".join(stopped)
    )
    return [
        Figure(
            title=f"Optimizers, by {by}", x_label=by, y_label=label, log_y=True, curves=tuple(curves), caption=caption
        )
        for by, curves in (("step", per_step), ("seconds", per_second))
    ]


def cost_figures(costs: Sequence[dict[str, Any]]) -> list[Drawing]:
    """Seconds of each part of a step against its size along each axis, with the exponent of the three largest."""
    measured = [Cost(size=Size(**cost["size"]), **{k: v for k, v in cost.items() if k != "size"}) for cost in costs]
    drawn: list[Drawing] = []
    for axis, theory in AXES.items():
        along = sorted((cost for cost in measured if cost.size.axis == axis), key=Cost.along)
        curves, said = [], []
        for part in PARTS:
            x, y = [cost.along() for cost in along], [cost.seconds[part] for cost in along]
            exponent, error = scaling_exponent(x[-3:], y[-3:])
            curves.append(Curve(label=part, x=tuple(x), y=tuple(y)))
            said.append(f"{part} {exponent:.2f} +- {error:.2f} (theory, largest sizes: {theory[part]:g})")
        drawn.append(
            Figure(
                title=f"Cost of a step against {axis}",
                x_label=axis,
                y_label="seconds",
                log_x=True,
                log_y=True,
                curves=tuple(curves),
                caption=f"Exponents of the three largest: {'; '.join(said)}. One worker; medians.",
            )
        )
    return drawn
