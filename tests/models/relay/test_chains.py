"""The student's batches and the label files: what it reads, what it is asked for, and that nothing is mixed up."""

from pathlib import Path

import numpy as np
import pytest

from models.common.errors import DataError
from models.relay.chains import Labels, chains_batches, draw_chains, rounds_of_chains, with_chain
from models.relay.config import StudentConfig
from models.relay.network_config import MixConfig
from models.relay.problems import Group, Problems
from models.relay.streams import CONTINUED, STUDENT
from models.relay.task import EOS, PAD, Tokens
from models.relay.tasks.arithmetic import Arithmetic

ONE = StudentConfig(batch_size=8)


def unpadded(row: Tokens) -> list[int]:
    return [int(token) for token in row if token != PAD]


def made_up_labels(problems: Problems) -> Labels:
    """Chains that no solver would write."""
    rows = {}
    for group in problems.label:
        drawn = problems.draw(np.random.default_rng(group.length), group, 20)
        nonsense = np.random.default_rng(0).integers(2, 8, size=(20, 7)).astype(np.uint16)
        end = np.full((20, 1), EOS, np.uint16)
        rows[group] = with_chain(problems, group, drawn, np.concatenate([nonsense, end], axis=1))
    return Labels(rows, problems.vocabulary)


def test_beyond_training_the_student_reads_labels_and_no_solver(problems: Problems, monkeypatch: pytest.MonkeyPatch):
    asked: set[int] = set()
    work = Arithmetic.work

    def watched(self: Arithmetic, problems_PL: Tokens, length: int):
        asked.add(length)
        return work(self, problems_PL, length)

    monkeypatch.setattr(Arithmetic, "work", watched)
    labels = made_up_labels(problems)
    known = {row.tobytes() for group in labels.groups for row in labels.rows(group).tokens_PW}
    longer = 0
    for step in range(200):
        chains = draw_chains(problems, labels, ONE.but(new_share=0.5), 1, CONTINUED, step)
        mine = [row.tobytes() in known for row in chains.rows.tokens_PW]
        assert all(mine) or not any(mine)
        longer += mine[0]
    assert 70 < longer < 130
    assert asked == set(problems.data.tasks[0].train_lengths)


def test_lengths_come_in_proportion_to_themselves(problems: Problems):
    rng = np.random.default_rng(0)
    lengths = [problems.draw_group(rng).length for _ in range(3000)]
    shares = {length: lengths.count(length) / 3000 for length in range(1, 6)}
    assert shares == pytest.approx({length: length / 15 for length in range(1, 6)}, abs=0.03)


def test_labels_come_as_often_as_there_are_of_them(problems: Problems):
    labels = made_up_labels(problems)
    few, many = problems.label[0], problems.label[1]
    rows = {few: labels.rows(few).take(np.arange(5)), many: labels.rows(many).take(np.arange(15))}
    uneven, rng = Labels(rows, problems.vocabulary), np.random.default_rng(0)
    share = np.mean([uneven.draw_group(rng) == few for _ in range(2000)])
    assert share == pytest.approx(0.25, abs=0.03)


def test_no_batch_holds_a_test_problem(mixed: Problems):
    tests = {
        tuple(unpadded(row)) for group in mixed.groups for row in mixed.vocabulary.asked(group.task, mixed.tests(group))
    }
    config = ONE.but(mix=MixConfig(draws=8).model_dump())
    for step in range(60):
        rows = draw_chains(mixed, None, config, 1, STUDENT, step).rows
        assert not tests & {
            tuple(int(t) for t in row[:asked]) for row, asked in zip(rows.tokens_PW, rows.asked_P, strict=True)
        }


def test_a_batch_depends_on_seed_stream_and_step_alone(problems: Problems):
    def draw(seed: int, stream: int, step: int) -> bytes:
        return draw_chains(problems, None, ONE, seed, stream, step).rows.tokens_PW.tobytes()

    assert draw(1, STUDENT, 5) == draw(1, STUDENT, 5)
    assert len({draw(1, STUDENT, 5), draw(2, STUDENT, 5), draw(1, CONTINUED, 5), draw(1, STUDENT, 6)}) == 4


