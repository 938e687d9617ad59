"""The oracle against brute force, and what is drawn against the table."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import rankdata

from models.busgen.images.descriptors import DESCRIPTORS
from models.busgen.phantom import oracle
from models.busgen.phantom.subtypes import SUBTYPES

BENIGN, DCIS, CANCERS = (oracle.mixture_of(label) for label in ("benign", "dcis", "cancers"))
ALL = [dict(zip(DESCRIPTORS, values, strict=True)) for values in itertools.product(*DESCRIPTORS.values())]


@pytest.mark.parametrize("subtype", SUBTYPES)
def test_a_subtypes_chances_are_those_of_the_lexicon_and_sum_to_one(subtype: str):
    chances = SUBTYPES[subtype].chances
    assert {name: len(row) for name, row in chances.items()} == {name: len(row) for name, row in DESCRIPTORS.items()}
    assert [sum(row) for row in chances.values()] == pytest.approx([1.0] * len(DESCRIPTORS))
    assert min(min(row) for row in chances.values()) > 0, "a sign that excludes a subtype leaves no overlap"


@pytest.mark.parametrize("label", ["benign", "malignant", "dcis", "cancers"])
def test_the_shares_of_a_labels_subtypes_sum_to_one(label: str):
    assert sum(oracle.mixture_of(label).values()) == pytest.approx(1.0)


@pytest.mark.parametrize("subtype", ["cyst", "idc", "dcis"])
def test_descriptors_are_drawn_as_often_as_the_table_says(subtype: str):
    rng = np.random.default_rng(0)
    draws = [oracle.draw_descriptors(subtype, 0.0, rng) for _ in range(3000)]
    for name, values in DESCRIPTORS.items():
        expected = np.array(SUBTYPES[subtype].chances[name])
        found = np.array([sum(draw[name] == value for draw in draws) for value in values]) / len(draws)
        deviation = np.sqrt(expected * (1 - expected) / len(draws))
        assert np.all(np.abs(found - expected) < 4.5 * deviation), name


def test_the_likelihood_of_all_combinations_sums_to_one():
    assert sum(math.exp(oracle.log_likelihood(one, BENIGN, 0.3)) for one in ALL) == pytest.approx(1.0)


def test_the_odds_are_bayes_rule_over_the_subtypes():
    descriptors = {name: values[-1] for name, values in DESCRIPTORS.items()}
    joint = {name: math.prod(row[-1] for row in one.chances.values()) for name, one in SUBTYPES.items()}
    benign = sum(SUBTYPES[name].share * joint[name] for name in BENIGN)
    assert oracle.truth_of(descriptors, 0.0)["log_odds_dcis_against_benign"] == pytest.approx(
        math.log(joint["dcis"] / benign)
    )


def test_the_exact_auc_is_that_of_all_pairs_of_combinations():
    positive, negative = (
        np.exp([oracle.log_likelihood(one, mixture, 0.0) for one in ALL]) for mixture in (DCIS, BENIGN)
    )
    score = np.round(np.log(positive) - np.log(negative), 9)
    won = sum(p * (negative @ ((s > score) + 0.5 * (s == score))) for p, s in zip(positive, score, strict=True))
    assert oracle.exact_auc(DCIS, BENIGN) == pytest.approx(won, abs=1e-9)


def test_a_sampled_auc_agrees_with_the_exact_one():
    rng = np.random.default_rng(1)
    scores = [
        oracle.truth_of(oracle.draw_descriptors(oracle.draw_subtype(label, rng), 0.2, rng), 0.2)[
            "log_odds_dcis_against_benign"
        ]
        for label in ("dcis", "benign")
        for _ in range(1200)
    ]
    auc = (rankdata(scores)[:1200].sum() - 1200 * 1201 / 2) / 1200**2
    exact = oracle.exact_auc(DCIS, BENIGN, 0.2)
    deviation = math.sqrt(exact * (1 - exact) / 1200)  # larger than Hanley and McNeil's of this AUC
    assert abs(auc - exact) < 3 * deviation
    assert exact < 1


def test_no_score_ranks_better_than_its_own_odds():
    own = oracle.exact_auc(DCIS, BENIGN)
    assert 0.5 < oracle.exact_auc(DCIS, BENIGN, scored_as=(CANCERS, BENIGN)) < own


def test_more_overlap_leaves_less_to_see_and_full_overlap_nothing():
    areas = [oracle.exact_auc(DCIS, BENIGN, overlap) for overlap in (0.0, 0.3, 0.7, 1.0)]
    assert areas == sorted(areas, reverse=True)
    assert areas[-1] == pytest.approx(0.5)


def test_the_category_follows_the_probability_at_the_prevalence():
    def at(probability: float) -> str:
        prior = oracle.PREVALENCE / (1 - oracle.PREVALENCE)
        return oracle.birads_of(math.log(probability / (1 - probability) / prior))

    assert [at(p) for p in (0.001, 0.01, 0.05, 0.3, 0.8, 0.99)] == ["2", "3", "4a", "4b", "4c", "5"]
