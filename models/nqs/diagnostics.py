"""What a set of walkers is worth: weights, effective samples, autocorrelation, R-hat, and errors that cover.

Walkers sample the density |psi|^alpha; an expectation over |psi|^2 is a ratio of two averages with weights
|psi|^(2 - alpha). Everything here is numpy in float64.
"""

# S sweeps   W walkers   M spin-orbitals   G groups of walkers   B blocks

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FEWEST_WALKERS = 32  # from here on, the spread between walkers is known to 13 % and needs no model of their memory


@dataclass(frozen=True)
class Estimate:
    """A mean and how far it is to be trusted.

    error: one standard error of `mean`.
    autocorrelation_time: in sweeps, of what moves the mean; nan for a single sweep.
    r_hat: near 1 where halves of the run and groups of walkers agree; nan below 4 sweeps.
    effective_samples: independent unweighted samples that would know as much.
    """

    mean: float
    error: float
    autocorrelation_time: float
    r_hat: float
    effective_samples: float


def reweighting(log_abs: Array, alpha: float) -> Array:
    """Logarithms of the weights that turn averages over |psi|^alpha into averages over |psi|^2, not normalised.

        w = |psi|^2 / |psi|^alpha = |psi|^(2 - alpha)

    Importance sampling of variational energies (Misery et al. 2025, arXiv 2507.05352). A walker that still stands
    where psi = 0 weighs nothing, at alpha = 2 too.
    """
    log_abs = np.asarray(log_abs, dtype=np.float64)
    at_zero = np.isneginf(log_abs)
    return np.where(at_zero, -np.inf, (2.0 - alpha) * np.where(at_zero, 0.0, log_abs))


def normalised_weights(log_weights: Array) -> Array:
    """Weights that sum to 1 over all axes, from logarithms of any size.

    ValueError: a weight that is not a number, or no weight above zero.
    """
    log_weights = np.asarray(log_weights, dtype=np.float64)
    largest = log_weights.max()
    if not np.isfinite(largest):
        found = (
            "no weight above zero: psi = 0 at every walker" if np.isneginf(largest) else f"a log weight of {largest}"
        )
        raise ValueError(f"{found}; weights fit that are finite somewhere; sweep on until walkers find the state")
    weights = np.exp(log_weights - largest)
    return weights / weights.sum()


def effective_sample_size(log_weights: Array) -> float:
    """How many equally weighted samples know as much as these: (sum w)^2 / sum w^2 (Kish 1965, section 11.7)."""
    return float(1.0 / np.square(normalised_weights(log_weights)).sum())


def unique_share(occupied_WM: NDArray[np.bool_]) -> float:
    """The share of walkers that would be left if each configuration were kept once; 1 where all differ."""
    return len(np.unique(np.packbits(occupied_WM, axis=1), axis=0)) / len(occupied_WM)


def autocorrelation(series_SW: Array) -> Array:
    """Normalised autocorrelation at lags 0 .. S-1, averaged over walkers; 1 at lag 0.

        rho(t) = c(t) / c(0),   c(t) = mean over walkers and s of (x[s] - m) (x[s + t] - m) / (S - t)

    Sokal 1997, "Monte Carlo methods in statistical mechanics", section 3. Unlike there, m is the mean over
    all walkers, which keeps c(t) nearly unbiased in runs that are short beside their memory. 1, 0, 0, ... for a
    constant series.
    """
    sweeps = len(series_SW)
    deviation_SW = series_SW - series_SW.mean()
    spectrum = np.abs(np.fft.rfft(deviation_SW, n=2 * sweeps, axis=0)) ** 2
    covariance_S = np.fft.irfft(spectrum.sum(axis=1), axis=0)[:sweeps] / np.arange(sweeps, 0, -1)
    if not covariance_S[0] > 0:
        return np.eye(1, sweeps)[0]
    return covariance_S / covariance_S[0]


def autocorrelation_time(series_SW: Array, window: float = 5.0) -> float:
    """Sweeps per independent sample: 1 for independent sweeps, (1 + r) / (1 - r) where memory decays as r^t.

        tau = 1 + 2 sum_{t=1..T} rho(t),   T the first lag with T >= window * tau(T)

    Twice Sokal's tau_int, with his automatic window (Sokal 1997, section 3; his c is `window`). In a
    run that is too short for a window to close, the sum over all lags, which is then too small. Never below 1/S;
    nan for a single sweep.
    """
    sweeps = len(series_SW)
    if sweeps < 2:
        return math.nan
    tau_S = 2.0 * np.cumsum(autocorrelation(series_SW)) - 1.0
    closed = np.arange(sweeps) >= window * tau_S
    return max(float(tau_S[int(np.argmax(closed)) if closed.any() else -1]), 1.0 / sweeps)


def group_means(series_SW: Array, groups: int = 8) -> Array:
    """[sweeps, groups]: the mean of each group of neighbouring walkers; a walker alone is too noisy to compare."""
    parts = np.array_split(series_SW, min(groups, series_SW.shape[1]), axis=1)
    return np.stack([part.mean(axis=1) for part in parts], axis=1)


