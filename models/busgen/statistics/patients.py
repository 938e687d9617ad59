"""Statistics over patients, as images of one patient are no independent cases."""

# N images   P patients   R resamples

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.busgen.statistics.estimate import Array, Estimate, Flags, two_classes
from models.common.errors import DataError

Statistic = Callable[[NDArray[np.int64]], float]  # of the rows given, some of them several times


def one_score_a_patient(
    scores_N: ArrayLike, positive_N: ArrayLike, patients_N: Sequence[str], how: Literal["mean", "max"]
) -> tuple[Array, Flags]:
    """A score and a label for each patient, in the order of their names.

    A patient with a positive image is positive, though other images of the same patient show no disease.
    """
    scores, positive = two_classes(scores_N, positive_N)
    patient_N, count = _numbered(patients_N, len(scores))
    positive_P = np.zeros(count, dtype=bool)
    np.logical_or.at(positive_P, patient_N, positive)
    if how == "mean":
        return np.bincount(patient_N, weights=scores) / np.bincount(patient_N), positive_P
    best_P = np.full(count, -np.inf)
    np.maximum.at(best_P, patient_N, scores)
    return best_P, positive_P


def bootstrap(
    statistic: Statistic,
    positive_N: ArrayLike,
    patients_N: Sequence[str] | None,
    *,
    resamples: int,
    confidence: float,
    rng: np.random.Generator,
) -> Estimate:
    """The statistic of all rows, with the percentile interval of it over resampled patients (Efron 1979).

    A patient is drawn with all its images; patients with a positive image and those without are drawn apart, so that
    each resample has as many of both. patients_N: None takes each row for a patient of its own. A statistic that makes
    one score a patient does so before: a patient drawn twice counts twice.

    A paired difference is a statistic like others: `lambda rows: area(a[rows], y[rows]) - area(b[rows], y[rows])`.
    """
    positive = np.asarray(positive_N).astype(bool)
    rows_of = _rows_of_patients(patients_N, len(positive))
    strata = _strata(positive, rows_of)
    found_R = np.empty(resamples)
    for resample in range(resamples):
        drawn = [stratum[rng.integers(len(stratum), size=len(stratum))] for stratum in strata]
        found_R[resample] = statistic(np.concatenate([rows_of[patient] for patient in np.concatenate(drawn)]))
    low, high = np.quantile(found_R, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(statistic(np.arange(len(positive))), float(low), float(high))


def _strata(positive_N: Flags, rows_of: list[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    """The numbers of the patients with a positive image, and of those without; raises DataError where one is empty."""
    positive_P = np.array([positive_N[rows].any() for rows in rows_of])
    strata = [np.flatnonzero(positive_P), np.flatnonzero(~positive_P)]
    if not all(len(stratum) for stratum in strata):
        raise DataError(
            f"{len(strata[0])} positive and {len(strata[1])} negative patients\nfits: one or more of each to resample"
        )
    return strata


def _rows_of_patients(patients_N: Sequence[str] | None, count: int) -> list[NDArray[np.int64]]:
    if patients_N is None:
        return [np.array([row]) for row in range(count)]
    patient_N, patients = _numbered(patients_N, count)
    order = np.argsort(patient_N, kind="stable")
    return np.split(order, np.searchsorted(patient_N[order], np.arange(1, patients)))


def _numbered(patients_N: Sequence[str], count: int) -> tuple[NDArray[np.int64], int]:
    """The number of each row's patient, by the order of their names, and how many patients there are."""
    if len(patients_N) != count:
        raise DataError(f"{count} scores of {len(patients_N)} patients\nfits: the patient's name for every score")
    names_P, patient_N = np.unique(np.asarray(patients_N), return_inverse=True)
    return patient_N, len(names_P)
