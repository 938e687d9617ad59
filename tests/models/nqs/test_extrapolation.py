"""Fits agree with NumPy's polynomials and with a Monte Carlo of their errors; the V-score with a dense Hamiltonian."""

import itertools
import math

import numpy as np
import pytest

from models.common.errors import ConfigError
from models.nqs.extrapolation import fit_line, infinite_size, scaling_exponent, v_score, zero_variance

X = np.array([0.05, 0.11, 0.21, 0.42])
Y = np.array([-3.46909, -3.46888, -3.46846, -3.46762])
ERRORS = np.array([2e-5, 4e-5, 1e-5, 6e-5])


def test_the_line_and_its_covariance_are_those_of_polyfit() -> None:
    fit = fit_line(X, Y, ERRORS)
    (slope, intercept), covariance = np.polyfit(X, Y, 1, w=1 / ERRORS, cov="unscaled")
    assert fit.slope == pytest.approx(slope, rel=1e-10)
    assert fit.intercept == pytest.approx(intercept, rel=1e-12)
    found = [[fit.slope_variance, fit.covariance], [fit.covariance, fit.intercept_variance]]
    np.testing.assert_allclose(found, covariance, rtol=1e-9)
    assert fit.chi_squared == pytest.approx(sum(((Y - intercept - slope * X) / ERRORS) ** 2), rel=1e-9)
    assert fit.degrees_of_freedom == 2


def test_energies_that_agree_in_ten_digits_keep_their_difference() -> None:
    x, y = np.array([1.0, 2.0, 3.0]), np.array([-1e6 + 1e-4, -1e6 + 2e-4, -1e6 + 3e-4])
    fit = fit_line(x, y, np.full(3, 1e-5))
    assert fit.slope == pytest.approx(1e-4, rel=1e-5)
    assert fit.intercept == pytest.approx(-1e6, abs=1e-9)


def test_the_errors_are_how_far_repeated_measurements_scatter() -> None:
    random = np.random.default_rng(3)
    fits = [zero_variance(X, 2 * X - 5 + random.normal(0, 0.01 * X), 0.01 * X) for _ in range(4000)]
    intercepts, slopes = np.array([fit.intercept for fit in fits]), np.array([fit.slope for fit in fits])
    first = fits[0]
    assert intercepts.mean() == pytest.approx(-5, abs=5 * first.intercept_error / math.sqrt(4000))
    assert intercepts.std() == pytest.approx(first.intercept_error, rel=0.06)
    assert slopes.std() == pytest.approx(first.slope_error, rel=0.06)
    assert (intercepts + 0.3 * slopes).std() == pytest.approx(first.at(0.3)[1], rel=0.06)
    assert np.mean([fit.chi_squared for fit in fits]) == pytest.approx(2, rel=0.1), "as many as degrees of freedom"


def test_the_value_at_zero_is_the_intercept_with_its_error() -> None:
    fit = zero_variance(X, Y, ERRORS)
    assert fit.at(0.0) == pytest.approx((fit.intercept, fit.intercept_error))
    expected = np.linalg.solve([[1, X[0]], [1, X[1]]], Y[:2])
    through_two = zero_variance(X[:2], Y[:2], ERRORS[:2])
    assert through_two.intercept == pytest.approx(expected[0], rel=1e-12)
    assert (through_two.chi_squared, through_two.degrees_of_freedom) == (pytest.approx(0, abs=1e-12), 0)


@pytest.mark.parametrize("power", [1.0, 2.0, 3.0])
def test_sizes_lead_to_the_infinite_lattice(power: float) -> None:
    sizes = np.array([4.0, 6.0, 8.0, 12.0])
    fit = infinite_size(sizes, -0.573729 - 0.31 / sizes**power, np.full(4, 1e-4), power)
    assert fit.intercept == pytest.approx(-0.573729, abs=1e-9)
    assert fit.slope == pytest.approx(-0.31, abs=1e-9)


