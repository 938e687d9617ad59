"""How much a denoiser remembers its training images, from its losses on them and on images it has not seen."""

# N pairs of a training and a held-out image   S levels

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.busgen.optimal.curve import OptimalCurve
from models.busgen.optimal.posterior import Array
from models.common.errors import DataError

_ROOM = 0.5  # the meter reads where the optimal loss is below this share of the held-out loss


@dataclass(frozen=True)
class Memorisation:
    """The meter at each level, and over all levels where it can tell.

    share_S: 0 where training and held-out images lose the same, 1 where the training images are recalled as well as
    can be; nan where the optimal loss leaves too little room, as at large s. overall: the mean over the other levels,
    each weighing what room it has; nan where there is none. Errors are one standard error.
    """

    levels_S: Array
    share_S: Array
    error_S: Array
    overall: float
    overall_error: float

    @property
    def tells(self) -> bool:
        """Whether there is a level at which it can be read."""
        return bool(np.isfinite(self.overall))

    def surely(self, errors: float) -> float:
        """What is remembered at least, give or take so many standard errors."""
        return self.overall - errors * self.overall_error


def memorisation(train_NS: Array, held_out_NS: Array, levels_S: Array, curve: OptimalCurve) -> Memorisation:
    """How far the losses on training images have gone from those on held-out ones to the optimal loss.

        mem(s) = (L_val(s) - L_train(s)) / (L_val(s) - J*_train(s))

    train_NS, held_out_NS: as `level_losses` gives them, row by row with the same noise. curve: of the training images.
    overall: sum_s (1 - L_train / L_val) / sum_s (1 - J* / L_val). Errors are a jackknife's over the pairs, and the
    curve's by the derivative, with its levels taken to err together.
    """
    if train_NS.shape != held_out_NS.shape or len(train_NS) < 2:
        raise DataError(
            f"losses of {len(train_NS)} training and {len(held_out_NS)} held-out images do not make pairs\n"
            "fits: as many of both, at least 2, at the same levels"
        )
    optimal_S = curve.at(levels_S)
    optimal_error_S = np.interp(np.log(levels_S), np.log(curve.levels_S), curve.error_S)
    held_out_S, train_S = held_out_NS.mean(0), train_NS.mean(0)
    readable_S = optimal_S < _ROOM * held_out_S

    def means_without_one(losses_NS: Array) -> Array:
        return (losses_NS.sum(0) - losses_NS) / (len(losses_NS) - 1)

    left_held_out, left_train = means_without_one(held_out_NS), means_without_one(train_NS)
    with np.errstate(divide="ignore", invalid="ignore"):
        share_S = np.where(readable_S, _share(held_out_S, train_S, optimal_S), np.nan)
        left_NS = _share(left_held_out, left_train, optimal_S)
        slope_S = np.where(readable_S, share_S / (held_out_S - optimal_S), 0.0)
    error_S = np.where(readable_S, np.hypot(_jackknife(left_NS), slope_S * optimal_error_S), np.nan)
    if not readable_S.any():
        return Memorisation(levels_S, share_S, error_S, float("nan"), float("nan"))

    overall, room = _overall(held_out_S, train_S, optimal_S, readable_S)
    left_N, _ = _overall(left_held_out, left_train, optimal_S, readable_S)
    slope = overall / room * (optimal_error_S / held_out_S)[readable_S].sum()
    return Memorisation(
        levels_S, share_S, error_S, float(overall), float(np.hypot(_jackknife(left_N[:, None])[0], slope))
    )


def _share(held_out: Array, train: Array, optimal_S: Array) -> Array:
    return (held_out - train) / (held_out - optimal_S)


def _overall(held_out: Array, train: Array, optimal_S: Array, readable_S: NDArray[np.bool_]) -> tuple[Array, Array]:
    """The share over all readable levels, and the room that they have; levels are the last axis."""
    held_out, train, optimal_S = held_out[..., readable_S], train[..., readable_S], optimal_S[readable_S]
    room = (1.0 - optimal_S / held_out).sum(-1)
    return (1.0 - train / held_out).sum(-1) / room, room


def _jackknife(left_NS: Array) -> Array:
    """The standard error of a figure from its values with one pair left out (Efron and Stein 1981)."""
    count = len(left_NS)
    return np.sqrt((count - 1) / count * np.square(left_NS - left_NS.mean(0)).sum(0))