def test_chain_answer_and_end_are_learnt_and_the_problem_is_not(mixed: Problems, mixed_folder: Path, world_of):
    config = StudentConfig(batch_size=24, mix=MixConfig(draws=6, buckets=3))
    chains = draw_chains(mixed, None, config, 1, STUDENT, 3)
    asked = {
        tuple(unpadded(row)): int(count) for row, count in zip(chains.rows.tokens_PW, chains.rows.asked_P, strict=True)
    }
    to_learn = (chains.rows.tokens_PW != PAD).sum() - chains.rows.asked_P.sum()
    learnt = 0
    for batch in chains_batches(chains, config, world_of({"problems": mixed_folder})):
        width = batch.tokens_BS.shape[1] - 1
        for b, row in enumerate(batch.tokens_BS):
            mine = batch.picked_N[batch.picked_N // width == b] % width + 1
            tokens = unpadded(row)
            assert mine.tolist() == list(range(asked[tuple(tokens)], len(tokens)))
            assert tokens[-1] == EOS
            learnt += len(mine)
        np.testing.assert_array_equal(
            batch.targets_N, [batch.tokens_BS[place // width, place % width + 1] for place in batch.picked_N]
        )
    assert learnt == to_learn


@pytest.mark.parametrize("size", [1, 2, 4])
def test_all_ranks_together_give_each_token_the_same_weight(size: int, mixed: Problems, mixed_folder: Path, world_of):
    config = StudentConfig(batch_size=24, mix=MixConfig(draws=6, buckets=3))
    chains = draw_chains(mixed, None, config, 1, STUDENT, 3)
    weights = np.concatenate([
        batch.weight_N
        for rank in range(size)
        for batch in chains_batches(chains, config, world_of({"problems": mixed_folder}, rank=rank, size=size))
    ])  # fmt: skip
    assert np.ptp(weights) < 1e-7
    assert weights.sum() == pytest.approx(size, rel=1e-5)


def test_labels_survive_the_folder(mixed: Problems, tmp_path: Path):
    rows = {}
    for group in mixed.label:
        drawn = mixed.draw(np.random.default_rng(3), group, 9)
        rows[group] = with_chain(mixed, group, drawn, mixed.solutions(group, drawn))
    Labels(rows, mixed.vocabulary).write(tmp_path)
    read = Labels.read(tmp_path, mixed)
    assert read.groups == tuple(sorted(mixed.label))
    for group in mixed.label:
        np.testing.assert_array_equal(read.rows(group).tokens_PW, rows[group].tokens_PW)
        np.testing.assert_array_equal(read.rows(group).asked_P, rows[group].asked_P)
    with pytest.raises(DataError, match="labels stage"):
        Labels.read(tmp_path / "nowhere", mixed)


def test_a_chain_is_cut_into_the_rounds_it_was_made_of(mixed: Problems):
    for group in (*mixed.train, *mixed.label):
        task = mixed.tasks[group.task]
        drawn = mixed.draw(np.random.default_rng(5), group, 12)
        worked = task.work(drawn, group.length)
        again = rounds_of_chains(task, task.concatenate(*worked), group.length)
        for p in range(12):
            assert [unpadded(each) for each in again.rounds_PTR[p]] == [unpadded(each) for each in worked.rounds_PTR[p]]
            assert unpadded(again.answers_PA[p]) == unpadded(worked.answers_PA[p])


def test_labels_give_back_problems_and_chains(mixed: Problems):
    group = mixed.label[1]
    drawn = mixed.draw(np.random.default_rng(3), group, 9)
    solutions = mixed.solutions(group, drawn)
    labels = Labels({group: with_chain(mixed, group, drawn, solutions)}, mixed.vocabulary)
    known = {
        tuple(unpadded(problem)): unpadded(solution)
        for problem, solution in zip(mixed.vocabulary.asked(group.task, drawn), solutions, strict=True)
    }
    problems, chains = labels.draw(np.random.default_rng(0), group, 30)
    assert all(known[tuple(unpadded(p))] == unpadded(c) for p, c in zip(problems, chains, strict=True))
    assert Group(*group) == group
