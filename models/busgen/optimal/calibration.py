"""Which C suits cDOL on these images: compared with the exact loss on as many of them as that can be had for."""

# S levels   C candidates

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from models.busgen.optimal.estimators import Sampling, cdol, exact
from models.busgen.optimal.posterior import Array, Samples

PAPERS_MULTIPLE = 4.0  # C in units of N/L
MULTIPLES = (1.0, PAPERS_MULTIPLE, 16.0, 64.0, 256.0)  # narrow clusters far apart want more than the paper says


@dataclass(frozen=True)
class Calibration:
    """cDOL against exact, where the same share of the images is in the posterior.

    images, subset: N and L of the comparison. multiples: of N/L, the C that were tried. relative_error: of each, root
    mean square over the levels where the exact loss is from 1 to 90 % of the largest; None where there is no such
    level. dol_error: the same for C = 1. best: the multiple with the smallest, or the paper's.
    """

    images: int
    subset: int
    multiples: tuple[float, ...]
    relative_error: tuple[float | None, ...]
    dol_error: float | None
    best: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def calibrate_c(
    samples: Samples,
    levels_S: Sequence[float],
    sampling: Sampling,
    *,
    subset: int,
    subset_count: int,
    images: int,
    multiples: Sequence[float] = MULTIPLES,
) -> Calibration:
    """cDOL with several C beside the exact loss, on so many of the images drawn at random.

    subset: L of the whole set; here as large a share of the images as it is there. The draws are the same for all.
    """
    count = len(samples)
    images = min(images, count)
    share = max(2, round(subset / count * images))
    chosen = np.random.default_rng([sampling.seed, 3]).choice(count, images, replace=False)
    few = samples[np.sort(chosen)]
    sampling = replace(sampling, draws=min(sampling.draws, 4 * images))
    truth_S = exact(few, levels_S, sampling).j_star_S

    def error(c: float) -> float | None:
        found = cdol(few, levels_S, sampling, subset=share, subset_count=subset_count, c=c)
        return _relative_error(found.j_star_S, truth_S)

    errors = tuple(error(max(1.0, multiple * images / share)) for multiple in multiples)
    known = {value: multiple for multiple, value in zip(multiples, errors, strict=True) if value is not None}
    best = known[min(known)] if known else PAPERS_MULTIPLE
    return Calibration(images, share, tuple(multiples), errors, error(1.0), best)


def _relative_error(found_S: Array, truth_S: Array) -> float | None:
    among = (truth_S > 0.01 * truth_S.max()) & (truth_S < 0.9 * truth_S.max())
    if not among.any():
        return None
    return float(np.sqrt(np.mean(np.square(found_S[among] / truth_S[among] - 1.0))))
