"""The curves of BUSGen's report, in the order of the page; its images are in `grids.py`."""

# D draws   S levels   N images   T corners of a ROC curve

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import expit

from models.busgen.arms import LABELS
from models.busgen.findings import Found
from models.busgen.grids import image_grids, pair_grids
from models.busgen.measurement import Losses
from models.busgen.privacy.copies import CopySearch
from models.busgen.statistics.auc import Auc, roc_curve
from models.busgen.statistics.estimate import Array, Estimate
from models.busgen.statistics.patients import one_score_a_patient
from models.common.report import Curve, Drawing, Figure, Level

_MOST_POINTS = 96  # of a curve: the page draws means in place of more, which a ROC curve would be wrong with
_BANDS_FROM = 3  # draws; the interval of two is ten times as wide as they are apart
_BELOW = 30.0  # of the smallest loss: so far down the optimal one is followed
_SIGMA = "noise level sigma"


def all_figures(found: Found) -> list[Drawing]:
    """What images look like, what the generator learnt, what a diagnosis learns of it, and what it gives away."""
    drawn: list[Drawing] = [*image_grids(found), *loss_figures(found.losses), roc_figure(found)]
    if len(found.draws) > 1:
        drawn.append(draws_figure(found))
    if len(found.scaling) > 1:
        drawn.append(scaling_figure(found))
    drawn.append(reliability_figure(found))
    searches = (found.privacy.by_pixels, found.privacy.by_features)
    drawn += [distance_figure(search) for search in searches if search]
    return [*drawn, *pair_grids(found)]


def loss_figures(losses: Losses) -> list[Figure]:
    """The losses, the gap to the optimal one, and the memorisation where it can be read."""
    figures = [loss_figure(losses), gap_figure(losses)]
    return [*figures, memorisation_figure(losses)] if np.isfinite(losses.memorisation.share_S).any() else figures


def loss_figure(losses: Losses) -> Figure:
    """J, J* and what an untrained network loses, level by level."""
    train_S, error_S = losses.train_S, losses.errors_S
    seen = np.concatenate([train_S, losses.held_out_S, losses.untrained_S])
    some_S = losses.optimal_S > 0  # where it has come to zero no logarithm shows it
    return Figure(
        title="Loss of the pretrained generator",
        x_label=_SIGMA,
        y_label="squared error of an image, J",
        curves=(
            _curve("training images, J", losses.levels_S, train_S, np.maximum(train_S - error_S, 0), train_S + error_S),
            _curve("held-out images, J", losses.levels_S, losses.held_out_S),
            _curve("optimal, J*", losses.levels_S[some_S], losses.optimal_S[some_S]),
            _curve("untrained network", losses.levels_S, losses.untrained_S),
        ),
        y_range=(float(seen.min()) / _BELOW, 1.5 * float(seen.max())),
        log_x=True,
        log_y=True,
        caption="Summed over pixels; band: one standard error. J* is the least that any network can lose on the "
        "training images of a class, with their mirror images where training mirrors: to reach it is to have memorised "
        "them. The generator is told the class alone, or what else J* is of (`optimal_loss.condition`).",
    )


def gap_figure(losses: Losses) -> Figure:
    """J - J* as a share of what an untrained network loses."""
    levels_S, untrained_S = losses.levels_S, losses.untrained_S
    gap_S = losses.train_S - losses.optimal_S
    low_S, high_S = ((gap_S + sign * losses.errors_S) / untrained_S for sign in (-1, 1))
    return Figure(
        title="Gap to the optimal loss",
        x_label=_SIGMA,
        y_label="share of the untrained loss",
        curves=(
            _curve("training images, J - J*", levels_S, gap_S / untrained_S, low_S, high_S),
            _curve("held-out images, J - J*", levels_S, (losses.held_out_S - losses.optimal_S) / untrained_S),
        ),
        log_x=True,
        caption="What is left to learn, at each level in units of an untrained network's loss; band: one standard "
        f"error. The gate's {losses.gap:.1%}: the sum over levels, as a share of what an untrained network's would be.",
    )


