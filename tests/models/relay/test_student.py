"""The student's batches, loss and decoding: what it reads, what it is asked for, and that a cache changes nothing."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from models.common.errors import ConfigError
from models.relay.arithmetic import EOS, PAD, Arithmetic, problem_width
from models.relay.batches import CONTINUED, STUDENT, ChainsBatch, Labels, draw_chains_batch
from models.relay.config import NetworkConfig, OptimizerConfig, StudentConfig
from models.relay.decoding import write_on
from models.relay.network import Decoder
from models.relay.problems import Problems
from models.relay.schedule import Convergence, learning_rate
from models.relay.student import StudentLearner, chain_loss

SMALL = NetworkConfig(layers=2, width=16, heads=2, feed_forward_width=32)


def made_up_labels(problems: Problems) -> Labels:
    """Rows that no solver would write: each answers a problem with numbers that stand for its place."""
    rows = {}
    for length in problems.label_lengths:
        drawn = problems.draw(np.random.default_rng(length), length, 20)
        nonsense = np.random.default_rng(0).integers(2, 12, size=(20, 7)).astype(np.uint8)
        rows[length] = np.concatenate([drawn, nonsense, np.full((20, 1), EOS, np.uint8)], axis=1)
    return Labels(rows)


def test_beyond_training_the_student_reads_labels_and_no_solver(problems: Problems, monkeypatch: pytest.MonkeyPatch):
    asked: set[int] = set()
    reduce_leftmost = Arithmetic.reduce_leftmost

    def watched(self: Arithmetic, tokens: np.ndarray) -> np.ndarray:
        asked.add((tokens.shape[1] - 2) // 2)
        return reduce_leftmost(self, tokens)

    monkeypatch.setattr(Arithmetic, "reduce_leftmost", watched)
    labels = made_up_labels(problems)
    seen = set()
    for step in range(300):
        batch = draw_chains_batch(problems, labels, 8, 0.5, seed=1, stream=CONTINUED, step=step)
        seen.add(batch.length)
        if batch.length not in problems.train_lengths:
            known = {row.tobytes() for row in labels.rows(batch.length)}
            assert all(row.tobytes() in known for row in batch.tokens_BS)
    assert seen == {*problems.train_lengths, *problems.label_lengths}
    assert asked == set(problems.train_lengths)


def test_without_labels_all_batches_are_short(problems: Problems):
    lengths = [draw_chains_batch(problems, None, 2, 0.0, 1, STUDENT, step).length for step in range(1500)]
    shares = {length: lengths.count(length) / 1500 for length in problems.train_lengths}
    assert shares == pytest.approx({length: length / 15 for length in problems.train_lengths}, abs=0.04)


def test_no_batch_holds_a_test_problem(problems: Problems):
    for step in range(100):
        batch = draw_chains_batch(problems, None, 16, 0.0, 1, STUDENT, step)
        tests = {row.tobytes() for row in problems.tests(batch.length)}
        assert not tests & {row[: problem_width(batch.length)].tobytes() for row in batch.tokens_BS}


def test_a_batch_depends_on_seed_stream_and_step_alone(problems: Problems):
    def draw(seed: int, stream: int, step: int) -> bytes:
        return draw_chains_batch(problems, None, 16, 0.0, seed, stream, step).tokens_BS.tobytes()

    assert draw(1, STUDENT, 5) == draw(1, STUDENT, 5)
    assert len({draw(1, STUDENT, 5), draw(2, STUDENT, 5), draw(1, CONTINUED, 5), draw(1, STUDENT, 6)}) == 4


def test_the_global_batch_is_the_same_whatever_the_number_of_workers(problems_folder: Path, world_of):
    whole = draw_chains_batch(Problems.read(problems_folder), None, 12, 0.0, 3, STUDENT, 7).tokens_BS
    for size in (1, 2, 3, 4):
        worlds = [world_of({"problems": problems_folder}, rank=rank, size=size) for rank in range(size)]
        shares = [
            draw_chains_batch(Problems.read(world.inputs["problems"]), None, 12, 0.0, world.seed, STUDENT, 7).tokens_BS[
                world.share(12)
            ]
            for world in worlds
        ]
        np.testing.assert_array_equal(np.concatenate(shares), whole)


def test_chain_answer_and_end_are_learnt_and_the_problem_is_not(problems: Problems):
    tokens = np.array([[5, 3, 6, 2, 11, EOS, PAD], [5, 3, 6, 2, 9, 8, EOS]], np.uint8)
    assert ChainsBatch(1, tokens).supervised_BS.astype(int).tolist() == [[0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 1, 1]]


def test_two_shares_average_to_the_global_loss_where_rows_differ_in_length(problems: Problems):
    torch.manual_seed(0)
    rows = np.full((8, 20), PAD, np.uint8)
    for row in range(8):
        rows[row, : 6 + row] = 7
        rows[row, 6 + row] = EOS
    batch = ChainsBatch(1, rows)
    logits = torch.randn(8, 19, 12)
    targets, mask = torch.from_numpy(rows[:, 1:]).long(), torch.from_numpy(batch.supervised_BS)
    count = float(mask.sum())
    whole = float(chain_loss(logits, targets, mask, count))
    halves = [float(chain_loss(logits[r], targets[r], mask[r], count / 2)) for r in (slice(0, 4), slice(4, 8))]
    assert sum(halves) / 2 == pytest.approx(whole, rel=1e-6)
    plain = torch.nn.functional.cross_entropy(logits[mask], targets[mask])
    assert whole == pytest.approx(float(plain), rel=1e-5)


def test_cached_decoding_equals_full_decoding(problems: Problems):
    torch.manual_seed(1)
    network = Decoder(SMALL, 12).eval()
    with torch.no_grad():
        network.head.weight[EOS] *= 3  # so that some rows end early
    tests = problems.tests(3)
    written = write_on(network, tests, most=25)
    for problem, row in zip(tests, written, strict=True):
        tokens = torch.from_numpy(problem).long()[None]
        by_hand = []
        while len(by_hand) < 25 and EOS not in by_hand:
            with torch.no_grad():
                by_hand.append(int(network(tokens)[0, -1].argmax()))
            tokens = torch.cat([tokens, torch.tensor([[by_hand[-1]]])], dim=1)
        assert row.tolist() == (by_hand + [PAD] * 25)[: len(row)]


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


def test_a_resumed_student_equals_an_unbroken_one(problems_folder: Path, world_of):
    config = StudentConfig(
        max_steps=30,
        batch_size=8,
        network=SMALL,
        optimizer=OptimizerConfig(
            learning_rate=3e-3, warmup_steps=2, decay_steps=4, converged_loss=3.0, converged_window=2
        ),
    )
    unbroken = StudentLearner(config, world_of({"problems": problems_folder}))
    for _ in range(5):
        unbroken.step()
    resumed = StudentLearner(config, world_of({"problems": problems_folder}))
    resumed.load_state_dict(copy.deepcopy(unbroken.state_dict()))  # as if through a file
    steps = 5
    while not unbroken.finished:
        assert unbroken.step() == resumed.step()
        steps += 1
        assert steps < 30, "the loss is under 3 nats long before"
    assert resumed.finished
    assert all(torch.equal(a, b) for a, b in zip(unbroken.weights().values(), resumed.weights().values(), strict=True))


def test_labels_are_asked_for_where_they_are_needed(problems_folder: Path, world_of):
    with pytest.raises(ConfigError, match="labels"):
        StudentLearner(StudentConfig(new_share=0.5, network=SMALL), world_of({"problems": problems_folder}))
