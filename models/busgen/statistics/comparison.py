"""A set of generated images beside a set of real ones, with what two halves of the real ones make of each other."""

# N real images   M generated ones   F features   H half of the real ones

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from models.busgen.statistics.estimate import Array
from models.busgen.statistics.frechet import frechet_at_infinity, frechet_distance, two_sets
from models.busgen.statistics.kernel_distance import kernel_distance, kernel_distance_error
from models.busgen.statistics.manifold import overlap
from models.busgen.statistics_config import DistancesConfig
from models.common.errors import DataError

Rows = NDArray[np.int64]
Numbers = dict[str, float]


@dataclass(frozen=True)
class Measured:
    """A measure of generated against real images, and its floor, of real against real: each a mean and its spread.

    error, floor_error: the standard deviation over the random halves, which share images. So they tell what chance does
    at this number of images, and do not fall with more halves.
    """

    value: float
    error: float
    floor: float
    floor_error: float


@dataclass(frozen=True)
class Comparison:
    """What one extractor makes of two sets of images.

    measures: by name, such as "FD-classical", all of them on as many images a side, so that value and floor compare.
    kernel, kernel_error: of all images at once, by blocks. frechet_at_infinity: of all images, extrapolated.
    """

    extractor: str
    images_a_side: int
    measures: dict[str, Measured]
    kernel: float
    kernel_error: float
    frechet_at_infinity: float

    def flat(self) -> Numbers:
        """Everything by one name each, such as "FD-classical", "FD-classical_floor" and "KD-classical_all"."""
        found: Numbers = {"images_a_side": float(self.images_a_side)}
        for name, measured in self.measures.items():
            for part, value in asdict(measured).items():
                found[name if part == "value" else f"{name}_{part}"] = value
        found[f"KD-{self.extractor}_all"] = self.kernel
        found[f"KD-{self.extractor}_all_error"] = self.kernel_error
        found[f"FD-{self.extractor}_at_infinity"] = self.frechet_at_infinity
        return found


def compare(
    extractor: str,
    real_NF: np.ndarray,
    generated_MF: np.ndarray,
    config: DistancesConfig,
    rng: np.random.Generator,
    *,
    patients_N: Sequence[str] | None = None,
) -> Comparison:
    """The distances of the generated from the real, each beside its floor.

    The real images are halved at random, `repeats` times; one half is measured against the other, for the floor, and
    against as many generated ones. patients_N: of the real images; then a patient lies in one half only, as images of
    one patient are more alike than those of two, and the floor would be too low.
    """
    real_NF, generated_MF = two_sets(real_NF, generated_MF)
    if config.standardise:
        real_NF, generated_MF = standardised(real_NF, generated_MF)
    halves = [_halved(len(real_NF), patients_N, rng) for _ in range(config.repeats)]
    size = min(len(generated_MF), *(len(half) for pair in halves for half in pair))
    if size <= config.neighbours:
        raise DataError(
            f"{size} images a side, of {len(generated_MF)} generated and {len(real_NF)} halved real ones\n"
            f"fits: more than neighbours={config.neighbours}; take more images or fewer neighbours"
        )
    values, floors = [], []
    for one_H, other_H in halves:
        real = real_NF[one_H[:size]]
        floors.append(_distances(extractor, real, real_NF[other_H[:size]], config))
        values.append(_distances(extractor, real, rng.permutation(generated_MF)[:size], config))
    degree = config.kernel_degree
    return Comparison(
        extractor=extractor,
        images_a_side=size,
        measures={
            name: Measured(*_mean_and_spread(values, name), *_mean_and_spread(floors, name)) for name in values[0]
        },
        kernel=kernel_distance(real_NF, generated_MF, degree),
        kernel_error=kernel_distance_error(real_NF, generated_MF, degree, config.kernel_blocks, rng),
        frechet_at_infinity=frechet_at_infinity(real_NF, generated_MF, config.extrapolation_sizes, rng),
    )


def standardised(real_NF: Array, generated_MF: Array) -> tuple[Array, Array]:
    """Both with the mean of the real taken off, over their deviation; a feature that the real do not vary in stays."""
    mean_F, deviation_F = real_NF.mean(axis=0), real_NF.std(axis=0)
    size_F = np.abs(real_NF).max(axis=0)
    scale_F = np.where(deviation_F > 1e-9 * size_F, deviation_F, 1.0)
    return (real_NF - mean_F) / scale_F, (generated_MF - mean_F) / scale_F


def _distances(extractor: str, real_HF: Array, other_HF: Array, config: DistancesConfig) -> Numbers:
    shares = overlap(real_HF, other_HF, config.neighbours)
    return {
        f"FD-{extractor}": frechet_distance(real_HF, other_HF),
        f"KD-{extractor}": kernel_distance(real_HF, other_HF, config.kernel_degree),
        **{f"{name}-{extractor}": value for name, value in asdict(shares).items()},
    }


def _halved(count: int, patients_N: Sequence[str] | None, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """Row numbers of two random halves in random order; with patients, of half the images up to one patient's."""
    if patients_N is None:
        order = rng.permutation(count)
        return order[: count // 2], order[count // 2 :]
    if len(patients_N) != count:
        raise DataError(f"{count} real images of {len(patients_N)} patients\nfits: the patient's name for every image")
    patient_N = np.unique(np.asarray(patients_N), return_inverse=True)[1]
    place_N = rng.permutation(int(patient_N.max()) + 1)[patient_N]
    upto = np.cumsum(np.bincount(place_N))
    cut = int(np.abs(upto - count / 2).argmin())
    return rng.permutation(np.flatnonzero(place_N <= cut)), rng.permutation(np.flatnonzero(place_N > cut))


def _mean_and_spread(found: Sequence[Numbers], name: str) -> tuple[float, float]:
    values = [numbers[name] for numbers in found]
    return float(np.mean(values)), float(np.std(values, ddof=1))