def memorisation_figure(losses: Losses) -> Figure:
    """How far training images lose less than held-out ones, against how far they could."""
    meter = losses.memorisation
    told_S = np.isfinite(meter.share_S) & np.isfinite(meter.error_S)
    share_S, error_S = meter.share_S[told_S], meter.error_S[told_S]
    levels = [Level(label="nothing remembered", value=0.0)]
    if np.isfinite(meter.overall):
        label = f"over all levels {meter.overall:.1%} ± {meter.overall_error:.1%}"
        levels.append(Level(label=label, value=meter.overall, error=meter.overall_error))
    return Figure(
        title="Memorisation",
        x_label=_SIGMA,
        y_label="(held-out - J) / (held-out - J*)",
        curves=(_curve("memorised share", meter.levels_S[told_S], share_S, share_S - error_S, share_S + error_S),),
        levels=tuple(levels),
        log_x=True,
        caption="0: training images lose as much as held-out ones. 1: they are recalled as well as can be. Levels at "
        "which J* leaves no room are left out; band: one standard error.",
    )


def roc_figure(found: Found) -> Figure:
    """The ROC curves of the run's own draw, of the published classifier and of the diagnosis by descriptors."""
    logits = found.draws[0].logits
    curves = [_roc(found, LABELS[arm], logits[arm], one.auc) for arm, one in found.arms.items()]
    curves.append(_roc(found, "published classifier", found.classifier_N, found.classifier.auc))
    curves.append(_roc(found, "by descriptors", found.explained.logits, found.interpretable.auc))
    diagnosis = found.classifier
    return Figure(
        title="ROC curves",
        x_label="false positive rate, 1 - specificity",
        y_label="sensitivity",
        curves=(*curves, Curve(label="chance", x=(0.0, 1.0), y=(0.0, 1.0))),
        x_range=(0.0, 1.0),
        y_range=(0.0, 1.0),
        caption=f"{diagnosis.patients} test patients, {diagnosis.positives} of them positive; the run's own draw. By "
        "descriptors: the regression on what probes say, which has seen none of the few lesions.",
    )


def _roc(found: Found, label: str, logits_N: list[float] | Array, area: Auc) -> Curve:
    """Over patients, as the diagnosis is."""
    score = found.config.intervals.patient_score
    probability_P, positive_P = one_score_a_patient(
        expit(np.asarray(logits_N)), found.positive_N, found.patients_N, score
    )
    roc = roc_curve(probability_P, positive_P)
    kept_T = corners(roc.false_positive_rate_T, roc.true_positive_rate_T)
    return _curve(f"{label}, AUC {area.value:.3f}", roc.false_positive_rate_T[kept_T], roc.true_positive_rate_T[kept_T])


def corners(x_T: Array, y_T: Array) -> np.ndarray:
    """Which points the line needs: its ends and where it turns, every so many of these where they are too many."""
    across, up = np.diff(x_T), np.diff(y_T)
    turns = np.abs(across[:-1] * up[1:] - across[1:] * up[:-1]) > 1e-15
    return _thinned(np.flatnonzero(np.concatenate([[True], turns, [True]])))


def _thinned(places: np.ndarray, most: int = _MOST_POINTS) -> np.ndarray:
    """At most so many of these, the first and the last among them."""
    count = min(most, len(places))
    return places[np.linspace(0, len(places) - 1, count).round().astype(np.int64)]


def draws_figure(found: Found) -> Figure:
    """The AUC of each arm against that of few real images, draw by draw."""
    real = tuple(found.aucs["real"])
    ends = min(real), max(real)
    return Figure(
        title="AUC by draw of the few lesions",
        x_label=f"AUC, {LABELS['real']}",
        y_label="AUC over patients",
        curves=(
            Curve(label=f"{LABELS['real']}, mean {found.over_draws('real').value:.3f}", x=ends, y=ends),
            *(
                Curve(
                    label=f"{LABELS[arm]}, mean {found.over_draws(arm).value:.3f}",
                    x=real,
                    y=tuple(aucs),
                    style="points",
                )
                for arm, aucs in found.aucs.items()
                if arm != "real"
            ),
        ),
        caption="Points above each other are of one draw, and share its few lesions. Above the line: better than few "
        "real alone. The test patients are the same for all.",
    )


