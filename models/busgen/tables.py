"""The tables of BUSGen's report; those about the images themselves are in `data_tables.py`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from models.busgen.arms import LABELS
from models.busgen.data_tables import data_tables
from models.busgen.findings import Found
from models.busgen.images.descriptors import DESCRIPTORS
from models.busgen.measurement import Distances
from models.busgen.privacy.copies import NEAREST, CopySearch, Share
from models.busgen.statistics.comparison import Measured
from models.busgen.statistics.diagnosis import Diagnosis
from models.busgen.statistics.estimate import Estimate
from models.busgen.tailor.combination import OVERALL
from models.common.report import Table


def headline(found: Found) -> Table:
    """What classifiers learn from few real images, from generated ones, and from both."""
    intervals, task = found.config.intervals, found.config.generation.adaptation
    known = [
        f"{shots or 'all'} {label}" for label, shots in zip(task.labels, (task.shots, task.negative_shots), strict=True)
    ]
    rows = []
    for arm in found.aucs:
        gain = "" if arm == "real" else _signed(found.gain(arm, "real"))
        rows.append(
            (
                LABELS[arm],
                _estimate(found.over_draws(arm)),
                gain,
                _estimate(found.arms[arm].sensitivity, 2),
                str(len(found.draws)),
            )
        )
    several = len(found.draws) > 1
    over = f"{intervals.confidence:.0%} intervals (Student) over draws" if several else "one draw has no interval"
    return Table(
        title="Classifiers on the same test patients",
        columns=(
            "trained on",
            "mean AUC",
            f"above {LABELS['real']}",
            f"sensitivity at {intervals.specificity:.0%} specificity",
            "draws",
        ),
        rows=tuple(rows),
        caption=f"AUC over {found.classifier.patients} patients, {found.classifier.positives} of them positive. A draw "
        f"is of {' and '.join(known)} images, with an adaptation of its own: {over}, the gain in pairs. The "
        "sensitivity is of draw 0, with a bootstrap's interval over patients.",
    )


def all_tables(found: Found) -> list[Table]:
    """Diagnosis, likeness, privacy, explanation, and the images that all of it rests on."""
    return [
        diagnosis_table(found),
        calibration_table(found),
        distance_table(found.distances),
        privacy_table(found),
        memory_table(found),
        descriptor_table(found),
        *data_tables(found),
    ]


def diagnosis_table(found: Found) -> Table:
    """How well each classifier tells the labels apart."""
    intervals, paired = found.config.intervals, found.paired
    return Table(
        title="Diagnosis in detail",
        columns=(
            "classifier",
            "AUC",
            f"sensitivity at {intervals.specificity:.0%} specificity",
            f"specificity at {intervals.sensitivity:.0%} sensitivity",
        ),
        rows=tuple(
            (name, _estimate(one.auc), _estimate(one.sensitivity, 2), _estimate(one.specificity, 2))
            for name, one in _diagnoses(found).items()
        ),
        caption=f"Draw 0; intervals: of the AUC DeLong's, of the others a bootstrap's, over patients. "
        f"{LABELS['both']} less {LABELS['real']}, in pairs: AUC {_signed(paired)}, p = {paired.p_value:.2g} (DeLong).",
    )


def calibration_table(found: Found) -> Table:
    """What the probabilities of each classifier mean."""
    return Table(
        title="Calibration",
        columns=("classifier", "Brier score", "calibration slope", "calibration error"),
        rows=tuple(
            (name, _estimate(one.brier), _slope(one), f"{one.calibration_error:.3f}")
            for name, one in _diagnoses(found).items()
        ),
        caption="Slope: 1 where probabilities are calibrated, below 1 where they are too sure; Wald's interval. Error: "
        "mean distance of a bin's share of positives from its probability.",
    )


def _diagnoses(found: Found) -> dict[str, Diagnosis]:
    told = {LABELS[arm]: one for arm, one in found.arms.items()}
    return told | {"published classifier": found.classifier, "by descriptors": found.interpretable}


def _slope(one: Diagnosis) -> str:
    return "none: parted without a fault" if one.recalibration is None else _estimate(one.recalibration.slope, 2)


def distance_table(distances: Distances) -> Table:
    """How far generated images are from held-out ones, extractor by extractor."""
    rows: list[tuple[str, ...]] = []
    for name, adapted in distances.adapted.items():
        unadapted = distances.unadapted[name]
        for measure, measured in adapted.measures.items():
            other = unadapted.measures[measure]
            floor = _spread(measured.floor, measured.floor_error)
            rows.append((measure, _measured(measured), _measured(other), floor, str(adapted.images_a_side)))
        at_infinity = (_number(one.frechet_at_infinity) for one in (adapted, unadapted))
        rows.append((f"FD-{name}, to infinitely many images", *at_infinity, "", ""))
        kernel = (_spread(one.kernel, one.kernel_error) for one in (adapted, unadapted))
        rows.append((f"KD-{name}, of all images", *kernel, "", ""))
    return Table(
        title="Distances to held-out images",
        columns=("measure", "adapted", "unadapted", "real to real", "images a side"),
        rows=tuple(rows),
        caption="FD and KD, Fréchet's and the kernel's: less is nearer. Precision, recall, density, coverage: best "
        "near what real to real has. ±: spread over random halves of the real images. A name ends with what the "
        "features are made by; distances of two such do not compare.",
    )


def privacy_table(found: Found) -> Table:
    """What the search for copies says, by each measure of distance."""
    searches = [search for search in (found.privacy.by_pixels, found.privacy.by_features) if search]
    lines: dict[str, Callable[[CopySearch], str]] = {
        "a copy is nearer than": lambda one: f"{one.threshold:.3g}",
        "held-out images called copies": lambda one: _share(one.false_alarms),
        "generated images called copies": lambda one: _share(one.copied),
        "planted copies found": lambda one: f"{one.planted_found} of {one.planted}",
        f"distance of the nearest {NEAREST:.0%}, of held-out's": lambda one: f"{one.distance_of_nearest:.3f}",
        "generated images nearer to training than to held-out": lambda one: _estimate(one.nearer) if one.nearer else "",
        "nearest over second nearest, median of generated": lambda one: f"{np.median(one.generated.ratio_N):.3f}",
        "nearest over second nearest, median of held-out": lambda one: f"{np.median(one.held_out.ratio_N):.3f}",
    }
    dropped = sum(draw.dropped for draw in found.draws)
    return Table(
        title="Copies",
        columns=("", *(f"by {search.measure}" for search in searches)),
        rows=tuple((name, *(tell(search) for search in searches)) for name, tell in lines.items()),
        caption=f"The threshold lets {searches[0].asked_false_alarms:.1%} of real images pass for copies of another "
        "patient's. Nearer to training than to as many held-out images of the same kinds: half of them, by chance. "
        f"{dropped} image{'' if dropped == 1 else 's'} came too near while generating, over all draws, and "
        f"{'was' if dropped == 1 else 'were'} dropped.",
    )


def memory_table(found: Found) -> Table:
    """What the losses give away of who was trained on."""
    losses = found.losses
    meter, membership = losses.memorisation, losses.membership
    known = np.isfinite(meter.overall)
    remembered = f"{meter.overall:.1%} ± {meter.overall_error:.1%}" if known else "cannot be told: J* leaves no room"
    return Table(
        title="What the losses give away",
        columns=("", "value"),
        rows=(
            ("membership, AUC over images", _estimate(membership.of_images)),
            ("membership, AUC over patients", _estimate(membership.of_patients)),
            ("memorised share", remembered),
        ),
        caption="Membership: the chance that the loss is lower on an image of the training than on a held-out one; 0.5 "
        "tells nothing. Images of a patient are alike, so that the interval of patients holds. ±: one standard error.",
    )


def descriptor_table(found: Found) -> Table:
    """The regression's weights, and how well the probes see what it reads."""
    weights: dict[str, list[str]] = {}
    for name, weight in found.explained.weights.items():
        attribute, _, value = name.partition(" ")
        weights.setdefault(attribute, []).append(f"{_words(value)} {weight:+.2f}".strip())
    right = found.explained.probes_right
    rows = []
    for attribute in dict.fromkeys([*weights, *right]):
        against = "" if attribute == OVERALL else _words(DESCRIPTORS[attribute][0])
        share = right.get(attribute, float("nan"))
        rows.append(
            (
                _words(attribute),
                f"{share:.1%}" if np.isfinite(share) else "",
                against,
                ", ".join(weights.get(attribute, [])),
            )
        )
    return Table(
        title="The diagnosis by descriptors",
        columns=("descriptor", "named right", "against", "weights"),
        rows=tuple(rows),
        caption="Named right: share of the test images with a known value whose value the probe names; empty where "
        "none is known. Weights: what a value adds to the logit, against the descriptor's first one. Overall: the "
        "probes' own logit of the label.",
    )


