"""The Fréchet distance between two sets of features, as if both were normally distributed."""

# N, M images of either set   F features   R directions in which a set varies, at most F and N - 1

from __future__ import annotations

import numpy as np

from models.busgen.statistics.estimate import Array
from models.common.errors import DataError


def frechet_distance(first_NF: np.ndarray, second_MF: np.ndarray) -> float:
    """The squared Fréchet distance of the two fitted normal distributions (Dowson and Landau 1982).

        |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^1/2,     S = cov, over n - 1

    With S = C C' the last trace is the sum of the singular values of C1' C2, which are the roots of the eigenvalues of
    the symmetric C1' S2 C1. No root of a product of covariances is taken, which fails with fewer images than features.
    """
    first_NF, second_MF = two_sets(first_NF, second_MF)
    first_FR, second_FR = covariance_root(first_NF), covariance_root(second_MF)
    means = float(np.sum((first_NF.mean(axis=0) - second_MF.mean(axis=0)) ** 2))
    overlap = np.linalg.svd(first_FR.T @ second_FR, compute_uv=False).sum()
    return max(0.0, means + float(np.sum(first_FR**2) + np.sum(second_FR**2) - 2 * overlap))


def frechet_at_infinity(first_NF: np.ndarray, second_MF: np.ndarray, sizes: int, rng: np.random.Generator) -> float:
    """The distance that straight lines through those of smaller samples tell for infinitely many images.

        FD(n) = FD(inf) + slope / n    (Chong and Forsyth 2020, eq. 6)

    from random samples of n images, from half to all of the smaller set, equally far apart in 1/n. Unlike the paper's,
    which has 50,000 real images, both sets are thinned, as few images bias either side. It may be below 0 by chance.
    It is too large where images are not several times as many as features: there the line bends.
    """
    first_NF, second_MF = two_sets(first_NF, second_MF)
    most = min(len(first_NF), len(second_MF))
    inverse_sizes = np.linspace(1 / most, 2 / most, sizes)
    counts = np.maximum(2, np.rint(1 / inverse_sizes).astype(int))
    distances = [
        frechet_distance(rng.permutation(first_NF)[:count], rng.permutation(second_MF)[:count]) for count in counts
    ]
    lines_S2 = np.stack([np.ones(sizes), 1 / counts], axis=1)
    return float(np.linalg.lstsq(lines_S2, np.array(distances))[0][0])


def covariance_root(features_NF: Array) -> Array:
    """C with C C' = cov, [F, R]: the centred images, or where they are many the eigenvectors of the covariance."""
    count, features = features_NF.shape
    centred_NF = features_NF - features_NF.mean(axis=0)
    if count <= features:
        return centred_NF.T / np.sqrt(count - 1)
    variance_F, vectors_FF = np.linalg.eigh(centred_NF.T @ centred_NF / (count - 1))
    return vectors_FF * np.sqrt(np.maximum(variance_F, 0.0))


def two_sets(first_NF: np.ndarray, second_MF: np.ndarray) -> tuple[Array, Array]:
    """Both in float64; raises DataError where they do not have the same finite features of two images or more."""
    first, second = np.asarray(first_NF, dtype=np.float64), np.asarray(second_MF, dtype=np.float64)
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise DataError(f"features are {first.shape} and {second.shape}\nfits: images x features, as many of these")
    if min(len(first), len(second)) < 2:
        raise DataError(f"features of {len(first)} and {len(second)} images\nfits: two or more on either side")
    for features in (first, second):
        if bad := int((~np.isfinite(features)).any(axis=1).sum()):
            raise DataError(f"{bad} of {len(features)} images have features that are not finite; mend the extractor")
    return first, second
