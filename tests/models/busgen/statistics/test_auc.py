"""Areas under the ROC curve against pair counting, scipy, R's pROC and simulation."""

# M positives   L negatives

import math

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, norm

from models.busgen.statistics.auc import (
    area,
    auc,
    auc_difference,
    delong_covariance,
    newcombe_interval,
    roc_curve,
)
from models.common.errors import DataError

# How many of the patients with good and with poor outcome have each S100B level, from the lowest: the aSAH data of
# Turck et al. (2010), as counted from the ROC curve in pROC's tests.
GOOD = [
    0,
    5,
    3,
    2,
    6,
    6,
    6,
    7,
    4,
    0,
    3,
    4,
    4,
    3,
    2,
    1,
    2,
    0,
    0,
    1,
    0,
    0,
    0,
    1,
    0,
    1,
    1,
    1,
    0,
    1,
    0,
    1,
    0,
    1,
    1,
    2,
    1,
    0,
    2,
]
POOR = [
    1,
    0,
    0,
    0,
    3,
    1,
    2,
    2,
    1,
    1,
    2,
    1,
    0,
    1,
    0,
    0,
    0,
    1,
    1,
    0,
    1,
    1,
    1,
    0,
    1,
    1,
    1,
    0,
    1,
    0,
    1,
    0,
    2,
    0,
    0,
    0,
    1,
    1,
    0,
]
POOR += [1, 1, 1, 1, 2, 1, 1, 1, 1, 1, 1]


def aneurysms() -> tuple[np.ndarray, np.ndarray]:
    scores = np.concatenate([np.repeat(np.arange(len(counts)), counts) for counts in (GOOD, POOR)])
    return scores, np.repeat([0, 1], [sum(GOOD), sum(POOR)])


