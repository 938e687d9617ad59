"""The teacher's losses, curriculum and training, against loops written out by hand."""

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.common.errors import ConfigError
from models.relay.config import TeacherConfig
from models.relay.learning import Tally, on_device
from models.relay.network import LoopedTransformer
from models.relay.network_config import MixConfig, NetworkConfig, OptimizerConfig
from models.relay.problems import Problems
from models.relay.rounds import IGNORED, draw_rounds, rounds_batches
from models.relay.task import PAD
from models.relay.teacher import RoundCurriculum, TeacherLearner, answer_loss, round_loss

SMALL = NetworkConfig(layers=1, width=16, heads=2, feed_forward_width=32, rope_base=100.0)
RATE = OptimizerConfig(learning_rate=3e-3, warmup_steps=2, decay_steps=4)
MIXED = TeacherConfig(
    max_steps=12, batch_size=24, network=SMALL, optimizer=RATE, mix=MixConfig(draws=6, buckets=3), side_pads=2
)


def test_the_loss_of_rounds_equals_a_loop_over_section_3_3(problems: Problems, problems_folder: Path, world_of):
    """One length a batch: each problem's rounds, each round's supervised positions, one by one."""
    config = TeacherConfig(batch_size=6, network=SMALL)
    world = world_of({"problems": problems_folder})
    rounds, rng = draw_rounds(problems, config, 1, 3)
    [batch] = rounds_batches(rounds, config, 1000, rng, world)
    count, width, loops = *batch.tokens_BS.shape, len(batch.rows_T)
    torch.manual_seed(0)
    logits = torch.randn(loops, count, width, len(problems.vocabulary))

    task, by_hand = problems.tasks["arithmetic"], 0.0
    for b in range(count):
        problem = batch.tokens_BS[b][batch.tokens_BS[b] != PAD]
        worked = task.work(problem[None], loops).rounds_PTR[0]
        for t in range(loops):
            right = [int(token) for token in worked[t] if token != PAD]
            total = 0.0
            for place, token in enumerate([PAD, *right]):  # the last PAD, then the round
                scores = logits[t, b, width - len(right) - 1 + place].double().tolist()
                total += math.log(sum(math.exp(score) for score in scores)) - scores[token]
            by_hand += total / (len(right) + 1) / loops / count

    picked = logits.flatten(0, 2)[torch.from_numpy(batch.picked_N)]
    loss, parts = round_loss(picked, torch.from_numpy(batch.targets_N), torch.from_numpy(batch.weight_N))
    assert float(loss) == pytest.approx(by_hand, rel=1e-5)
    assert float(parts.sum()) == pytest.approx(by_hand, rel=1e-5)


def test_the_loss_of_answers_is_a_mean_over_problems_and_their_tokens():
    torch.manual_seed(0)
    logits = torch.randn(3, 2, 5)
    answers = torch.tensor([[IGNORED, 4], [2, 3], [IGNORED, IGNORED]])
    log_p = torch.log_softmax(logits.double(), dim=-1)
    by_hand = -(log_p[0, 1, 4] + (log_p[1, 0, 2] + log_p[1, 1, 3]) / 2) / 3
    weight = torch.tensor([1 / 3, 1 / 6, 1 / 3])
    assert float(answer_loss(logits, answers, weight)) == pytest.approx(float(by_hand), rel=1e-5)


def test_rows_that_leave_the_loop_are_shown_what_they_would_be_alone(mixed: Problems, mixed_folder: Path, world_of):
    world = world_of({"problems": mixed_folder})
    network = LoopedTransformer(MIXED.but(input_injection=True), len(mixed.vocabulary))
    rounds, rng = draw_rounds(mixed, MIXED, 1, 3)
    batch = max(rounds_batches(rounds, MIXED, 1000, rng, world), key=lambda each: len(set(each.rows_T)))
    assert len(set(batch.rows_T)) > 1
    answers = batch.answers_BA.shape[1]
    tokens, at = on_device(batch.tokens_BS, world.device), torch.from_numpy(batch.answer_at_B)
    logits_RSV, answer_logits = network(tokens, batch.rows_T, at, answers)
    first_T = np.cumsum([0, *batch.rows_T])
    for b in range(len(tokens)):
        loops = int(np.searchsorted(first_T, batch.answer_at_B[b], side="right"))
        alone, answer = network(tokens[b : b + 1], (1,) * loops, torch.tensor([loops - 1]), answers)
        for t in range(loops):
            torch.testing.assert_close(logits_RSV[first_T[t] + b], alone[t])
        torch.testing.assert_close(answer_logits[b], answer[0])


def test_picked_positions_are_those_of_all_logits(mixed: Problems, mixed_folder: Path, world_of):
    world = world_of({"problems": mixed_folder})
    network = LoopedTransformer(MIXED, len(mixed.vocabulary))
    rounds, rng = draw_rounds(mixed, MIXED, 1, 3)
    batch = rounds_batches(rounds, MIXED, 1000, rng, world)[0]
    arguments = (on_device(batch.tokens_BS, world.device), batch.rows_T, torch.from_numpy(batch.answer_at_B), 1)
    every = network(*arguments)[0].flatten(0, 1)
    picked = torch.from_numpy(batch.picked_N)
    torch.testing.assert_close(network(*arguments, picked)[0], every[picked])


