"""Trainings beside each other: areas, crossings, equal divergence, and means over seeds."""

import json

import numpy as np
import pytest

from models.rto.comparison import (
    Seed,
    Training,
    common_kl,
    first_reach,
    mean_curve,
    over_seeds,
    reward_at_kl,
    rollouts_to_reach,
)
from tests.models.rto.made_up import learner_curves, means, seed_of, training


def test_the_area_of_a_straight_line_is_half_its_rise() -> None:
    assert training([1.0, 2.0, 3.0, 4.0], [0.0] * 4).area == pytest.approx(1.5)
    assert training([2.0, 2.0], [0.0] * 2).area == 0.0


def test_the_area_does_not_depend_on_how_many_rollouts_an_iteration_has() -> None:
    assert training([0.0, 1.0, 4.0], [0.0] * 3, rollouts=64).area == training([0.0, 1.0, 4.0], [0.0] * 3).area


@pytest.mark.parametrize(("target", "expected"), [(0.0, 0.0), (1.0, 5.0), (2.0, 10.0), (2.5, 27.5), (4.0, None)])
def test_the_first_reach_is_interpolated(target: float, expected: float | None) -> None:
    assert first_reach(np.array([0.0, 10.0, 20.0, 30.0]), np.array([0.0, 2.0, 1.0, 3.0]), target) == expected


def test_rto_needs_half_of_the_rollouts_where_it_rises_twice_as_fast() -> None:
    arms = seed_of(0).arms
    assert rollouts_to_reach(arms["rto"], arms["ppo"]) == pytest.approx(0.5)
    assert rollouts_to_reach(arms["ddpo"], arms["ppo"]) is None


def test_reaching_the_best_is_harder_than_reaching_the_end() -> None:
    rto, ppo = training([0.0, 1.0, 2.0, 3.0], [0.0] * 4), training([0.0, 2.0, 3.0, 1.0], [0.0] * 4)
    assert rollouts_to_reach(rto, ppo) == pytest.approx(1 / 3)
    assert rollouts_to_reach(rto, ppo, best=True) == pytest.approx(1.0)


def test_at_equal_kl_arms_on_one_frontier_agree() -> None:
    slow = training([0.0, 1.0, 2.0], [0.0, 4.0, 8.0])
    fast = training([0.0, 2.0, 4.0], [0.0, 8.0, 16.0])
    kl = common_kl({"slow": slow, "fast": fast})
    assert kl == 8.0
    assert reward_at_kl(slow, kl) == pytest.approx(2.0)
    assert reward_at_kl(fast, kl) == pytest.approx(2.0)


def test_an_arm_is_over_optimised_only_well_below_its_peak() -> None:
    assert training([0.0, 4.0, 3.0], [0.0] * 3).is_over_optimised
    assert not training([0.0, 4.0, 3.8], [0.0] * 3).is_over_optimised
    assert not training([0.0, 2.0, 4.0], [0.0] * 3).is_over_optimised
    noisy = training([0.0, 0.4, 0.3], [0.0] * 3)
    noisy.final["reward_error"] = 0.1
    assert not noisy.is_over_optimised, "within three standard errors"


def test_curves_have_a_point_for_each_rollout_and_one_for_the_end() -> None:
    metrics = learner_curves([0.1, 0.2, 0.3], [0.0, 1.0, 2.0], rollouts=32, updates=8)
    arm = Training.of(metrics, 32, start=means(0.1, 0.0), final=means(0.5, 3.0))
    assert arm.points == [[0.0, 0.1], [32.0, 0.2], [64.0, 0.3], [96.0, 0.5]]
    assert arm.curves["kl"] == [0.0, 1.0, 2.0, 3.0]
    assert arm.curves["share_dpo"] == [0.5, 0.5, 0.5]


def test_curves_that_the_loop_thinned_keep_their_rollouts() -> None:
    metrics = learner_curves([0.1, 0.2, 0.3], [0.0, 1.0, 2.0], rollouts=32, updates=8)
    thinned = {name: values[2::3] for name, values in metrics.items()}
    whole = Training.of(metrics, 32, start=means(0.1, 0.0), final=means(0.5, 3.0))
    assert Training.of(thinned, 32, start=means(0.1, 0.0), final=means(0.5, 3.0)) == whole


def test_a_stopped_arm_ends_where_it_was_stopped() -> None:
    metrics = learner_curves([0.1, 0.2], [0.0, 1.0], rollouts=32, updates=8)
    arm = Training.of(metrics, 32, start=means(0.1, 0.0), final=means(-5.0, 300.0), stopped="KL is 300")
    assert arm.points == [[0.0, 0.1], [32.0, 0.2]]
    assert arm.stopped == "KL is 300"


def test_an_arm_whose_learner_knew_no_reward_has_its_ends() -> None:
    metrics = learner_curves([0.1, 0.2], [0.0, 1.0], rollouts=32, updates=8)
    del metrics["true_reward"]
    arm = Training.of(metrics, 32, start=means(0.1, 0.0), final=means(0.5, 3.0))
    assert arm.points == [[0.0, 0.1], [64.0, 0.5]]


def test_means_over_seeds_have_students_interval_and_count_what_is_missing() -> None:
    # Student's t for 2 degrees of freedom at 97.5 % is 4.303, from any table.
    found = over_seeds([1.0, None, 2.0, 3.0])
    assert found is not None
    assert found["mean"] == pytest.approx(2.0)
    assert found["high"] == pytest.approx(2.0 + 4.303 / 3**0.5, abs=1e-3)
    assert (found["values"], found["missing"]) == (3, 1)
    assert over_seeds([None, None]) is None


def test_a_mean_curve_goes_as_far_as_every_seed_came() -> None:
    short, long = training([0.0, 1.0], [0.0] * 2), training([2.0, 3.0, 9.0], [0.0] * 3)
    found = mean_curve([long, short], "reward")
    assert found["x"].tolist() == [0.0, 32.0]
    assert found["y"].tolist() == [1.0, 2.0]
    assert (found["low"] < found["y"]).all()


def test_a_mean_curve_of_one_seed_has_no_width() -> None:
    found = mean_curve([training([0.0, 1.0], [0.0] * 2)], "reward")
    assert (found["low"] == found["y"]).all()
    assert mean_curve([training([0.0, 1.0], [0.0] * 2)], "entropy")["x"].size == 0


def test_a_seed_is_read_back_as_it_was_written() -> None:
    assert Seed.from_json(json.loads(json.dumps(seed_of(3).as_json()))) == seed_of(3)
