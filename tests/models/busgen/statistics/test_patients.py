"""Scores of patients, and the bootstrap over them, against loops, scipy and simulation."""

import numpy as np
import pytest
from scipy.stats import bootstrap as scipy_bootstrap

from models.busgen.statistics.auc import area
from models.busgen.statistics.estimate import difference_over_seeds
from models.busgen.statistics.patients import bootstrap, one_score_a_patient
from models.common.errors import DataError

PATIENTS = ["c", "a", "b", "a", "c", "a"]
SCORES = np.array([0.5, 0.1, 0.9, 0.3, 0.7, 0.2])
POSITIVE = np.array([0, 0, 1, 0, 1, 0])


def test_a_patient_has_the_mean_or_the_highest_of_its_scores():
    mean, positive = one_score_a_patient(SCORES, POSITIVE, PATIENTS, "mean")
    highest, _ = one_score_a_patient(SCORES, POSITIVE, PATIENTS, "max")
    assert mean == pytest.approx([0.2, 0.9, 0.6])
    assert highest.tolist() == [0.3, 0.9, 0.7]
    assert positive.tolist() == [False, True, True]  # "c" has one positive image of two


def test_one_image_a_patient_changes_nothing_but_the_order():
    rng = np.random.default_rng(0)
    scores, positive = rng.standard_normal(30), np.arange(30) % 2
    names = [f"{number:03d}" for number in range(30)]
    for how in ("mean", "max"):
        found, labels = one_score_a_patient(scores, positive, names, how)
        assert found.tolist() == scores.tolist()
        assert labels.tolist() == positive.astype(bool).tolist()


def test_names_and_scores_have_to_be_as_many():
    with pytest.raises(DataError, match="6 scores of 5 patients"):
        one_score_a_patient(SCORES, POSITIVE, PATIENTS[:5], "mean")


def test_the_same_random_numbers_give_the_same_interval():
    def interval(seed: int):
        return bootstrap(
            lambda rows: area(SCORES[rows], POSITIVE[rows]),
            POSITIVE,
            PATIENTS,
            resamples=200,
            confidence=0.9,
            rng=np.random.default_rng(seed),
        )

    assert interval(3) == interval(3)
    assert interval(3).value == area(SCORES, POSITIVE)


def test_resamples_hold_whole_patients_and_as_many_of_each_class():
    seen = []

    def look(rows: np.ndarray) -> float:
        seen.append([PATIENTS[row] for row in rows])
        return 0.0

    bootstrap(look, POSITIVE, PATIENTS, resamples=100, confidence=0.95, rng=np.random.default_rng(0))
    for names in seen:
        assert names.count("a") == 3  # the only one without a positive image
        assert names.count("b") + names.count("c") / 2 == 2
    assert {names.count("b") for names in seen} == {0, 1, 2}


def test_a_mean_has_the_interval_that_scipy_gives():
    values = np.random.default_rng(1).gamma(2.0, size=60)
    strata = np.arange(60) < 30
    ours = bootstrap(
        lambda rows: float(values[rows][: len(rows) // 2].mean()),  # positives come first
        strata,
        None,
        resamples=4000,
        confidence=0.9,
        rng=np.random.default_rng(2),
    )
    theirs = scipy_bootstrap(
        (values[:30],),
        np.mean,
        n_resamples=4000,
        confidence_level=0.9,
        method="percentile",
        rng=np.random.default_rng(3),
    ).confidence_interval
    assert ours.low == pytest.approx(theirs.low, rel=0.02)
    assert ours.high == pytest.approx(theirs.high, rel=0.02)


def test_images_of_one_patient_do_not_narrow_the_interval():
    rng = np.random.default_rng(4)
    positive = np.arange(40) % 2 == 0
    scores = rng.standard_normal(40) + positive
    copies = np.repeat(np.arange(40), 10)

    def width(patients: list[str] | None) -> float:
        found = bootstrap(
            lambda rows: area(scores[copies][rows], positive[copies][rows]),
            positive[copies],
            patients,
            resamples=400,
            confidence=0.95,
            rng=np.random.default_rng(0),
        )
        return found.high - found.low

    alone = bootstrap(
        lambda rows: area(scores[rows], positive[rows]),
        positive,
        None,
        resamples=400,
        confidence=0.95,
        rng=np.random.default_rng(1),
    )
    assert width([str(copy) for copy in copies]) == pytest.approx(alone.high - alone.low, rel=0.15)
    assert width(None) < 0.5 * (alone.high - alone.low)


def test_a_paired_difference_of_equal_scores_is_nil_in_every_resample():
    found = bootstrap(
        lambda rows: area(SCORES[rows], POSITIVE[rows]) - area(2 * SCORES[rows], POSITIVE[rows]),
        POSITIVE,
        PATIENTS,
        resamples=100,
        confidence=0.95,
        rng=np.random.default_rng(0),
    )
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_patients_of_one_class_alone_are_refused():
    with pytest.raises(DataError, match="0 positive and 3 negative patients"):
        bootstrap(lambda _: 0.0, np.zeros(6), PATIENTS, resamples=100, confidence=0.95, rng=np.random.default_rng(0))


def test_a_difference_over_seeds_has_students_interval_of_the_pairs():
    found = difference_over_seeds([0.9, 0.8, 0.85], [0.8, 0.75, 0.7], 0.95)
    assert found.value == pytest.approx(0.1)
    assert found.high - found.value == pytest.approx(4.302653 * 0.05 / np.sqrt(3), rel=1e-6)  # t at 2 degrees
