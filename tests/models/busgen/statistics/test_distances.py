"""Distances between sets of features against closed forms, scipy.linalg and double loops."""

import math

import numpy as np
import pytest
from scipy.linalg import sqrtm

from models.busgen.statistics import kernel_distance as kernels
from models.busgen.statistics import manifold
from models.busgen.statistics.frechet import covariance_root, frechet_at_infinity, frechet_distance
from models.busgen.statistics.kernel_distance import kernel_distance, kernel_distance_error
from models.busgen.statistics.manifold import overlap
from models.common.errors import DataError


def sets(seed: int, real: int = 60, generated: int = 45, features: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((features, features))
    return rng.standard_normal((real, features)), rng.standard_normal((generated, features)) @ mixing + 0.5


def exactly(mean: np.ndarray, covariance: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Samples whose own mean and covariance are these, to rounding."""
    raw = rng.standard_normal((count, len(mean)))
    raw -= raw.mean(axis=0)
    white = raw @ np.linalg.inv(np.linalg.cholesky(np.cov(raw.T))).T
    return white @ np.linalg.cholesky(covariance).T + mean


def test_the_distance_of_two_normal_distributions_is_the_closed_form():
    rng = np.random.default_rng(0)
    first = exactly(np.array([0.0, 1.0, 2.0]), np.diag([1.0, 4.0, 9.0]), 50, rng)
    second = exactly(np.array([1.0, 1.0, 0.0]), np.diag([4.0, 4.0, 0.25]), 80, rng)
    assert frechet_distance(first, second) == pytest.approx(1 + 4 + (1 - 2) ** 2 + 0 + (3 - 0.5) ** 2, rel=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_the_distance_is_the_one_with_scipys_root_of_the_product(seed: int):
    first, second = sets(seed)
    covariances = np.cov(first.T), np.cov(second.T)
    trace = np.trace(covariances[0] + covariances[1] - 2 * np.real(np.asarray(sqrtm(covariances[0] @ covariances[1]))))
    expected = np.sum((first.mean(axis=0) - second.mean(axis=0)) ** 2) + trace
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(second, first) == pytest.approx(expected, rel=1e-9)


def test_with_fewer_images_than_features_the_distance_is_the_same_as_in_the_space_they_span():
    first, second = sets(1, real=12, generated=9, features=5)
    turn = np.linalg.qr(np.random.default_rng(2).standard_normal((200, 200)))[0][:5]
    expected = frechet_distance(first, second)
    assert frechet_distance(first @ turn, second @ turn) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(first @ turn, first @ turn) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("count", [3, 30])
def test_the_root_of_a_covariance_squares_to_it(count: int):
    features = np.random.default_rng(3).standard_normal((count, 6))
    root = covariance_root(features)
    assert root @ root.T == pytest.approx(np.cov(features.T), abs=1e-12)


def test_extrapolation_takes_off_what_few_images_add():
    rng = np.random.default_rng(4)
    truth = 10 * 0.3**2
    plain, beyond = [], []
    for _ in range(8):
        first, second = rng.standard_normal((200, 10)), rng.standard_normal((200, 10)) + 0.3
        plain.append(frechet_distance(first, second))
        beyond.append(frechet_at_infinity(first, second, 8, rng))
    assert np.mean(plain) > truth + 0.15
    assert abs(np.mean(beyond) - truth) < 0.5 * (np.mean(plain) - truth)


def test_the_kernel_distance_is_the_double_sum(monkeypatch):
    first, second = sets(5, real=13, generated=9, features=3)

    def k(x: np.ndarray, y: np.ndarray) -> float:
        return (float(x @ y) / 3 + 1) ** 3

    within = [
        sum(k(x, y) for i, x in enumerate(part) for j, y in enumerate(part) if i != j) / (len(part) * (len(part) - 1))
        for part in (first, second)
    ]
    expected = sum(within) - 2 * sum(k(x, y) for x in first for y in second) / (13 * 9)
    assert kernel_distance(first, second, 3) == pytest.approx(expected, rel=1e-11)
    monkeypatch.setattr(kernels, "_ROWS", 4)
    assert kernel_distance(first, second, 3) == pytest.approx(expected, rel=1e-11)


def test_the_kernel_distance_is_unbiased_and_its_error_covers_its_scatter():
    rng = np.random.default_rng(6)
    values, errors = [], []
    for _ in range(120):
        first, second = rng.standard_normal((40, 4)), rng.standard_normal((40, 4))
        values.append(kernel_distance(first, second, 3))
        errors.append(kernel_distance_error(first, second, 3, 5, rng))
    assert abs(np.mean(values)) < 4 * np.std(values) / math.sqrt(120)
    assert np.mean(errors) > 0.8 * np.std(values)


def test_two_images_make_no_blocks():
    first, second = sets(0, real=3)
    with pytest.raises(DataError, match="no two blocks"):
        kernel_distance_error(first, second, 3, 10, np.random.default_rng(0))


@pytest.mark.parametrize("neighbours", [1, 4])
def test_overlap_is_what_loops_over_all_pairs_count(neighbours: int, monkeypatch):
    monkeypatch.setattr(manifold, "_ROWS", 7)
    real, generated = sets(7, real=25, generated=20, features=2)

    def reach(part: np.ndarray) -> list[float]:
        return [
            sorted(math.dist(x, y) for j, y in enumerate(part) if j != i)[neighbours - 1] for i, x in enumerate(part)
        ]

    real_reach, generated_reach = reach(real), reach(generated)
    inside = [[math.dist(r, g) < real_reach[i] for g in generated] for i, r in enumerate(real)]
    found = overlap(real, generated, neighbours)
    assert found.precision == np.any(inside, axis=0).mean()
    assert found.coverage == np.any(inside, axis=1).mean()
    assert found.density == pytest.approx(np.sum(inside) / neighbours / 20)
    assert found.recall == np.mean(
        [any(math.dist(r, g) < generated_reach[j] for j, g in enumerate(generated)) for r in real]
    )


def test_far_apart_nothing_overlaps_and_a_collapsed_set_lacks_recall():
    real, _ = sets(8)
    away = overlap(real, real + 100, 5)
    assert (away.precision, away.recall, away.density, away.coverage) == (0.0, 0.0, 0.0, 0.0)
    collapsed = overlap(real, real[:1] + 1e-3 * np.random.default_rng(0).standard_normal((60, 4)), 5)
    assert collapsed.precision == 1.0
    assert max(collapsed.recall, collapsed.coverage) < 0.4


@pytest.mark.parametrize(
    ("generated", "told"),
    [
        (np.ones((5, 3)), "as many of these"),
        (np.ones((1, 4)), "two or more"),
        (np.full((5, 4), np.nan), "5 of 5 images"),
    ],
)
def test_sets_that_do_not_fit_are_refused(generated: np.ndarray, told: str):
    for distance in (frechet_distance, lambda a, b: kernel_distance(a, b, 3), lambda a, b: overlap(a, b, 1)):
        with pytest.raises(DataError, match=told):
            distance(sets(0)[0], generated)


def test_more_neighbours_than_images_are_refused():
    real, generated = sets(0, generated=4)
    with pytest.raises(DataError, match="neighbours up to 3"):
        overlap(real, generated, 4)