def r_hat(series_SG: Array) -> float:
    """Split R-hat: near 1 where the halves of all chains agree; above 1.01 they do not yet.

        B = N / (K - 1) sum_k (x_k - x)^2,   V = 1/K sum_k s_k^2,   R = sqrt(((N - 1)/N V + B/N) / V)

    for the K = 2G halves of N sweeps with means x_k and variances s_k^2 (Vehtari et al. 2021, Bayesian Analysis 16,
    667, eq. 1-4). An odd sweep in the middle is left out. nan below 4 sweeps; inf where chains differ and stand still.
    """
    half = len(series_SG) // 2
    if half < 2:
        return math.nan
    halves_NK = np.concatenate([series_SG[:half], series_SG[-half:]], axis=1)
    between = half * halves_NK.mean(axis=0).var(ddof=1)
    within = halves_NK.var(axis=0, ddof=1).mean()
    if not within > 0:
        return math.inf if between > 0 else 1.0
    return math.sqrt(((half - 1) * within + between) / (half * within))


def blocking_error(series_SW: Array) -> float:
    """One standard error of the mean of all sweeps and walkers, where memory fades within a run.

        error^2(b) = var(means of blocks of b sweeps) / number of blocks,   b = 1, 2, 4, ...

    Flyvbjerg & Petersen 1989, J. Chem. Phys. 91, 461, eq. 20 and 21; the blocks of all walkers, which are
    independent, are pooled. The plateau begins at the first b with b^3 > 2 n (error(b) / error(1))^4, n the samples
    (Wolff 2004; Lee et al. 2011, PRE 83, 066706). Unlike there, the larger of this error and the next is
    taken: the first alone is 4 % too small. A run without a plateau gets the largest of all; where it is shorter than
    some 5 autocorrelation times, twice that covers 90 %.

    ValueError: fewer than two samples.
    """
    samples = series_SW.size
    if samples < 2:
        raise ValueError(f"{samples} sample has no error; two or more samples have one: add walkers or sweeps")
    blocks_BW, sizes, errors = series_SW, [], []
    while blocks_BW.size >= 2:
        sizes.append(2 ** len(sizes))
        errors.append(math.sqrt(blocks_BW.var(ddof=1) / blocks_BW.size))
        even = len(blocks_BW) - len(blocks_BW) % 2
        blocks_BW = 0.5 * (blocks_BW[0:even:2] + blocks_BW[1:even:2])
    for level, (size, error) in enumerate(zip(sizes, errors, strict=True)):
        if size**3 * errors[0] ** 4 > 2 * samples * error**4:
            return max(errors[level : level + 2])
    return max(errors)


def influence(values_SW: Array, log_weights_SW: Array) -> Array:
    """How far each sample moves the weighted mean m, times the number of samples; its own mean is 0.

        z = w (x - m) / mean(w)

    The linearisation of a ratio of two averages (Owen 2013, "Monte Carlo theory, methods and examples", section 9.2):
    the error of m is the error of the mean of z, with whatever correlation weights and values have.
    """
    weights_SW = normalised_weights(log_weights_SW)
    mean = (weights_SW * values_SW).sum()
    return weights_SW.size * weights_SW * (values_SW - mean)


def error_between_walkers(series_SW: Array) -> float:
    """One standard error of the mean, from the spread of the walkers' own means: sqrt(var / W). They are independent,
    so that no memory within a walker, however long, makes it too small."""
    return math.sqrt(series_SW.mean(axis=0).var(ddof=1) / series_SW.shape[1])


def weighted_mean(values_SW: Array, log_weights_SW: Array) -> Estimate:
    """The self-normalised mean sum(w x) / sum(w) over sweeps and walkers, with an error that covers.

    values_SW: real; pass the real part of local energies. log_weights_SW: from `reweighting`; zeros for plain means.
    The error is of the linearised ratio: between walkers where there are 32 or more, by blocking below. A sample of
    weight zero counts as nothing, even where its value is not a number.

    ValueError: shapes that differ, a single sample, no weight above zero, a weighted value that is not finite.
    """
    values_SW = np.asarray(values_SW, dtype=np.float64)
    log_weights_SW = np.asarray(log_weights_SW, dtype=np.float64)
    if values_SW.ndim != 2 or values_SW.shape != log_weights_SW.shape:
        found = f"values of shape {values_SW.shape} and log weights of shape {log_weights_SW.shape}"
        raise ValueError(f"{found}; both are [sweeps, walkers]; give one weight for each value")
    weights_SW = normalised_weights(log_weights_SW)
    values_SW = np.where(weights_SW > 0, values_SW, 0.0)
    if not np.isfinite(values_SW).all():
        sweep, walker = (int(place) for place in np.argwhere(~np.isfinite(values_SW))[0])
        found = f"value {values_SW[sweep, walker]} at sweep {sweep}, walker {walker}"
        raise ValueError(f"{found}; values of weighted samples are finite; look at psi there")
    moved_SW = influence(values_SW, log_weights_SW)
    many = values_SW.shape[1] >= FEWEST_WALKERS
    tau = autocorrelation_time(moved_SW)
    return Estimate(
        mean=float((weights_SW * values_SW).sum()),
        error=error_between_walkers(moved_SW) if many else blocking_error(moved_SW),
        autocorrelation_time=tau,
        r_hat=r_hat(group_means(moved_SW)),
        effective_samples=effective_sample_size(log_weights_SW) / max(1.0, 1.0 if math.isnan(tau) else tau),
    )
