"""The student's loss, schedule and training."""

import copy
from pathlib import Path

import pytest
import torch

from models.common.errors import ConfigError
from models.relay.config import StudentConfig
from models.relay.network_config import MixConfig, NetworkConfig, OptimizerConfig
from models.relay.schedule import Convergence, learning_rate
from models.relay.student import StudentLearner, chain_loss

SMALL = NetworkConfig(layers=2, width=16, heads=2, feed_forward_width=32)


def test_the_loss_is_the_mean_surprise_of_the_tokens_to_learn():
    torch.manual_seed(0)
    logits, targets = torch.randn(10, 7), torch.randint(0, 7, (10,))
    whole = chain_loss(logits, targets, torch.full((10,), 0.1))
    assert float(whole) == pytest.approx(float(torch.nn.functional.cross_entropy(logits, targets)), rel=1e-6)
    heavy = chain_loss(logits, targets, torch.tensor([0.1] * 5 + [1.0] * 5))
    halves = [float(torch.nn.functional.cross_entropy(logits[r], targets[r])) for r in (slice(0, 5), slice(5, 10))]
    assert float(heavy) == pytest.approx((halves[0] + 10 * halves[1]) / 2, rel=1e-5)


def test_the_learning_rate_falls_once_the_longest_problems_are_learnt():
    config = OptimizerConfig(
        learning_rate=1.0, warmup_steps=3, decay_steps=10, final_rate=0.1, converged_loss=0.5, converged_window=2
    )
    assert [learning_rate(config, step, 90) for step in (0, 2, 3, 89)] == [0.25, 0.75, 1.0, 1.0]
    assert learning_rate(config, 94, 90) == pytest.approx(0.55)
    assert learning_rate(config, 99, 90) == pytest.approx(0.1)

    convergence = Convergence(config, max_steps=100)
    assert (convergence.decay_from, convergence.over(99), convergence.over(100)) == (90, False, True)
    convergence.take(0.1, 40)
    assert convergence.decay_from == 90
    convergence.take(0.2, 41)
    convergence.take(0.0, 45)  # falling already
    assert convergence.decay_from == 41
    assert [convergence.over(50), convergence.over(51)] == [False, True]


@pytest.mark.parametrize("changes", [{}, {"network.positions": "nope"}, {"network.dropout": 0.1}])
def test_a_resumed_student_equals_an_unbroken_one(changes: dict, mixed_folder: Path, world_of):
    config = StudentConfig(
        max_steps=30,
        batch_size=24,
        network=SMALL,
        mix=MixConfig(draws=6, buckets=3),
        optimizer=OptimizerConfig(
            learning_rate=3e-3, warmup_steps=2, decay_steps=4, converged_loss=5.0, converged_window=2
        ),
    ).with_overrides(changes)
    unbroken = StudentLearner(config, world_of({"problems": mixed_folder}))
    for _ in range(5):
        unbroken.step()
    resumed = StudentLearner(config, world_of({"problems": mixed_folder}))
    resumed.load_state_dict(copy.deepcopy(unbroken.state_dict()))  # as if through a file
    steps = 5
    while not unbroken.finished:
        assert unbroken.step() == resumed.step()
        steps += 1
        assert steps < 30, "the loss is under 5 nats long before"
    assert resumed.finished
    assert all(torch.equal(a, b) for a, b in zip(unbroken.weights().values(), resumed.weights().values(), strict=True))


def test_labels_are_asked_for_where_they_are_needed(problems_folder: Path, world_of):
    with pytest.raises(ConfigError, match="labels"):
        StudentLearner(StudentConfig(new_share=0.5, network=SMALL), world_of({"problems": problems_folder}))