def test_two_shares_average_to_the_gradient_of_the_whole(mixed_folder: Path, world_of):
    def gradients(rank: int, size: int) -> dict[str, torch.Tensor]:
        learner = TeacherLearner(MIXED.but(task_weights={"edit_distance": 10.0}), world_of({"problems": mixed_folder}))
        rounds, rng = draw_rounds(learner.problems, learner.config, 3, 0)
        learner.world = world_of({"problems": mixed_folder}, rank=rank, size=size)
        batches = rounds_batches(rounds, learner.config, 1000, rng, learner.world)
        for loss in learner._losses(batches, Tally()):
            loss.backward()
        parameters = learner.descent.engine.module.named_parameters()
        return {name: torch.zeros_like(value) if value.grad is None else value.grad for name, value in parameters}

    whole, halves = gradients(0, 1), [gradients(rank, 2) for rank in (0, 1)]
    for name, gradient in whole.items():
        torch.testing.assert_close((halves[0][name] + halves[1][name]) / 2, gradient, rtol=1e-3, atol=1e-6)


def test_the_curriculum_unrolls_one_more_when_the_loss_is_low():
    curriculum = RoundCurriculum(most=3, loss=0.1, window=2)
    for loss, unrolled in ((0.05, 1), (0.5, 1), (0.01, 1), (0.01, 2), (0.0, 2), (0.0, 3), (0.0, 3)):
        curriculum.take(loss)
        assert curriculum.unrolled == unrolled
    assert RoundCurriculum(most=3, loss=None, window=2).unrolled == 3


def trained(config: TeacherConfig, folder: Path, world_of: Any, steps: int) -> tuple[TeacherLearner, list[float]]:
    learner = TeacherLearner(config, world_of({"problems": folder}))
    return learner, [learner.step()["loss"] for _ in range(steps)]


@pytest.mark.parametrize(
    "changes",
    [
        {"network.positions": "nope"},
        {"network.positions": "fire"},
        {"network.positions": "alibi"},
        {"network.positions": "rope+alibi"},
        {"network.dropout": 0.1},
        {"input_injection": True},
        {"outer_norm": True, "tied_head": True},
        {"supervised_pads": "all"},
        {"alignment": "left"},
        {"curriculum_loss": 2.0, "curriculum_window": 2},
        {"round_weight": 0.0},
        {"detach": True},
    ],
)
def test_every_choice_trains_and_resumes_bit_for_bit(changes: dict, mixed_folder: Path, world_of):
    config = MIXED.with_overrides({"optimizer.decay_steps": 4, **changes})
    unbroken, losses = trained(config, mixed_folder, world_of, 6)
    resumed = TeacherLearner(config, world_of({"problems": mixed_folder}))
    resumed.load_state_dict(copy.deepcopy(unbroken.state_dict()))  # as if through a file
    plain = trained(MIXED, mixed_folder, world_of, 2)[1]
    assert losses[:2] != plain, "the choice changes something"
    while not unbroken.finished:
        assert unbroken.step() == resumed.step()
    assert resumed.finished
    assert all(torch.equal(a, b) for a, b in zip(unbroken.weights().values(), resumed.weights().values(), strict=True))


def test_recomputing_iterations_changes_no_number(mixed_folder: Path, world_of):
    kept = trained(MIXED, mixed_folder, world_of, 4)[1]
    assert trained(MIXED.but(recompute=True), mixed_folder, world_of, 4)[1] == pytest.approx(kept, rel=1e-5)


def test_detached_iterations_learn_from_their_own_round_alone(problems: Problems, problems_folder: Path, world_of):
    """With two iterations, the second one's loss reaches the embedding through itself alone, which injection keeps."""
    torch.manual_seed(0)
    tokens = torch.randint(2, 12, (2, 6))
    for detach in (False, True):
        network = LoopedTransformer(TeacherConfig(network=SMALL, detach=detach), 12)
        logits, _ = network(tokens, (2, 2), torch.tensor([2, 3]), 1)
        logits[2:].sum().backward()  # the second iteration's
        gradient = network.embedding.weight.grad
        assert (gradient is None or not gradient.any()) == detach


def test_labels_are_asked_for_where_they_are_needed(problems_folder: Path, world_of):
    with pytest.raises(ConfigError, match="labels"):
        TeacherLearner(TeacherConfig(label_share=0.5, network=SMALL), world_of({"problems": problems_folder}))


def test_more_buckets_than_rows_for_the_workers_are_refused(problems_folder: Path, world_of):
    config = TeacherConfig(batch_size=8, network=SMALL, mix=MixConfig(draws=8, buckets=8))
    with pytest.raises(ConfigError, match=r"mix\.buckets=2"):
        TeacherLearner(config, world_of({"problems": problems_folder}, size=2))
