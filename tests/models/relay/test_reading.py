"""How the teacher's iterations are read out, put together and brought to an end."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.common.errors import ConfigError
from models.relay.config import TeacherConfig
from models.relay.labels_config import ReadingConfig
from models.relay.network import LoopedTransformer
from models.relay.network_config import NetworkConfig
from models.relay.problems import Group, Problems
from models.relay.reading import Reading, read_out, read_problems
from models.relay.task import EOS, PAD
from models.relay.tasks.arithmetic import Arithmetic
from models.relay.tasks.edit_distance import EditDistance

SMALL = TeacherConfig(network=NetworkConfig(layers=1, width=16, heads=2, feed_forward_width=32))


@pytest.fixture
def network(mixed: Problems) -> LoopedTransformer:
    torch.manual_seed(4)
    network = LoopedTransformer(SMALL, len(mixed.vocabulary)).eval()
    with torch.no_grad():  # so that PAD is shown often enough to end rounds
        assert network.round_head is not None
        network.round_head.bias[PAD] += 1.0
    return network


@pytest.mark.parametrize("alignment", ["right", "left"])
def test_a_round_is_what_stands_between_its_side_and_the_first_pad(alignment: str):
    rng = np.random.default_rng(0)
    shown = rng.integers(0, 3, size=(200, 7)).astype(np.uint16)  # a third of them PAD
    shown[0] = 2  # no PAD at all
    shown[1, [0, -1]] = PAD  # an empty round
    for row, kept in zip(shown, read_out(shown, alignment), strict=True):
        by_hand = []
        for token in row[::-1] if alignment == "right" else row[1:]:  # in front of the left stands a PAD that marks it
            if token == PAD:
                break
            by_hand.append(int(token))
        assert sorted(row[kept].tolist()) == sorted(by_hand)
        assert kept.sum() == len(by_hand)


def test_rounds_are_put_one_after_the_other_and_the_answers_head_speaks_last():
    rounds = np.array([[[4, 2, 0], [6, 0, 0]], [[7, 8, 2], [9, 0, 0]]], np.uint16)
    reading = Reading(rounds, np.array([[3], [5]], np.uint16), np.array([2, 2]), np.ones(2, np.float32))
    assert reading.written(Arithmetic()).tolist() == [[4, 2, 3, EOS, PAD], [7, 8, 2, 5, EOS]]
    assert reading.written(EditDistance()).tolist() == [[4, 2, 6, 3, EOS, PAD], [7, 8, 2, 9, 5, EOS]]
    assert reading.last_rounds().tolist() == [[6, 0, 0], [9, 0, 0]]


def test_a_problem_is_read_alike_alone_and_among_others(mixed: Problems, network: LoopedTransformer):
    group = mixed.label[0]
    tests = mixed.tests(group)
    task = mixed.tasks[group.task]
    together = read_problems(network, mixed, group, tests)
    for place in range(0, len(tests), 5):
        alone = read_problems(network, mixed, group, tests[place : place + 1])
        mine, other = (r.written(task)[p] for r, p in ((alone, 0), (together, place)))
        assert mine[mine != PAD].tolist() == other[other != PAD].tolist()
        assert alone.confidence_P[0] == pytest.approx(together.confidence_P[place], rel=1e-4)
    assert (together.loops_P == mixed.loops(group)).all()


def test_more_loops_begin_with_the_same_rounds(mixed: Problems, network: LoopedTransformer):
    group = mixed.label[0]
    tests, loops = mixed.tests(group), mixed.loops(group)
    given = read_problems(network, mixed, group, tests)
    more = read_problems(network, mixed, group, tests, ReadingConfig(more_loops=2))
    fewer = read_problems(network, mixed, group, tests, ReadingConfig(more_loops=-loops - 5))
    np.testing.assert_array_equal(more.rounds_PTR[:, :loops], given.rounds_PTR)
    assert set(more.loops_P) == {loops + 2}
    assert set(fewer.loops_P) == {1}
    np.testing.assert_array_equal(fewer.rounds_PTR, given.rounds_PTR[:, :1])


def test_the_loop_halts_at_the_first_round_that_says_it_is_the_last(mixed: Problems, network: LoopedTransformer):
    group = Group("arithmetic", 3)
    most = max(mixed.loops(each) for each in mixed.groups if each.task == "arithmetic")
    task, tests = mixed.tasks[group.task], mixed.tests(group)
    every = read_problems(network, mixed, group, tests, ReadingConfig(more_loops=most - 3))
    halted = read_problems(network, mixed, group, tests, ReadingConfig(halting="last_round"))
    end = task.token("=")
    for p in range(len(tests)):
        last = [t for t in range(most) if end not in every.rounds_PTR[p, t]]
        loops = last[0] + 1 if last else most
        assert halted.loops_P[p] == loops
        np.testing.assert_array_equal(halted.rounds_PTR[p, :loops], every.rounds_PTR[p, :loops])
        assert not halted.rounds_PTR[p, loops:].any()
    with pytest.raises(ConfigError, match="edit_distance"):
        read_problems(
            network, mixed, Group("edit_distance", 4), mixed.tests(Group("edit_distance", 4)),
            ReadingConfig(halting="last_round"),
        )  # fmt: skip


def test_the_surest_answer_halts_the_loop(mixed: Problems, network: LoopedTransformer):
    group = Group("edit_distance", 4)
    tests = mixed.tests(group)
    most = max(mixed.loops(each) for each in mixed.groups if each.task == group.task)
    halted = read_problems(network, mixed, group, tests, ReadingConfig(halting="confidence"))
    at = [read_problems(network, mixed, group, tests, ReadingConfig(more_loops=t - 4)) for t in range(1, most + 1)]
    for p in range(len(tests)):
        answers = at[halted.loops_P[p] - 1].answers_PA[p]
        np.testing.assert_array_equal(halted.answers_PA[p], answers)
        surest = max(at, key=lambda each: _answer_probability(network, mixed, group, tests[p], int(each.loops_P[p])))
        assert halted.loops_P[p] == surest.loops_P[p]


def _answer_probability(network, problems: Problems, group: Group, problem: np.ndarray, loops: int) -> float:
    asked = problems.vocabulary.asked(group.task, problem[problem != PAD][None])
    tokens = torch.from_numpy(np.pad(asked, ((0, 0), (1, 0))).astype(np.int64))
    with torch.no_grad():
        _, logits = network(tokens, (1,) * loops, torch.tensor([loops - 1]), 1)
    return float(torch.softmax(logits[0, 0], dim=-1).max())


def test_a_pass_with_dropout_is_its_seeds_and_leaves_the_network_alone(mixed: Problems, network: LoopedTransformer):
    group = mixed.label[0]

    def rounds(dropout: float, seed: int) -> bytes:
        return read_problems(network, mixed, group, mixed.tests(group), dropout=dropout, seed=seed).rounds_PTR.tobytes()

    plain, state = rounds(0.0, 0), torch.get_rng_state()
    assert rounds(0.5, 1) == rounds(0.5, 1)
    assert len({plain, rounds(0.5, 1), rounds(0.5, 2)}) == 3
    assert rounds(0.0, 7) == plain
    assert torch.equal(torch.get_rng_state(), state)


def test_a_teacher_that_shows_the_rounds_writes_the_solution(problems: Problems, problems_folder: Path, monkeypatch):
    """With the network's logits set to what is right, what is written is the solver's chain."""
    group = problems.label[0]
    task, tests = problems.tasks[group.task], problems.tests(group)
    worked = task.work(tests, group.length)
    network = LoopedTransformer(SMALL, len(problems.vocabulary)).eval()

    def knows(tokens_BS, rows_T, answer_at_B, answer_width, picked_N=None):
        count, width = tokens_BS.shape
        logits = torch.full((len(rows_T), count, width, len(problems.vocabulary)), -9.0)
        for t in range(len(rows_T)):
            for p in range(count):
                row = worked.rounds_PTR[p, t]
                row = row[row != PAD]
                logits[t, p, range(width), [PAD] * (width - len(row)) + row.tolist()] = 9.0
        answers = torch.full((len(answer_at_B), answer_width, len(problems.vocabulary)), -9.0)
        for at in range(len(answer_at_B)):
            answers[at, 0, int(worked.answers_PA[at % count, 0])] = 9.0
        return logits.flatten(0, 1), answers

    monkeypatch.setattr(network, "forward", knows)
    reading = read_problems(network, problems, group, tests)
    np.testing.assert_array_equal(reading.written(task), problems.solutions(group, tests))
    assert reading.confidence_P.min() > 0.99
