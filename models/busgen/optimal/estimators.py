"""The optimal loss J*(s) of a data set: exact, or with a random subset in the posterior (Xu et al. 2025, section 3)."""

# M draws   N images   L images of a subset   D numbers of an image   S levels   G subsets

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.busgen.optimal.posterior import Array, DrawLosses, Memory, Samples, draw_losses
from models.common.errors import ConfigError

_MOST_FOR_CENTRE = 8192  # images; the centre only takes noise away, so it need not be exact


@dataclass(frozen=True)
class Estimate:
    """J* at each level, one standard error, and the other forms that there are.

    residual_S: E||x - m||^2. Exact: a second estimate. SNIS: an upper bound of J*. None with DOL and cDOL, where the
    posterior knows the draw's own image.
    """

    j_star_S: Array
    error_S: Array
    paired_S: Array
    paired_error_S: Array
    residual_S: Array | None
    residual_error_S: Array | None

    @classmethod
    def joined(cls, parts: Sequence[Estimate]) -> Estimate:
        """All levels of these, in order."""

        def column(name: str) -> Array:
            return np.concatenate([getattr(part, name) for part in parts])

        with_residual = all(part.residual_S is not None for part in parts)
        return cls(
            column("j_star_S"),
            column("error_S"),
            column("paired_S"),
            column("paired_error_S"),
            column("residual_S") if with_residual else None,
            column("residual_error_S") if with_residual else None,
        )

    def as_json(self) -> dict[str, list[float] | None]:
        """The other forms; None where there is none."""
        forms = {name: getattr(self, f"{name}_S") for name in ("paired", "paired_error", "residual", "residual_error")}
        return {name: None if values is None else values.tolist() for name, values in forms.items()}


