"""What an observer knows who reads every descriptor without fault: odds in closed form, and the AUC they reach.

A picture depends on the subtype through the descriptors only, so no reader of pictures is better on average.
"""

# S subtypes   D combinations of descriptors

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from functools import cache

import numpy as np

from models.busgen.images.descriptors import DESCRIPTORS
from models.busgen.phantom.subtypes import DCIS_AMONG_CANCERS, SUBTYPES, Chances

Mixture = Mapping[str, float]  # shares of subtypes, which sum to 1

PREVALENCE = 0.3  # of cancer among those who are sent for a biopsy; sets the BI-RADS category
_BIRADS_BELOW = ((0.005, "2"), (0.02, "3"), (0.10, "4a"), (0.50, "4b"), (0.95, "4c"), (math.inf, "5"))


def mixture_of(label: str) -> dict[str, float]:
    """The subtypes among lesions of a label of the config, or among all "cancers", invasive and in situ."""
    if label != "cancers":
        return {name: one.share for name, one in SUBTYPES.items() if one.label == label}
    invasive = {name: share * (1 - DCIS_AMONG_CANCERS) for name, share in mixture_of("malignant").items()}
    return {**invasive, "dcis": DCIS_AMONG_CANCERS}


@cache
def chances_of(subtype: str, overlap: float) -> Chances:
    """The subtype's table: as written at overlap 0, the plain mean over all subtypes at overlap 1."""
    rows = {}
    for name in DESCRIPTORS:
        mean = np.mean([one.chances[name] for one in SUBTYPES.values()], axis=0)
        mixed = (1 - overlap) * np.asarray(SUBTYPES[subtype].chances[name]) + overlap * mean
        rows[name] = tuple(float(chance) for chance in mixed / mixed.sum())
    return rows


def draw_subtype(label: str, rng: np.random.Generator) -> str:
    mixture = mixture_of(label)
    return str(rng.choice(list(mixture), p=list(mixture.values())))


def draw_descriptors(subtype: str, overlap: float, rng: np.random.Generator) -> dict[str, str]:
    """One value of each descriptor, independent of each other given the subtype."""
    chances = chances_of(subtype, overlap)
    return {name: str(rng.choice(values, p=chances[name])) for name, values in DESCRIPTORS.items()}


def log_likelihood(descriptors: Mapping[str, str], mixture: Mixture, overlap: float) -> float:
    """log p(descriptors) = log sum_s share_s prod_a p_s(value of a), over the subtypes s of a mixture."""
    total = 0.0
    for subtype, share in mixture.items():
        chances = chances_of(subtype, overlap)
        total += share * math.prod(chances[name][DESCRIPTORS[name].index(value)] for name, value in descriptors.items())
    return math.log(total)


def log_odds(descriptors: Mapping[str, str], positive: Mixture, negative: Mixture, overlap: float) -> float:
    """log p(descriptors | positive) / p(descriptors | negative): the log-odds where both are equally many."""
    return log_likelihood(descriptors, positive, overlap) - log_likelihood(descriptors, negative, overlap)


def truth_of(descriptors: Mapping[str, str], overlap: float) -> dict[str, float]:
    """What `Case.truth` holds of a lesion; both are at even odds beforehand."""
    benign = mixture_of("benign")
    return {
        "log_odds_malignant": log_odds(descriptors, mixture_of("cancers"), benign, overlap),
        "log_odds_dcis_against_benign": log_odds(descriptors, mixture_of("dcis"), benign, overlap),
    }


def birads_of(log_odds_malignant: float) -> str:
    """The category whose range of the probability of cancer (ACR Atlas, 5th edition) the oracle's falls in.

    Unlike the Atlas, where 2 means none, 2 is here below 0.5 %: no combination of the table excludes a cancer.
    """
    probability = 1 / (1 + math.exp(-log_odds_malignant) * (1 - PREVALENCE) / PREVALENCE)
    return next(category for below, category in _BIRADS_BELOW if probability < below)


def exact_auc(
    positive: Mixture, negative: Mixture, overlap: float = 0.0, *, scored_as: tuple[Mixture, Mixture] | None = None
) -> float:
    """The oracle's area under the ROC curve, by enumeration of all combinations of descriptors.

        AUC = P(score of a positive > score of a negative) + P(they are equal) / 2

    The score is the log-odds of positive against negative, the best there is, or that of the two mixtures in
    scored_as: as when the odds of any cancer rank the invasive ones.
    """
    positive_D, negative_D = _probabilities(positive, overlap), _probabilities(negative, overlap)
    for_D, against_D = (_probabilities(mixture, overlap) for mixture in scored_as or (positive, negative))
    # Rounded, so that combinations of equal odds tie although they were multiplied in another order.
    _, place_D = np.unique(np.round(np.log(for_D) - np.log(against_D), 9), return_inverse=True)
    positive_P, negative_P = np.bincount(place_D, positive_D), np.bincount(place_D, negative_D)
    below_P = np.cumsum(negative_P) - negative_P
    return float(np.sum(positive_P * (below_P + negative_P / 2)))


def _probabilities(mixture: Mixture, overlap: float) -> np.ndarray:
    """p(descriptors) of every combination, in one fixed order: [D], float64."""
    total_D = np.zeros(len(list(itertools.product(*DESCRIPTORS.values()))))
    for subtype, share in mixture.items():
        product = np.ones(1)
        for row in chances_of(subtype, overlap).values():
            product = np.outer(product, row).ravel()
        total_D += share * product
    return total_D
