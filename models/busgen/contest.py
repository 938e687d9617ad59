"""Two versions' classifiers on the same images: which tells the labels apart better."""

# N images   K scores, of candidate and champion   P patients

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from models.busgen.contest_config import BusgenContest
from models.busgen.diagnosis.classifier import predict, read_classifier
from models.busgen.images.audit import Candidate
from models.busgen.images.cases import Case
from models.busgen.images.dataset import Images
from models.busgen.images.prepare import candidate_of
from models.busgen.images.splits import patient_of
from models.busgen.phantom.scans import LABELS, Patient, cases_of, scans_of
from models.busgen.phantom_config import PhantomConfig
from models.busgen.statistics.auc import delong_covariance, error_of_difference
from models.busgen.statistics.patients import one_score_a_patient
from models.busgen.study import test_rows
from models.common.contest import HELD_OUT, SIDES, Contest, Estimate
from models.common.contract import World
from models.common.errors import DataError

CLASSIFIER = "classifier"  # the part of a version that diagnoses
_AT_ONCE = 50  # phantoms of a shard
_SEEDS_FROM = 10**15  # of new phantoms: no data's seed is as large
_MOST_DRAWN = 200  # times as many phantoms are looked through for those of a label


class NewPhantom(NamedTuple):
    """A phantom that no training has seen: of the origin at this place, of this label, the one of this number."""

    place: int
    label: str
    number: int


@dataclass(frozen=True)
class Diagnosed:
    """What both classifiers say of some images: the probability of the positive label."""

    patients_N: list[str]
    positive_N: np.ndarray
    probability_KN: np.ndarray


def shards(config: BusgenContest, inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
    """The test split in one piece; or new phantoms, so many at once."""
    if config.has_files:
        return [{"split": "test"}]
    phantoms = new_phantoms(config)
    return [{"phantoms": phantoms[first : first + _AT_ONCE]} for first in range(0, len(phantoms), _AT_ONCE)]


def process(config: BusgenContest, shard: dict[str, Any], world: World) -> Diagnosed:
    """What both say of the shard's images."""
    if config.has_files:
        cases, pixels_NHW = _test_images(config, world.inputs[HELD_OUT])
    else:
        cases, pixels_NHW = images_of_phantoms(config, [NewPhantom(*one) for one in shard["phantoms"]])
    logits_KN = np.stack(
        [predict(read_classifier(world.inputs[side] / CLASSIFIER, world.device), pixels_NHW)["label"] for side in SIDES]
    )
    positive_N = np.array([case.label(_labels(config)) == config.data.splits.positive for case in cases])
    return Diagnosed([patient_of(case) for case in cases], positive_N, 1.0 / (1.0 + np.exp(-logits_KN)))


def collect(config: BusgenContest, parts: Sequence[Diagnosed], inputs: Mapping[str, Path], folder: Path) -> None:
    """Writes who won, over patients: images of one are no independent cases."""
    patients_N = [patient for part in parts for patient in part.patients_N]
    positive_N = np.concatenate([part.positive_N for part in parts])
    probability_KN = np.concatenate([part.probability_KN for part in parts], axis=1)
    how = config.intervals.patient_score
    scored = [one_score_a_patient(probability_N, positive_N, patients_N, how) for probability_N in probability_KN]
    (candidate_P, positive_P), (champion_P, _) = scored
    area_K, covariance_KK = delong_covariance(np.stack([candidate_P, champion_P]), positive_P)
    error = error_of_difference(candidate_P, champion_P, positive_P)
    positive, negative = _labels(config)
    Contest(
        metric=f"area under the ROC curve, {positive} against {negative}",
        items=len(positive_P),
        candidate=Estimate(value=float(area_K[0]), error=math.sqrt(covariance_KK[0, 0])),
        champion=Estimate(value=float(area_K[1]), error=math.sqrt(covariance_KK[1, 1])),
        gain=Estimate(value=float(area_K[0] - area_K[1]), error=error),
        margin=config.margin,
    ).write(folder)


def _labels(config: BusgenContest) -> tuple[str, str]:
    return config.data.splits.positive, config.data.splits.negative


def _test_images(config: BusgenContest, folder: Path) -> tuple[list[Case], np.ndarray]:
    images = Images.read(folder)
    rows = test_rows(images, *_labels(config))
    return [images.cases[row] for row in rows], np.asarray(images.pixels_NHW[rows])


def images_of_phantoms(config: BusgenContest, phantoms: Sequence[NewPhantom]) -> tuple[list[Case], np.ndarray]:
    """The images of these phantoms, all frames of each, as training has them."""
    views = [
        candidate.view
        for phantom in phantoms
        for scan in scans_of(*_drawn_by(config, phantom))
        if isinstance(candidate := candidate_of(scan, config.data), Candidate)
    ]
    return [view.case for view in views], np.stack([view.pixels_SS for view in views])


def new_phantoms(config: BusgenContest) -> list[NewPhantom]:
    """As many of either label; within a label, origins and kinds come in the proportion that the data have them in.

    Raises DataError where one of the labels does not come.
    """
    wanted, found = Counter(dict.fromkeys(_labels(config), config.patients)), list[NewPhantom]()
    for phantom in itertools.islice(_in_turn(config), _MOST_DRAWN * config.patients):
        label = cases_of(*_drawn_by(config, phantom))[0].label(_labels(config))
        if wanted[label] > 0:
            wanted[label] -= 1
            found.append(phantom)
        if not wanted.total():
            return found
    missing = ", ".join(label for label, count in wanted.items() if count)
    raise DataError(f"the phantoms have too few patients of {missing}\nfits: origins that make both labels")


def _in_turn(config: BusgenContest) -> Iterator[NewPhantom]:
    """Phantoms without end, from each origin and of each kind as often as the data have them."""

    def turns(place: int, label: str, count: int) -> Iterator[tuple[float, NewPhantom]]:
        for number in itertools.count():
            yield (number + 0.5) / count, NewPhantom(place, label, number)

    kinds = [
        turns(place, label, count)
        for place, origin in enumerate(config.data.origins)
        for label in LABELS
        if (count := getattr(origin, label))
    ]
    return (phantom for _, phantom in heapq.merge(*kinds))


def _drawn_by(config: BusgenContest, phantom: NewPhantom) -> tuple[PhantomConfig, int, Patient]:
    """What a phantom is made from, its seed among them: the contest's, and none that data have."""
    origins = config.data.origins
    origin = origins[phantom.place]
    assert isinstance(origin, PhantomConfig), "files have a test split"
    seed = _SEEDS_FROM + config.seed * len(origins) + phantom.place
    return origin, seed, Patient(phantom.label, phantom.number)
