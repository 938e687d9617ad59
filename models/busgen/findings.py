"""All that an evaluation found, in one place, and the numbers of it that `--json` prints."""

# D draws   N test images   S levels

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import expit

from models.busgen.batches import training_rows
from models.busgen.config import EvaluationStage
from models.busgen.images.dataset import Images
from models.busgen.images.splits import patient_of
from models.busgen.measurement import PROBES, Distances, Explained, Losses
from models.busgen.privacy.copies import Privacy
from models.busgen.statistics.auc import Difference, area
from models.busgen.statistics.diagnosis import Diagnosis, diagnosis, patient_auc_difference
from models.busgen.statistics.estimate import Array, Estimate, difference_over_seeds
from models.busgen.statistics.patients import one_score_a_patient
from models.busgen.study import Draw
from models.common.metrics import mean_interval


@dataclass(frozen=True)
class Found:
    """What the evaluation has of a run.

    positive_N, patients_N: of the test images, in the order of the study's logits. classifier_N: the logits of the
    published classifier.
    """

    config: EvaluationStage
    seed: int
    images: Images
    generated: Images
    test_rows_N: np.ndarray
    classifier_N: Array
    draws: list[Draw]
    losses: Losses
    distances: Distances
    privacy: Privacy
    explained: Explained

    @cached_property
    def positive_N(self) -> np.ndarray:
        task = self.config.generation.adaptation
        return self.images.take(self.test_rows_N).are(task.positive, task.labels)

    @cached_property
    def patients_N(self) -> list[str]:
        return [patient_of(self.images.cases[row]) for row in self.test_rows_N]

    @cached_property
    def training_rows_R(self) -> np.ndarray:
        """Of the real images that base and adapter learnt from, in the order of the search for copies."""
        return training_rows(self.images, self.config.generation.adaptation)

    def auc(self, logits_N: list[float] | Array) -> float:
        """Over patients, each with the mean or the largest probability of its images."""
        score = self.config.intervals.patient_score
        return area(*one_score_a_patient(expit(logits_N), self.positive_N, self.patients_N, score))

    @cached_property
    def aucs(self) -> dict[str, list[float]]:
        """Of each arm, draw by draw."""
        return {arm: [self.auc(draw.logits[arm]) for draw in self.draws] for arm in self.config.study.arms}

    def over_draws(self, arm: str) -> Estimate:
        """The mean AUC of an arm, with Student's interval over the draws of the few lesions."""
        return Estimate(*mean_interval(self.aucs[arm], self.config.intervals.confidence))

    def gain(self, arm: str, over: str) -> Estimate:
        """How far an arm's AUC lies above another's on average over draws, in pairs."""
        return difference_over_seeds(self.aucs[arm], self.aucs[over], self.config.intervals.confidence)

    @cached_property
    def scaling(self) -> dict[int, Estimate]:
        """The mean AUC of "both" by the number of generated images; 0 is of real ones alone."""
        sizes = sorted(set.intersection(*(set(draw.sizes) for draw in self.draws)))
        confidence = self.config.intervals.confidence
        found = {0: self.over_draws("real")}
        for size in sizes:
            aucs = [self.auc(draw.sizes[size]) for draw in self.draws]
            found[size] = Estimate(*mean_interval(aucs, confidence))
        return found

    def diagnosis_of(self, logits_N: list[float] | Array) -> Diagnosis:
        """Everything that is told of one classifier on the test."""
        random = np.random.default_rng([self.seed, len(self.draws)])
        return diagnosis(expit(logits_N), self.positive_N, self.patients_N, self.config.intervals, random)

    @cached_property
    def arms(self) -> dict[str, Diagnosis]:
        """Of each arm in the run's own draw."""
        return {arm: self.diagnosis_of(self.draws[0].logits[arm]) for arm in self.config.study.arms}

    @cached_property
    def classifier(self) -> Diagnosis:
        return self.diagnosis_of(self.classifier_N)

    @cached_property
    def interpretable(self) -> Diagnosis:
        return self.diagnosis_of(self.explained.logits)

    @cached_property
    def paired(self) -> Difference:
        """Real and generated against real alone in the run's own draw: DeLong's paired test over patients."""
        logits = self.draws[0].logits
        return patient_auc_difference(
            expit(logits["both"]), expit(logits["real"]), self.positive_N, self.patients_N, self.config.intervals
        )

    @property
    def distance_share(self) -> float:
        """FD of the adapted generator's images to held-out ones, as a share of the unadapted one's."""
        both = self.distances.adapted, self.distances.unadapted
        adapted, unadapted = (one[PROBES].measures[f"FD-{PROBES}"].value for one in both)
        return adapted / unadapted


def make_metrics(found: Found) -> dict[str, Any]:
    """The numbers that `--json` prints."""
    losses, pixels = found.losses, found.privacy.by_pixels
    gain, paired = found.gain("both", "real"), found.paired
    return {
        "classifier": {
            arm: {"auc": found.over_draws(arm).value, "ci": _interval(found.over_draws(arm)), "draws": aucs}
            for arm, aucs in found.aucs.items()
        },
        "gain": {"auc": gain.value, "ci": _interval(gain), "delong_p": paired.p_value, "delong_auc": paired.value},
        "published": {"auc": found.classifier.auc.value, "ci": _interval(found.classifier.auc)},
        "interpretable": {"auc": found.interpretable.auc.value, "ci": _interval(found.interpretable.auc)},
        "scaling": {str(size): {"auc": one.value, "ci": _interval(one)} for size, one in found.scaling.items()},
        "fd": _distances(found.distances.adapted),
        "fd_unadapted": _distances(found.distances.unadapted),
        "optimal_loss": {
            "sigma": losses.levels_S.tolist(),
            "j_star": losses.optimal_S.tolist(),
            "j": losses.train_S.tolist(),
            "j_held_out": losses.held_out_S.tolist(),
            "gap": losses.gap,
        },
        "memorisation": {
            "share": _or_none(losses.memorisation.overall),
            "error": _or_none(losses.memorisation.overall_error),
        },
        "membership": {
            "auc": losses.membership.of_patients.value,
            "ci": _interval(losses.membership.of_patients),
        },
        "privacy": {
            "copies": pixels.copied.found,
            "generated": pixels.copied.of,
            "nearer_to_training": None if pixels.nearer is None else [pixels.nearer.value, *_interval(pixels.nearer)],
            "distance_of_nearest": pixels.distance_of_nearest,
            "planted": pixels.planted,
            "planted_found": pixels.planted_found,
            "dropped": sum(draw.dropped for draw in found.draws),
        },
    }


def _or_none(value: float) -> float | None:
    """None, which JSON knows, where the meter could not tell."""
    return None if math.isnan(value) else value


def _interval(estimate: Any) -> list[float]:
    return [estimate.low, estimate.high]


def _distances(compared: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for one in compared.values() for name, value in one.flat().items() if name != "images_a_side"}
