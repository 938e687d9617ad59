"""The teacher's loss, mask, curriculum and read-out, against loops written out by hand."""

import copy
import math

import numpy as np
import pytest
import torch

from models.relay.arithmetic import EOS, PAD, Arithmetic
from models.relay.batches import draw_rounds_batch, flush_right, supervised_positions
from models.relay.config import NetworkConfig, TeacherConfig
from models.relay.network import LoopedTransformer
from models.relay.problems import Problems
from models.relay.teacher import (
    RoundCurriculum,
    TeacherLearner,
    concatenate_rounds,
    read_out,
    round_loss,
    work_off,
)

SMALL = NetworkConfig(layers=1, width=16, heads=2, feed_forward_width=32, rope_base=100.0)


@pytest.mark.parametrize("pads", ["last", "all"])
def test_round_loss_equals_a_loop_over_section_3_3(pads: str):
    torch.manual_seed(0)
    rounds, batch, width, vocabulary = 3, 4, 9, 6
    rng = np.random.default_rng(0)
    targets = np.zeros((rounds, batch, width), np.uint8)
    for t in range(rounds):
        for b in range(batch):
            filled = int(rng.integers(1, width))
            targets[t, b, width - filled :] = rng.integers(1, vocabulary, size=filled)
    logits = torch.randn(rounds, batch, width, vocabulary)
    mask = supervised_positions(targets, pads)

    by_hand = 0.0
    for t in range(rounds):
        total, positions = 0.0, 0
        for b in range(batch):
            last_pad = max(i for i in range(width) if targets[t, b, i] == PAD)
            for i in range(width):
                if pads == "last" and targets[t, b, i] == PAD and i != last_pad:
                    continue
                scores = logits[t, b, i].double().tolist()
                total += math.log(sum(math.exp(score) for score in scores)) - scores[targets[t, b, i]]
                positions += 1
        by_hand += total / positions / rounds

    loss = round_loss(
        logits,
        torch.from_numpy(targets).long(),
        torch.from_numpy(mask),
        torch.from_numpy(mask.sum(axis=(1, 2))),
    )
    assert float(loss) == pytest.approx(by_hand, rel=1e-5)


def test_two_shares_average_to_the_global_loss(problems: Problems):
    torch.manual_seed(0)
    batch = draw_rounds_batch(problems, 8, 3, "last", seed=1, step=4)
    logits = torch.randn(*batch.rounds_TBS.shape, 12)
    targets, mask = torch.from_numpy(batch.rounds_TBS).long(), torch.from_numpy(batch.supervised_TBS)
    counts = mask.sum(dim=(1, 2))
    whole = round_loss(logits, targets, mask, counts)
    halves = [
        round_loss(logits[:, rows], targets[:, rows], mask[:, rows], counts / 2) for rows in (slice(0, 4), slice(4, 8))
    ]
    assert float(sum(halves)) / 2 == pytest.approx(float(whole), rel=1e-6)


def test_rounds_stand_flush_right(problems: Problems):
    batch = draw_rounds_batch(problems, 4, 3, "last", seed=0, step=2)
    arithmetic = problems.arithmetic
    for row in range(4):
        problem = batch.problems_BS[row][batch.problems_BS[row] != PAD]
        expected = arithmetic.rounds(problem[None])
        assert len(expected) == batch.length == len(batch.rounds_TBS)
        for t, tokens in enumerate(expected):
            length = tokens.shape[1]
            assert batch.rounds_TBS[t, row, -length:].tolist() == tokens[0].tolist()
            assert (batch.rounds_TBS[t, row, :-length] == PAD).all()
            assert batch.supervised_TBS[t, row].sum() == length + 1
    assert (batch.problems_BS[:, 0] == PAD).all()


def test_read_out_scans_from_the_right_to_the_first_pad():
    rng = np.random.default_rng(0)
    shown = rng.integers(0, 3, size=(200, 7)).astype(np.uint8)  # a third of them PAD
    shown[0] = 2  # no PAD at all
    shown[1, -1] = PAD  # an empty round
    for row, kept in zip(shown, read_out(shown), strict=True):
        by_hand = []
        for token in row[::-1]:
            if token == PAD:
                break
            by_hand.insert(0, int(token))
        assert row[kept].tolist() == by_hand


def test_rounds_are_put_one_after_the_other():
    shown = np.array([[[9, PAD, 4, 5], [9, 9, 9, PAD]], [[9, PAD, 6, 2], [PAD, 7, 8, 9]]], np.uint8)
    answers = np.array([[3], [4]], np.uint8)
    assert concatenate_rounds(shown, answers).tolist() == [[4, 5, 6, 2, 3, EOS], [7, 8, 9, 4, EOS, PAD]]


def test_the_loop_runs_once_for_each_operator():
    torch.manual_seed(0)
    network = LoopedTransformer(SMALL, 12, alibi_slopes=(1.0, 0.5))
    problem = Arithmetic(7, ("+", "-")).problems(np.array([1234]), 3)
    tokens = torch.from_numpy(flush_right(problem, 9)).long()
    logits, answer = network(tokens, 3)
    assert logits.shape == (3, 1, 9, 12)
    torch.testing.assert_close(network(tokens, 2)[0], logits[:2])  # an iteration does not know how many follow
    assert work_off(network, problem)[0].tolist()[-2:] == [int(answer.argmax()), EOS]


def test_an_iteration_is_the_same_map_wherever_the_problem_stands():
    """Positions are relative: more padding on the left, which is not looked at, would change nothing."""
    torch.manual_seed(0)
    network = LoopedTransformer(SMALL, 12, alibi_slopes=(40.0, 40.0))  # so steep that each sees its neighbours only
    short = torch.tensor([[0, 0, 0, 5, 3, 6, 2]])
    long = torch.cat([torch.zeros(1, 4, dtype=torch.long), short], dim=1)
    torch.testing.assert_close(network(long, 1)[0][..., -4:, :], network(short, 1)[0][..., -4:, :])


def test_the_curriculum_waits_for_batches_that_use_all_rounds():
    curriculum = RoundCurriculum(most=3, loss=0.1, window=2)
    assert curriculum.unrolled == 1
    curriculum.take(0.01, length=1)
    curriculum.take(0.5, length=2)
    assert curriculum.unrolled == 1
    curriculum.take(0.01, length=1)
    curriculum.take(0.01, length=1)
    assert curriculum.unrolled == 2
    for _ in range(5):
        curriculum.take(0.0, length=1)  # shorter than what is unrolled
    assert curriculum.unrolled == 2
    for _ in range(5):
        curriculum.take(0.0, length=5)
    assert curriculum.unrolled == 3
    assert RoundCurriculum(most=3, loss=None, window=2).unrolled == 3


def test_a_resumed_teacher_equals_an_unbroken_one(problems_folder, world_of):
    config = TeacherConfig(
        max_steps=12, batch_size=8, network=SMALL, curriculum_loss=3.0, curriculum_window=2, left_pads=2
    ).with_overrides({"optimizer.decay_steps": 4, "optimizer.warmup_steps": 2})
    unbroken = TeacherLearner(config, world_of({"problems": problems_folder}))
    for _ in range(6):
        unbroken.step()
    state = copy.deepcopy(unbroken.state_dict())  # as if through a file
    resumed = TeacherLearner(config, world_of({"problems": problems_folder}))
    resumed.load_state_dict(state)
    for _ in range(6):
        assert unbroken.step() == resumed.step()
    assert unbroken.finished
    assert unbroken.curriculum.unrolled > 1
    assert all(torch.equal(a, b) for a, b in zip(unbroken.weights().values(), resumed.weights().values(), strict=True))
