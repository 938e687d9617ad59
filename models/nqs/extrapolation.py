"""Straight lines through measured energies and costs: to zero variance, to infinite size, and a power law.

Axes: P points.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.common.errors import ConfigError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LineFit:
    """y = intercept + slope x with the covariance of both, as the errors of the points give it.

    The covariance is not scaled by chi^2: where chi^2 is far above `degrees_of_freedom`, a line does not describe the
    points, and the errors say too little.
    """

    intercept: float
    slope: float
    intercept_variance: float
    slope_variance: float
    covariance: float  # of intercept and slope
    chi_squared: float
    degrees_of_freedom: int

    @property
    def intercept_error(self) -> float:
        return math.sqrt(self.intercept_variance)

    @property
    def slope_error(self) -> float:
        return math.sqrt(self.slope_variance)

    def at(self, x: float) -> tuple[float, float]:
        """The line's value at x and its error, with both parameters' errors and their covariance in it."""
        variance = self.intercept_variance + 2 * x * self.covariance + x * x * self.slope_variance
        return self.intercept + self.slope * x, math.sqrt(max(variance, 0.0))


def fit_line(x: ArrayLike, y: ArrayLike, errors: ArrayLike) -> LineFit:
    """The weighted least-squares line through (x, y) with independent Gaussian errors of y (Press et al. 2007,
    Numerical Recipes, eqs. 15.2.15-15.2.21).

        w = 1 / error^2,  x_mean = sum w x / sum w,  S = sum w (x - x_mean)^2
        slope = sum w (x - x_mean) y / S,  intercept = y_mean - slope x_mean
        var(slope) = 1 / S,  var(intercept) = 1 / sum w + x_mean^2 / S,  cov = -x_mean / S
        chi^2 = sum w (y - intercept - slope x)^2

    Sums run over deviations from the means, so that energies that agree in many digits do not cancel. Units are those
    of x and y. Raises ConfigError for fewer than two different x, an error that is not above zero, or numbers that are
    not finite.
    """
    x_P, y_P, error_P = (np.asarray(values, dtype=np.float64) for values in (x, y, errors))
    _require_fittable(x_P, y_P, error_P)
    weight_P = error_P**-2
    total = float(weight_P.sum())
    x_mean, y_mean = float(weight_P @ x_P) / total, float(weight_P @ y_P) / total
    apart_P = x_P - x_mean
    spread = float(weight_P @ apart_P**2)
    slope = float((weight_P * apart_P) @ (y_P - y_mean)) / spread
    residual_P = y_P - y_mean - slope * apart_P
    return LineFit(
        intercept=y_mean - slope * x_mean,
        slope=slope,
        intercept_variance=1 / total + x_mean**2 / spread,
        slope_variance=1 / spread,
        covariance=-x_mean / spread,
        chi_squared=float(weight_P @ residual_P**2),
        degrees_of_freedom=len(x_P) - 2,
    )


def _require_fittable(x_P: Floats, y_P: Floats, error_P: Floats) -> None:
    if not x_P.shape == y_P.shape == error_P.shape or x_P.ndim != 1:
        found = f"x of shape {x_P.shape}, y of {y_P.shape} and errors of {error_P.shape}"
        raise ConfigError(f"{found} are not points of a line; give three lists of one length")
    if not all(np.isfinite(values_P).all() for values_P in (x_P, y_P, error_P)):
        raise ConfigError(f"not all of {x_P}, {y_P}, {error_P} are finite; leave such points out")
    if len(np.unique(x_P)) < 2:
        raise ConfigError(f"x has {len(np.unique(x_P))} different values; a line takes two or more")
    if (error_P <= 0).any():
        raise ConfigError(f"error {error_P.min():g} is not above zero; give every point its standard error")


def zero_variance(variances: ArrayLike, energies: ArrayLike, errors: ArrayLike) -> LineFit:
    """The energy at zero variance is the `intercept` (Kashima & Imada 2001, J. Phys. Soc. Jpn. 70, 2287).

        E(variance) = E_0 + c (<H^2> - <H>^2) / <H>^2, to first order in the distance from the eigenstate

    Any variance that is in proportion to that one will do, such as Var(H) per site, if E does not change much from
    point to point. Raises ConfigError as `fit_line` does, and for a negative variance.
    """
    variance_P = np.asarray(variances, dtype=np.float64)
    if (variance_P < 0).any():
        raise ConfigError(f"variance {variance_P.min():g} is below zero; a variance of H is not")
    return fit_line(variance_P, energies, errors)


def infinite_size(sizes: ArrayLike, energies: ArrayLike, errors: ArrayLike, power: float = 1.0) -> LineFit:
    """The energy per site of the infinite lattice is the `intercept`: E(size) = E_inf + c / size^power.

    Sizes are sites (periodic chains and open boundaries: power 1 in sites or in length; periodic square lattices: power
    3 in the length, Huse 1988, Phys. Rev. B 37, 2380). Raises ConfigError as `fit_line` does, and for a size
    that is not above zero.
    """
    size_P = np.asarray(sizes, dtype=np.float64)
    if (size_P <= 0).any():
        raise ConfigError(f"size {size_P.min():g} is not above zero; give sites, or lengths")
    return fit_line(size_P**-power, energies, errors)


def scaling_exponent(sizes: Sequence[float], costs: Sequence[float]) -> tuple[float, float]:
    """The exponent of cost = factor * size^exponent, and its standard error from how the points scatter.

        log cost = log factor + exponent log size, by least squares with equal weights;
        error^2 = sum residual^2 / (P - 2) / sum (log size - mean)^2

    Two points give an exponent and no error: NaN. Raises ConfigError for a size or cost that is not above zero, and as
    `fit_line` does.
    """
    size_P, cost_P = np.asarray(sizes, dtype=np.float64), np.asarray(costs, dtype=np.float64)
    for name, values_P in (("size", size_P), ("cost", cost_P)):
        if (values_P <= 0).any():
            raise ConfigError(f"{name} {values_P.min():g} is not above zero and has no logarithm; leave it out")
    fit = fit_line(np.log(size_P), np.log(cost_P), np.ones_like(size_P))
    if not fit.degrees_of_freedom:
        return fit.slope, math.nan
    return fit.slope, math.sqrt(fit.chi_squared / fit.degrees_of_freedom * fit.slope_variance)


def v_score(energy: float, variance: float, electrons: tuple[int, int], sites: int, U: float) -> float:
    """How far a state is from an eigenstate, one number for all lattices (Wu et al. 2024, Science 386, 296).

        V = N Var(H) / (E - E_inf)^2,  N = electrons up and down,  E_inf = U N_up N_dn / sites

    `energy` and `variance` are of the whole lattice, <H> and <H^2> - <H>^2; E_inf is the energy at infinite
    temperature in the sector of these electrons. V is 0 for an eigenstate and has no unit, so that lattices and
    couplings compare. Raises ConfigError for a negative variance, and where E is E_inf.
    """
    n_up, n_dn = electrons
    distance = energy - U * n_up * n_dn / sites
    if variance < 0:
        raise ConfigError(f"variance {variance:g} is below zero; give <H^2> - <H>^2")
    if distance == 0:
        raise ConfigError(f"energy {energy:g} is that of infinite temperature, where the V-score is not defined")
    return (n_up + n_dn) * variance / distance**2