def scaling_figure(found: Found) -> Figure:
    """The AUC of few real images beside more and more generated ones."""
    sizes = list(found.scaling)
    bands = len(found.draws) >= _BANDS_FROM
    curve = _with_band(LABELS["both"], sizes, list(found.scaling.values()), bands=bands)
    many = [found.over_draws("many_real")] if "many_real" in found.aucs else []
    values = [*curve.y, *curve.low, *curve.high, *(one.value for one in many)]
    room = 0.08 * (max(values) - min(values)) or 0.01
    draws = len(found.draws)
    told = f"Mean of {draws} draws, band: {found.config.intervals.confidence:.0%} interval (Student)." if bands else (
        f"Mean of {draws} draw{'s' if draws > 1 else ''}, too few for a band."
    )  # fmt: skip
    return Figure(
        title="AUC by number of generated images",
        x_label="generated images beside the few real ones",
        y_label="AUC over patients",
        curves=(curve,),
        levels=tuple(Level(label=f"{LABELS['many_real']}, {one.value:.3f}", value=one.value) for one in many),
        y_range=(max(0.0, min(values) - room), min(1.0, max(values) + room)),
        caption=f"0: few real alone. {told}",
    )


def _with_band(label: str, x: Sequence[float], estimates: Sequence[Estimate], *, bands: bool) -> Curve:
    low, high = ([getattr(one, end) for one in estimates] if bands else () for end in ("low", "high"))
    return Curve(label=label, x=tuple(x), y=tuple(one.value for one in estimates), low=tuple(low), high=tuple(high))


def reliability_figure(found: Found) -> Figure:
    """What the published classifier's probabilities mean."""
    diagnosis = found.classifier
    return Figure(
        title="Reliability of the published classifier",
        x_label="probability that it gives",
        y_label="share that is positive",
        curves=(
            Curve(
                label="patients of a bin",
                x=tuple(part.mean_probability for part in diagnosis.bins),
                y=tuple(part.share.value for part in diagnosis.bins),
                low=tuple(part.share.low for part in diagnosis.bins),
                high=tuple(part.share.high for part in diagnosis.bins),
                style="points",
            ),
            Curve(label="calibrated", x=(0.0, 1.0), y=(0.0, 1.0), style="fit"),
        ),
        x_range=(0.0, 1.0),
        y_range=(0.0, 1.0),
        caption="On the line a probability means what it says; bars: Wilson's intervals. Mean distance from it, by "
        f"patients: {diagnosis.calibration_error:.3f}.",
    )


def distance_figure(search: CopySearch) -> Figure:
    """How near generated and held-out images come to the training: their empirical distribution functions."""
    of_generated, of_held_out = search.generated.distance_N, search.held_out.distance_N
    return Figure(
        title=f"Distance to the nearest training image, by {search.measure}",
        x_label="distance",
        y_label="share of images below it",
        curves=(
            _distribution("generated", of_generated),
            _distribution("held-out real", of_held_out),
            Curve(label="called a copy left of this", x=(search.threshold,) * 2, y=(0.0, 1.0)),
        ),
        y_range=(0.0, 1.0),
        caption="Left of the other curve, generated images are nearer to the training than fresh real images are; "
        "smooth images are so to any others, which the table of copies accounts for.",
    )


def _distribution(label: str, values_N: Array) -> Curve:
    """The share of the values at or below each, in steps."""
    kept = _thinned(np.arange(len(values_N)), _MOST_POINTS // 2)
    x, above = np.sort(values_N)[kept], (kept + 1) / len(values_N)
    below = np.append(0.0, above[:-1])
    return _curve(label, np.repeat(x, 2), np.stack([below, above], axis=1).ravel())


def _curve(label: str, x: Array, y: Array, low: Array | None = None, high: Array | None = None) -> Curve:
    below, above = (() if end is None else tuple(end.tolist()) for end in (low, high))
    return Curve(label=label, x=tuple(x.tolist()), y=tuple(y.tolist()), low=below, high=above)