def _words(name: str) -> str:
    return name.replace("_", " ")


def _share(share: Share) -> str:
    return f"{share.found} of {share.of}, {share.value:.1%} [{share.low:.1%}, {share.high:.1%}]"


def _measured(measured: Measured) -> str:
    return _spread(measured.value, measured.error)


def _spread(value: float, error: float) -> str:
    """Such as "2.43 ± 0.2"; an error that is rounding alone is none."""
    return f"{_number(value)} ± {_number(error, 1) if error > 1e-9 * abs(value) else '0'}"


def _number(value: float, digits: int = 3) -> str:
    """With so many digits, and without a power of ten from 10 up."""
    return f"{value:.{digits}g}" if abs(value) < 10.0 else f"{value:,.{max(0, digits - 2)}f}"


def _estimate(one: Estimate, decimals: int = 3) -> str:
    """Such as "0.812 [0.790, 0.834]", without an interval where it has no width."""
    value, low, high = (f"{number:.{decimals}f}" for number in (one.value, one.low, one.high))
    return value if one.low == one.high else f"{value} [{low}, {high}]"


def _signed(one: Estimate) -> str:
    value, low, high = (f"{number:+.3f}" for number in (one.value, one.low, one.high))
    return value if one.low == one.high else f"{value} [{low}, {high}]"