def test_free_electrons_on_open_chains_lead_to_minus_four_over_pi() -> None:
    lengths = np.array([400, 600, 800, 1200])
    energies = []
    for length in lengths:
        levels = np.linalg.eigvalsh(-np.eye(length, k=1) - np.eye(length, k=-1))
        energies.append(2 * levels[: length // 2].sum() / length)
    assert infinite_size(lengths, energies, np.full(4, 1e-6)).intercept == pytest.approx(-4 / math.pi, abs=2e-6)


def test_a_power_law_gives_its_exponent_and_the_error_of_a_scattered_one() -> None:
    sizes = [16, 36, 64, 100, 144]
    assert scaling_exponent(sizes, [3e-6 * size**2.6 for size in sizes]) == pytest.approx((2.6, 0), abs=1e-6)
    costs = [0.012, 0.08, 0.31, 1.1, 2.9]
    exponent, error = scaling_exponent(sizes, costs)
    (slope, _), covariance = np.polyfit(np.log(sizes), np.log(costs), 1, cov=True)
    assert (exponent, error) == pytest.approx((slope, math.sqrt(covariance[0, 0])), rel=1e-9)
    assert math.isnan(scaling_exponent([4, 8], [1, 8])[1]), "two points say nothing about scatter"
    assert scaling_exponent([4, 8], [1, 8])[0] == pytest.approx(3)


def _dense_ring(sites: int, n_up: int, n_dn: int, U: float) -> np.ndarray:
    """The Hubbard ring with t = 1 in a sector of fixed electrons; a hop's sign counts the electrons that it passes."""

    def spin_hops(count: int) -> tuple[list[frozenset[int]], np.ndarray]:
        states = [frozenset(chosen) for chosen in itertools.combinations(range(sites), count)]
        matrix = np.zeros((len(states), len(states)))
        for column, state in enumerate(states):
            for site in range(sites):
                for source, target in ((site, (site + 1) % sites), ((site + 1) % sites, site)):
                    if source in state and target not in state:
                        between = sum(min(source, target) < other < max(source, target) for other in state)
                        matrix[states.index(state - {source} | {target}), column] -= (-1) ** between
        return states, matrix

    (ups, up_hops), (downs, dn_hops) = spin_hops(n_up), spin_hops(n_dn)
    doubles = np.array([len(up & down) for up in ups for down in downs])
    return np.kron(up_hops, np.eye(len(downs))) + np.kron(np.eye(len(ups)), dn_hops) + U * np.diag(doubles)


def test_the_v_score_takes_its_zero_from_the_trace_and_vanishes_for_an_eigenstate() -> None:
    hamiltonian = _dense_ring(4, 2, 1, 8.0)
    infinite = np.trace(hamiltonian) / len(hamiltonian)
    state = np.random.default_rng(1).normal(size=len(hamiltonian))
    state /= np.linalg.norm(state)
    energy = state @ hamiltonian @ state
    variance = state @ hamiltonian @ hamiltonian @ state - energy**2
    found = v_score(float(energy), float(variance), (2, 1), 4, 8.0)
    assert found == pytest.approx(3 * variance / (energy - infinite) ** 2, rel=1e-10)
    levels, vectors = np.linalg.eigh(hamiltonian)
    spread = float(np.sum((hamiltonian @ vectors[:, 0]) ** 2) - levels[0] ** 2)
    assert v_score(float(levels[0]), max(spread, 0.0), (2, 1), 4, 8.0) == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize(
    ("x", "y", "errors", "told"),
    [
        ([1, 1], [2, 3], [1, 1], "x has 1 different values"),
        ([1, 2], [2, 3], [1, 0], "error 0 is not above zero"),
        ([1, 2], [2, 3, 4], [1, 1], "give three lists of one length"),
        ([1, math.nan], [2, 3], [1, 1], "finite"),
    ],
)
def test_points_that_make_no_line_are_refused(x: list[float], y: list[float], errors: list[float], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        fit_line(x, y, errors)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"variance -0\.1 is below zero"):
        zero_variance([-0.1, 0.2], [1, 2], [1, 1])
    with pytest.raises(ConfigError, match="size 0 is not above zero"):
        infinite_size([0, 4], [1, 2], [1, 1])
    with pytest.raises(ConfigError, match="cost 0 is not above zero"):
        scaling_exponent([4, 8], [1, 0])
    with pytest.raises(ConfigError, match="infinite temperature"):
        v_score(4.0, 1.0, (2, 2), 4, 4.0)
    with pytest.raises(ConfigError, match="below zero"):
        v_score(1.0, -1e-3, (2, 2), 4, 4.0)
