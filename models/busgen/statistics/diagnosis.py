"""All that is told of a classifier on a test set, over patients."""

# N images   P patients

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from models.busgen.statistics.auc import Auc, Difference, area, auc, auc_difference
from models.busgen.statistics.calibration import (
    Bin,
    Recalibration,
    brier_score,
    expected_calibration_error,
    recalibration,
    reliability,
)
from models.busgen.statistics.estimate import Estimate
from models.busgen.statistics.operating import sensitivity_interval, specificity_interval
from models.busgen.statistics.patients import bootstrap, one_score_a_patient
from models.busgen.statistics_config import IntervalConfig


@dataclass(frozen=True)
class Diagnosis:
    """A classifier's measures, one score and one label a patient.

    auc: with DeLong's interval. auc_by_bootstrap: the same area with the bootstrap's, as a check. sensitivity: at the
    config's specificity; specificity: at its sensitivity. recalibration: None where no slope is finite.
    """

    patients: int
    positives: int
    auc: Auc
    auc_by_bootstrap: Estimate
    sensitivity: Estimate
    specificity: Estimate
    brier: Estimate
    calibration_error: float
    bins: list[Bin]
    recalibration: Recalibration | None


def diagnosis(
    probability_N: ArrayLike,
    positive_N: ArrayLike,
    patients_N: Sequence[str],
    config: IntervalConfig,
    rng: np.random.Generator,
) -> Diagnosis:
    """What is told of the probabilities that a classifier gives to the images of these patients."""
    probability_P, positive_P = one_score_a_patient(probability_N, positive_N, patients_N, config.patient_score)
    how = {"resamples": config.resamples, "confidence": config.confidence, "rng": rng}
    bins = reliability(probability_P, positive_P, config.reliability_bins, config.equal_bins, config.confidence)
    return Diagnosis(
        patients=len(positive_P),
        positives=int(positive_P.sum()),
        auc=auc(probability_P, positive_P, config.confidence),
        auc_by_bootstrap=bootstrap(lambda rows: area(probability_P[rows], positive_P[rows]), positive_P, None, **how),
        sensitivity=sensitivity_interval(probability_P, positive_P, None, config, rng),
        specificity=specificity_interval(probability_P, positive_P, None, config, rng),
        brier=bootstrap(lambda rows: brier_score(probability_P[rows], positive_P[rows]), positive_P, None, **how),
        calibration_error=expected_calibration_error(bins),
        bins=bins,
        recalibration=recalibration(probability_P, positive_P, config.confidence),
    )


def patient_auc_difference(
    first_N: ArrayLike,
    second_N: ArrayLike,
    positive_N: ArrayLike,
    patients_N: Sequence[str],
    config: IntervalConfig,
) -> Difference:
    """`auc_difference` of two classifiers on the same images, one score a patient."""
    first_P, positive_P = one_score_a_patient(first_N, positive_N, patients_N, config.patient_score)
    second_P, _ = one_score_a_patient(second_N, positive_N, patients_N, config.patient_score)
    return auc_difference(first_P, second_P, positive_P, config.confidence)
