"""A whole diagnosis, over patients."""

import numpy as np
import pytest

from models.busgen.statistics.auc import area, auc_difference
from models.busgen.statistics.calibration import brier_score
from models.busgen.statistics.diagnosis import diagnosis, patient_auc_difference
from models.busgen.statistics.operating import sensitivity_at
from models.busgen.statistics.patients import one_score_a_patient
from models.busgen.statistics_config import IntervalConfig

CONFIG = IntervalConfig(resamples=200)


def case(seed: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(50), 3)
    positive = patient % 2 == 0
    logit = (rng.standard_normal(50) + 1.2 * (np.arange(50) % 2 == 0) - 0.6)[patient] + 0.3 * rng.standard_normal(150)
    return 1 / (1 + np.exp(-logit)), positive, [f"patient {number:02d}" for number in patient]


def test_all_is_measured_on_one_score_a_patient():
    probability, positive, patients = case(0)
    found = diagnosis(probability, positive, patients, CONFIG, np.random.default_rng(0))
    of_patients = one_score_a_patient(probability, positive, patients, "mean")
    assert (found.patients, found.positives) == (50, 25)
    assert found.auc.value == found.auc_by_bootstrap.value == area(*of_patients)
    assert found.brier.value == brier_score(*of_patients)
    assert found.sensitivity.value == sensitivity_at(0.9, *of_patients)
    assert sum(part.cases for part in found.bins) == 50
    for estimate in (found.auc, found.auc_by_bootstrap, found.sensitivity, found.specificity, found.brier):
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert found.auc.low == pytest.approx(found.auc_by_bootstrap.low, abs=0.06)


def test_the_same_random_numbers_give_the_same_diagnosis():
    first, second = (diagnosis(*case(1), CONFIG, np.random.default_rng(5)) for _ in range(2))
    assert first == second


def test_a_difference_is_of_patients_not_of_images():
    probability, positive, patients = case(2)
    other = np.random.default_rng(3).random(150)
    found = patient_auc_difference(probability, other, positive, patients, CONFIG)
    (first, labels), (second, _) = (one_score_a_patient(p, positive, patients, "mean") for p in (probability, other))
    assert found == auc_difference(first, second, labels, 0.95)