@dataclass(frozen=True)
class Sampling:
    """How many draws, of which seed, and how much memory they may take."""

    draws: int
    seed: int
    memory_gib: float

    def rows(self, images: int) -> NDArray[np.int64]:
        """The image of each draw: every image equally often, up to one, in random order."""
        generator = np.random.default_rng([self.seed, 0])
        turns = -(-self.draws // images)
        return np.concatenate([generator.permutation(images) for _ in range(turns)])[: self.draws]

    def noise(self) -> np.random.Generator:
        """Gives the noise of the draws in their order, however many at once."""
        return np.random.default_rng([self.seed, 1])

    def subsets(self) -> np.random.Generator:
        """Gives the subsets in their order."""
        return np.random.default_rng([self.seed, 2])


def exact(samples: Samples, levels_S: Sequence[float], sampling: Sampling) -> Estimate:
    """J* with all images in the posterior, in O(M N D) at each level; never negative.

        J*_s = E tr Cov[x0 | x_t]                                                   (Xu et al. 2025, Theorem 1)

    Errors are over draws, taken as independent; that images come equally often makes them a little too large.
    """
    count, numbers = len(samples), samples[np.zeros(1, np.int64)].shape[1]
    memory = Memory.of(sampling.memory_gib, count, numbers)
    images_ND = samples[np.arange(count)]
    images_ND -= images_ND.mean(0, dtype=torch.float64).float()  # in place: rows by number are a copy
    noise, found = sampling.noise(), []
    for rows in _pieces(sampling.rows(count), memory.draws(count)):
        own_MD, noise_MD = images_ND[torch.from_numpy(rows).to(images_ND.device)], _normal(noise, rows, images_ND)
        found.append(draw_losses(own_MD, noise_MD, images_ND, levels_S, images_at_once=memory.images))
    draws = DrawLosses.joined(found)
    return Estimate(
        *_over_draws(draws.spread_SM),
        *_over_draws(draws.paired_SM),
        *_over_draws(draws.residual_SM),
    )


def snis(
    samples: Samples, levels_S: Sequence[float], sampling: Sampling, *, subset: int, subset_count: int
) -> Estimate:
    """J* with a random subset of L in the posterior, drawn apart from the images that are noised.

    Self-normalised importance sampling. Where s is small the nearest image is usually not in the subset: far too high.
    """
    draws_G = list(_by_subset(samples, levels_S, sampling, subset, subset_count, own_log_weight=None))
    return Estimate(
        *_over_subsets([draws.paired_SM for draws in draws_G]),
        *_over_subsets([draws.paired_SM for draws in draws_G]),
        *_over_subsets([draws.residual_SM for draws in draws_G]),
    )


def cdol(
    samples: Samples,
    levels_S: Sequence[float],
    sampling: Sampling,
    *,
    subset: int,
    subset_count: int,
    c: float,
) -> Estimate:
    """J* with the noised image and L - 1 random others in the posterior, the former weighing 1/C (corrected DOL).

        K_self -> K_self / C,   log-kernel: 0 - log C

    C about 4 N / L is the paper's. 1 is DOL, which knows the answer too often: far too low. Infinity leaves the
    image out: SNIS of the L - 1 others. Errors are between subsets.
    """
    draws_G = list(_by_subset(samples, levels_S, sampling, subset - 1, subset_count, own_log_weight=-math.log(c)))
    paired = _over_subsets([draws.paired_SM for draws in draws_G])
    return Estimate(*paired, *paired, None, None)


def estimate(
    samples: Samples,
    levels_S: Sequence[float],
    sampling: Sampling,
    *,
    estimator: Literal["exact", "snis", "dol", "cdol"],
    subset: int,
    subset_count: int,
    multiple: float,
) -> Estimate:
    """J* by the estimator of this name; exact where the subset would be the whole set.

    multiple: C of cDOL in units of N / L.
    """
    if estimator == "exact" or subset >= len(samples):
        return exact(samples, levels_S, sampling)
    if estimator == "snis":
        return snis(samples, levels_S, sampling, subset=subset, subset_count=subset_count)
    c = 1.0 if estimator == "dol" else max(1.0, multiple * len(samples) / subset)
    return cdol(samples, levels_S, sampling, subset=subset, subset_count=subset_count, c=c)


def _by_subset(
    samples: Samples,
    levels_S: Sequence[float],
    sampling: Sampling,
    others: int,
    subset_count: int,
    *,
    own_log_weight: float | None,
) -> Iterator[DrawLosses]:
    """The draws in equal parts, each against a random subset of its own."""
    count = len(samples)
    if not 1 <= others <= count:
        raise ConfigError(f"{others} images beside a draw's own, out of {count}; fits: subset from 2 to {count}")
    if sampling.draws < 2 * subset_count:
        raise ConfigError(f"{sampling.draws} draws for {subset_count} subsets; fits: at least {2 * subset_count}")
    centre_D = samples[_evenly(count, _MOST_FOR_CENTRE)].mean(0, dtype=torch.float64).float()
    memory = Memory.of(sampling.memory_gib, others, len(centre_D))
    noise, choose = sampling.noise(), sampling.subsets()
    for part in np.array_split(sampling.rows(count), subset_count):
        chosen = choose.choice(count, others, replace=False)
        images_LD = samples[chosen] - centre_D
        found = []
        for rows in _pieces(part, memory.draws(others)):
            itself = torch.from_numpy(rows[:, None] == chosen).to(images_LD.device)
            found.append(
                draw_losses(
                    samples[rows] - centre_D,
                    _normal(noise, rows, images_LD),
                    images_LD,
                    levels_S,
                    own_log_weight=own_log_weight,
                    itself_MN=None if own_log_weight is None else itself,
                    images_at_once=memory.images,
                )
            )
        yield DrawLosses.joined(found)


def _evenly(count: int, most: int) -> NDArray[np.int64]:
    """At most so many rows, evenly spaced."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)


def _pieces(rows: NDArray[np.int64], at_once: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(rows), at_once):
        yield rows[start : start + at_once]


def _normal(generator: np.random.Generator, rows: NDArray[np.int64], like: Tensor) -> Tensor:
    noise = generator.standard_normal((len(rows), like.shape[1]), dtype=np.float32)
    return torch.from_numpy(noise).to(like.device)


def _over_draws(values_SM: Array) -> tuple[Array, Array]:
    """Mean and standard error over independent draws."""
    return values_SM.mean(1), values_SM.std(1, ddof=1) / math.sqrt(values_SM.shape[1])


def _over_subsets(values_G: list[Array]) -> tuple[Array, Array]:
    """Mean over all draws, and its standard error from the spread between subsets.

    Draws that share a subset are not independent, so the spread between draws would be too small an error.
    """
    mean_S = np.concatenate(values_G, axis=1).mean(1)
    means_SG = np.stack([values_SM.mean(1) for values_SM in values_G], axis=1)
    return mean_S, means_SG.std(1, ddof=1) / math.sqrt(len(values_G))
