"""The readable diagnosis: its minimum against scipy's and Newton's, its signs, and that it can be added up."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, softmax

from models.busgen.images.descriptors import DESCRIPTORS
from models.busgen.tailor.combination import (
    OVERALL,
    SUSPICION,
    Column,
    Combination,
    columns_of,
    fit_combination,
    fit_logistic,
)
from models.busgen.tailor_config import CombinationConfig
from models.common.errors import DataError

ATTRIBUTES = ("margin", "posterior", "halo")


def _newton(design_NP: np.ndarray, positive_N: np.ndarray, ridge: float) -> np.ndarray:
    """The unconstrained minimum by Newton's steps, intercept last."""
    design_NQ = np.c_[design_NP, np.ones(len(design_NP))]
    weighs_Q = np.r_[np.full(design_NP.shape[1], ridge), 0.0]
    weights_Q = np.zeros(design_NQ.shape[1])
    for _ in range(50):
        chance_N = expit(design_NQ @ weights_Q)
        slope_Q = design_NQ.T @ (chance_N - positive_N) / len(positive_N) + weighs_Q * weights_Q
        curve_QQ = (design_NQ.T * (chance_N * (1 - chance_N))) @ design_NQ / len(positive_N) + np.diag(weighs_Q)
        weights_Q -= np.linalg.solve(curve_QQ, slope_Q)
    return weights_Q


def _data(seed: int, weights: list[float]) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    design_NP = generator.normal(size=(400, len(weights)))
    return design_NP, generator.random(400) < expit(design_NP @ np.array(weights) - 0.4)


def test_where_no_sign_binds_it_is_plain_logistic_regression() -> None:
    design_NP, positive_N = _data(1, [1.2, 0.7, -0.9, 0.1])
    free = _newton(design_NP, positive_N, 0.02)
    for signs in ([0, 0, 0, 0], [1, 1, -1, 0]):
        weights_P, intercept = fit_logistic(design_NP, positive_N, np.array(signs), 0.02)
        assert [*weights_P, intercept] == pytest.approx(free, abs=1e-5)


def test_where_a_sign_binds_the_weight_is_nil_and_the_rest_is_the_least_without_it() -> None:
    design_NP, positive_N = _data(2, [1.0, -0.8, 0.5])
    weights_P, intercept = fit_logistic(design_NP, positive_N, np.array([1, 1, 0]), 0.01)
    assert weights_P[1] == 0.0
    assert [weights_P[0], weights_P[2], intercept] == pytest.approx(
        _newton(design_NP[:, [0, 2]], positive_N, 0.01), abs=1e-5
    )


def test_it_is_the_least_that_another_method_finds() -> None:
    design_NP, positive_N = _data(3, [1.0, -0.8, 0.5, -0.2, 0.3])
    signs = np.array([-1, 1, 1, 1, 0])

    def loss(w: np.ndarray) -> float:
        margin = np.where(positive_N, 1, -1) * (design_NP @ w[:-1] + w[-1])
        return float(np.logaddexp(0, -margin).mean() + 0.005 * (w[:-1] ** 2).sum())

    bounds = [(None, 0), (0, None), (0, None), (0, None), (None, None), (None, None)]
    peer = minimize(loss, np.zeros(6), method="SLSQP", bounds=bounds, options={"ftol": 1e-14, "maxiter": 500})
    weights_P, intercept = fit_logistic(design_NP, positive_N, signs, 0.01)
    assert [*weights_P, intercept] == pytest.approx(peer.x, abs=2e-4)
    assert loss(np.array([*weights_P, intercept])) <= peer.fun + 1e-9


def _logits(count: int, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Probes that are unsure, and a label that follows suspicious margins and, against reason, a lack of halo."""
    generator = np.random.default_rng(seed)
    logits = {name: generator.normal(0, 2, (count, len(DESCRIPTORS[name]))) for name in ATTRIBUTES}
    circumscribed = softmax(logits["margin"], axis=1)[:, 0]
    halo = softmax(logits["halo"], axis=1)[:, 1]
    score = 3 * (0.4 - circumscribed) - 2 * (halo - 0.5)
    logits["label"] = score + generator.normal(0, 1.0, count)
    return logits, generator.random(count) < expit(score)


@pytest.mark.parametrize("overall", [True, False])
def test_no_suspicious_value_lowers_the_score(overall: bool) -> None:
    logits, positive_N = _logits(500, 5)
    found = fit_combination(logits, positive_N, ATTRIBUTES, CombinationConfig(overall=overall))
    for column, weight in zip(found.columns, found.weights_P, strict=True):
        assert weight * column.sign >= 0.0
    free = fit_combination(logits, positive_N, ATTRIBUTES, CombinationConfig(overall=overall, monotone=False))
    halo = found.columns.index(Column("halo", "present"))
    assert free.weights_P[halo] < 0.0 == found.weights_P[halo]


def test_contributions_add_up_to_the_logit() -> None:
    logits, positive_N = _logits(300, 6)
    found = fit_combination(logits, positive_N, ATTRIBUTES, CombinationConfig())
    fresh, _ = _logits(40, 7)
    explained = found.explain(fresh)
    assert [one.logit for one in explained] == pytest.approx(found.logits(fresh))
    for one in explained:
        assert one.baseline + sum(one.contributions.values()) == pytest.approx(one.logit)
        assert set(one.contributions) == {OVERALL, *ATTRIBUTES}
    of_all = [one.logit for one in found.explain(logits)]
    assert np.mean(of_all) == pytest.approx(explained[0].baseline)


def test_by_hand_a_sure_probe_moves_the_score_by_its_weight() -> None:
    columns = columns_of(("halo",), overall=False)
    combination = Combination(columns, np.array([2.5]), -1.0, np.array([0.2]))
    (sure,) = combination.explain({"halo": np.array([[-50.0, 50.0]])})
    assert (sure.baseline, sure.logit, sure.contributions["halo"]) == pytest.approx((-0.5, 1.5, 2.0))


def test_every_value_named_suspicious_is_in_the_lexicon_and_none_is_the_first() -> None:
    for name, values in SUSPICION.items():
        assert set(values) <= set(DESCRIPTORS[name][1:])
    assert set(SUSPICION) == set(DESCRIPTORS)


def test_what_cannot_be_fitted_is_said() -> None:
    logits, positive_N = _logits(20, 8)
    with pytest.raises(DataError, match="no head 'shape'"):
        fit_combination(logits, positive_N, ("shape",), CombinationConfig())
    with pytest.raises(DataError, match="one label"):
        fit_combination(logits, np.ones(20, bool), ATTRIBUTES, CombinationConfig())