def ties(seed: int, cases: int = 40, scores: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Scores with many ties, and labels."""
    rng = np.random.default_rng(seed)
    positive = np.arange(cases) % 3 == 0
    return rng.integers(0, 8, size=(scores, cases)) + 2 * positive, positive


def psi(x: float, y: float) -> float:
    return 1.0 if x > y else 0.5 if x == y else 0.0


def components(scores: np.ndarray, positive: np.ndarray) -> tuple[list[float], list[float]]:
    """The structural components of DeLong et al. (1988), as written there."""
    above, below = scores[positive], scores[~positive]
    v10 = [sum(psi(x, y) for y in below) / len(below) for x in above]
    v01 = [sum(psi(x, y) for x in above) / len(above) for y in below]
    return v10, v01


@pytest.mark.parametrize("seed", range(5))
def test_the_area_counts_pairs_and_ties_half(seed: int):
    (scores,), positive = ties(seed)
    pairs = [psi(x, y) for x in scores[positive] for y in scores[~positive]]
    assert area(scores, positive) == pytest.approx(sum(pairs) / len(pairs), rel=1e-14)
    statistic = mannwhitneyu(scores[positive], scores[~positive]).statistic
    assert area(scores, positive) == pytest.approx(statistic / len(pairs), rel=1e-14)


def test_the_covariance_is_that_of_the_structural_components():
    scores, positive = ties(7, scores=3)
    area_k, covariance = delong_covariance(scores, positive)
    parts = [components(score, positive) for score in scores]
    for a in range(3):
        assert area_k[a] == pytest.approx(np.mean(parts[a][0]), rel=1e-14)
        for b in range(3):
            expected = 0.0
            for side in (0, 1):
                first, second = parts[a][side], parts[b][side]
                products = [(u - np.mean(first)) * (v - np.mean(second)) for u, v in zip(first, second, strict=True)]
                expected += sum(products) / (len(first) - 1) / len(first)
            assert covariance[a, b] == pytest.approx(expected, rel=1e-12)


def test_area_and_variance_of_the_aneurysm_patients_are_those_of_proc():
    scores, positive = aneurysms()
    (value,), ((variance,),) = delong_covariance(scores[None], positive)
    assert value == pytest.approx(0.73136856368563685, rel=1e-14)
    assert variance == pytest.approx(0.00266868245717244, rel=1e-12)
    half = norm.ppf(0.975) * math.sqrt(variance)
    assert (round(value - half, 4), round(value + half, 4)) == (0.6301, 0.8326)  # Robin et al. 2011


def test_the_interval_is_symmetric_in_the_logit():
    scores, positive = aneurysms()
    found = auc(scores, positive, 0.95)
    logit = [math.log(end / (1 - end)) for end in (found.low, found.value, found.high)]
    half = norm.ppf(0.975) * math.sqrt(0.00266868245717244) / (found.value * (1 - found.value))
    assert logit[1] - logit[0] == pytest.approx(half, rel=1e-12)
    assert logit[2] - logit[1] == pytest.approx(half, rel=1e-12)


@pytest.mark.parametrize("true_area", [0.7, 0.9])
def test_the_interval_holds_the_true_area_as_often_as_it_says(true_area: float):
    rng = np.random.default_rng(11)
    shift = norm.ppf(true_area) * math.sqrt(2)
    positive = np.repeat([True, False], [40, 60])
    runs, inside = 1000, 0
    for _ in range(runs):
        found = auc(rng.standard_normal(100) + shift * positive, positive, 0.95)
        inside += found.low <= true_area <= found.high
    assert abs(inside / runs - 0.95) < 0.025


def test_a_score_without_a_fault_still_has_a_width():
    positive = np.arange(20) < 8
    found = auc(positive.astype(float), positive, 0.95)
    worst = auc(-positive.astype(float), positive, 0.95)
    assert found.value == found.high == 1.0
    assert 0.6 < found.low < 0.95
    assert (worst.value, worst.low, worst.high) == (0.0, 0.0, pytest.approx(1 - found.low))


def test_newcombes_ends_solve_his_equation():
    value, positives, negatives = 0.8, 25, 40
    for end in newcombe_interval(value, positives, negatives, 0.95):
        n = (positives + negatives) / 2
        spread = 1 + (n - 1) * ((1 - end) / (2 - end) + end / (1 + end))
        variance = end * (1 - end) * spread / (positives * negatives)
        assert abs(value - end) / math.sqrt(variance) == pytest.approx(norm.ppf(0.975), rel=1e-9)


def test_a_paired_difference_is_delongs_and_leans_on_the_pairing():
    scores, positive = ties(3, cases=60, scores=2)
    found = auc_difference(scores[0], scores[1], positive, 0.95)
    area_k, covariance = delong_covariance(scores, positive)
    deviation = math.sqrt(np.array([1, -1]) @ covariance @ np.array([1, -1]))
    assert found.value == area_k[0] - area_k[1]
    assert found.p_value == pytest.approx(2 * norm.sf(abs(found.value) / deviation), rel=1e-10)
    assert found.high - found.value == pytest.approx(norm.ppf(0.975) * deviation, rel=1e-10)
    near = scores[0] + 0.1 * scores[1]  # nearly the same ranks
    narrow = auc_difference(scores[0], near, positive, 0.95)
    assert narrow.high - narrow.low < 0.7 * (found.high - found.low)


def test_the_paired_test_rejects_a_true_null_as_often_as_it_says():
    rng = np.random.default_rng(5)
    positive = np.repeat([True, False], [50, 50])
    runs, rejected = 600, 0
    for _ in range(runs):
        shared = rng.standard_normal(100) + positive
        first, second = (shared + 0.7 * rng.standard_normal(100) for _ in range(2))
        rejected += auc_difference(first, second, positive, 0.95).p_value < 0.05
    assert 0.025 < rejected / runs < 0.075


def test_scores_that_rank_alike_do_not_differ():
    (scores,), positive = ties(1)
    found = auc_difference(scores, np.exp(scores), positive, 0.95)
    assert (found.value, found.low, found.high, found.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_a_faultless_score_on_few_cases_is_not_surely_better_than_a_constant():
    positive = np.arange(6) < 2
    found = auc_difference(positive.astype(float), np.zeros(6), positive, 0.95)
    assert found.value == 0.5
    assert found.p_value > 0.05
    assert found.low < 0 < found.high
    many = np.arange(60) < 20
    surely = auc_difference(many.astype(float), np.zeros(60), many, 0.95)
    assert surely.p_value < 0.05
    assert surely.low > 0


def test_two_faultless_scores_may_still_differ_on_other_cases():
    positive = np.arange(20) < 8
    found = auc_difference(positive + np.arange(20) / 100, positive - np.arange(20) / 100, positive, 0.95)
    low, high = newcombe_interval(1.0, 8, 12, 0.95)
    assert (found.value, found.p_value) == (0.0, 1.0)
    assert (found.low, found.high) == (pytest.approx(low - high), pytest.approx(high - low))


def test_the_curve_encloses_the_area_and_turns_at_each_distinct_score():
    (scores,), positive = ties(4)
    roc = roc_curve(scores, positive)
    assert np.trapezoid(roc.true_positive_rate_T, roc.false_positive_rate_T) == pytest.approx(area(scores, positive))
    assert len(roc.threshold_T) == len(set(scores.tolist())) + 1
    for false_rate, true_rate, threshold in zip(
        roc.false_positive_rate_T, roc.true_positive_rate_T, roc.threshold_T, strict=True
    ):
        assert true_rate == np.mean(scores[positive] >= threshold)
        assert false_rate == np.mean(scores[~positive] >= threshold)


@pytest.mark.parametrize(
    ("scores", "positive", "told"),
    [
        ([0.1, 0.2, 0.3], [1, 1, 1], "0 negative"),
        ([0.1, float("nan")], [0, 1], "not finite"),
        ([0.1, 0.2], [0, 1, 1], "one of each"),
        ([0.1, 0.2, 0.3], [0, 0, 1], "2 or more"),
    ],
)
def test_what_has_no_interval_is_refused(scores: list[float], positive: list[int], told: str):
    with pytest.raises(DataError, match=told):
        auc(scores, positive, 0.95)
