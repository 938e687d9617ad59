"""The order of held-out pairs, and the gates that DPO has to pass before PPO."""

import numpy as np
import pytest

from models.common.errors import GateFailed
from models.rto.config import DpoEvaluation
from models.rto.dpo_evaluation import make_report, orders
from tests.models.rto.made_up import means, small_config

MARGINS = {
    "dpo": np.array([1.0, -1.0, 2.0, 0.0]),
    "reward_model": np.array([1.0, 1.0, -1.0, 1.0]),
    "truth": np.array([1.0, -2.0, 3.0, 0.0]),
}


def _config(**changes: object) -> DpoEvaluation:
    return small_config().dpo_evaluation.but(**changes)


def test_a_tie_is_half_right() -> None:
    found = orders(MARGINS)
    assert found.right == {"dpo": 2.5 / 4, "reward_model": 3 / 4}


def test_the_true_order_is_asked_of_pairs_that_have_one() -> None:
    found = orders(MARGINS)
    assert found.true_right == {"dpo": 1.0, "reward_model": pytest.approx(1 / 3)}
    assert found.labels_true_right == pytest.approx(2 / 3)


def test_without_a_truth_only_labels_are_asked() -> None:
    found = orders({name: margin for name, margin in MARGINS.items() if name != "truth"})
    assert found.true_right is None
    report = make_report(_config(), found, means(0.0, 3.0))
    assert report.headline
    assert [row[2] for row in report.headline.rows] == ["", ""]


def test_dpo_below_its_accuracy_stops_the_run() -> None:
    report = make_report(_config(least_accuracy=0.7), orders(MARGINS), means(0.0, 3.0))
    with pytest.raises(GateFailed, match=r"0\.625, 0\.075 short of 0\.7"):
        report.require_gates()


def test_dpo_too_far_from_the_reference_stops_the_run() -> None:
    report = make_report(_config(least_accuracy=0.6, most_kl=2.5), orders(MARGINS), means(0.0, 3.0))
    with pytest.raises(GateFailed, match=r"KL from the reference: 3 nats, 0\.5 above 2\.5"):
        report.require_gates()


def test_the_metrics_are_those_that_the_evaluation_takes_over() -> None:
    metrics = make_report(_config(), orders(MARGINS), means(1.0, 3.0)).metrics
    assert metrics["preference_accuracy"] == metrics["right"]["dpo"] == 2.5 / 4
    assert (metrics["true_reward"], metrics["kl"]) == (1.0, 3.0)
    assert {"pairs", "right", "true_right", "labels_true_right"} <= metrics.keys()
