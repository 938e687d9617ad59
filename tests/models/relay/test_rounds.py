"""The teacher's batches against the rounds of their problems, cell by cell, and against loops written out by hand."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from models.relay.chains import Labels, with_chain
from models.relay.config import TeacherConfig
from models.relay.data_config import ProblemsData, TaskLengths
from models.relay.network_config import MixConfig
from models.relay.problems import Problems
from models.relay.rounds import IGNORED, Rounds, RoundsBatch, draw_rounds, rounds_batches, stand, supervised_positions
from models.relay.task import EOS, PAD, Tokens
from models.relay.tasks.increasing import LongestIncreasing

MIXED = TeacherConfig(batch_size=24, mix=MixConfig(draws=6, buckets=3), side_pads=3)
ALL = 1000


def batches_of(problems: Problems, config: TeacherConfig, unrolled: int, world) -> tuple[Rounds, list[RoundsBatch]]:
    rounds, rng = draw_rounds(problems, config, seed=1, step=4)
    return rounds, rounds_batches(rounds, config, unrolled, rng, world)


def unpadded(row: Tokens) -> list[int]:
    return [int(token) for token in row if token != PAD]


@pytest.mark.parametrize("alignment", ["right", "left"])
@pytest.mark.parametrize("pads", ["last", "all"])
def test_each_problem_is_asked_for_its_own_rounds(alignment: str, pads: str, mixed: Problems, mixed_folder, world_of):
    config = MIXED.but(alignment=alignment, supervised_pads=pads)
    rounds, batches = batches_of(mixed, config, ALL, world_of({"problems": mixed_folder}))
    by_problem = {
        tuple(unpadded(problem)): (rows, answer, loops)
        for problem, rows, answer, loops in zip(
            rounds.problems_BW, rounds.rounds_BTW, rounds.answers_BA, rounds.loops_B, strict=True
        )
    }
    seen = 0
    for batch in batches:
        count, width = batch.tokens_BS.shape
        first_T = np.cumsum([0, *batch.rows_T])
        targets = {int(place): int(target) for place, target in zip(batch.picked_N, batch.targets_N, strict=True)}
        for b, tokens in enumerate(batch.tokens_BS):
            rows, answer, loops = by_problem[tuple(unpadded(tokens))]
            seen += 1
            assert tokens[0 if alignment == "right" else -1] == PAD
            assert batch.answer_at_B[b] == first_T[loops - 1] + b
            assert [t for t in batch.answers_BA[b] if t != IGNORED] == unpadded(answer)
            for t in range(loops):
                assert b < batch.rows_T[t], "it stays in the loop for all its rounds"
                first = (first_T[t] + b) * width
                shown = {s: targets[first + s] for s in range(width) if first + s in targets}
                right = unpadded(rows[t])
                places = range(width - len(right), width) if alignment == "right" else range(1, len(right) + 1)
                assert [shown[s] for s in places] == right
                beside = places[0] - 1 if alignment == "right" else places[-1] + 1
                others = set(shown) - set(places)
                assert others == (set(range(width)) - set(places) if pads == "all" else {beside})
                assert all(shown[s] == PAD for s in others)
            assert (first_T[loops] + b) * width not in targets or loops < len(batch.rows_T)
        assert batch.rows_T[0] == count
    assert seen == 24


def test_rows_leave_the_loop_when_they_are_done(mixed: Problems, mixed_folder, world_of):
    rounds, batches = batches_of(mixed, MIXED, ALL, world_of({"problems": mixed_folder}))
    assert sum(sum(batch.rows_T) for batch in batches) == rounds.loops_B.sum()
    assert any(len(set(batch.rows_T)) > 1 for batch in batches)


def test_weights_make_every_problem_and_each_of_its_rounds_count_alike(mixed: Problems, mixed_folder, world_of):
    config = MIXED.but(task_weights={"edit_distance": 10.0})
    rounds, batches = batches_of(mixed, config, ALL, world_of({"problems": mixed_folder}))
    total = 0.0
    for batch in batches:
        first_T, width = np.cumsum([0, *batch.rows_T]), batch.tokens_BS.shape[1]
        for b, tokens in enumerate(batch.tokens_BS):
            weight = 10.0 if mixed.vocabulary.texts[unpadded(tokens)[0]] == "[edit_distance]" else 1.0
            loops = int(np.searchsorted(first_T, batch.answer_at_B[b], side="right"))
            for t in range(loops):
                first = (first_T[t] + b) * width
                mine = (batch.picked_N >= first) & (batch.picked_N < first + width)
                assert batch.weight_N[mine].sum() == pytest.approx(weight / 24 / loops, rel=1e-4)
                assert np.ptp(batch.weight_N[mine]) < 1e-7
                total += float(batch.weight_N[mine].sum())
    assert total == pytest.approx(float(rounds.weight_B.mean()), rel=1e-4)


def test_a_curriculum_cuts_rounds_and_the_answers_behind_them(problems: Problems, problems_folder: Path, world_of):
    config = TeacherConfig(batch_size=8, mix=MixConfig(draws=8))
    rounds, [batch] = batches_of(problems, config, 2, world_of({"problems": problems_folder}))
    assert len(batch.rows_T) == min(2, int(rounds.loops_B.max()))
    answered = (batch.answers_BA != IGNORED).any(axis=1)
    lengths = np.array([(len(unpadded(row)) - 2) // 2 for row in batch.tokens_BS])
    np.testing.assert_array_equal(answered, lengths <= 2)
    assert batch.weight_N.sum() == pytest.approx(1.0, rel=1e-5)
    deep = np.concatenate([np.repeat(lengths >= 2, 1)])
    rows_of_picked = batch.picked_N // batch.tokens_BS.shape[1]
    row = np.where(rows_of_picked < batch.rows_T[0], rows_of_picked, rows_of_picked - batch.rows_T[0])
    np.testing.assert_array_equal(batch.deep_N, deep[row])


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_share_the_global_batch_and_go_round_equally_often(size: int, mixed: Problems, mixed_folder, world_of):
    _, whole = batches_of(mixed, MIXED, ALL, world_of({"problems": mixed_folder}))
    shares = [
        batches_of(mixed, MIXED, ALL, world_of({"problems": mixed_folder}, rank=rank, size=size))[1]
        for rank in range(size)
    ]
    for place, batch in enumerate(whole):
        parts = [share[place] for share in shares]
        assert {len(part.rows_T) for part in parts} == {len(batch.rows_T)}
        rows = sorted(row.tobytes() for part in parts for row in part.tokens_BS)
        assert rows == sorted(row.tobytes() for row in batch.tokens_BS)
        assert sum(part.weight_N.sum() for part in parts) / size == pytest.approx(batch.weight_N.sum(), rel=1e-5)


@pytest.mark.parametrize("pads", ["last", "all"])
def test_labelled_problems_are_shown_without_the_boards_that_a_solver_would_draw(
    pads: Literal["last", "all"], world_of
):
    task = LongestIncreasing(values=5, fold=2, runs=0, own_tokens=True)
    lengths = TaskLengths(task=task, train_lengths=(2,), label_lengths=(8,), untouched_lengths=())
    problems = Problems.choose(ProblemsData(tasks=(lengths,), tests_per_length=8))
    [group] = problems.label
    drawn = problems.draw(np.random.default_rng(0), group, 16)
    ones = np.tile(np.append(task.read("1 1 <sep> " * 4 + "1"), np.uint16(EOS)), (16, 1))
    labels = Labels({group: with_chain(problems, group, drawn, ones)}, problems.vocabulary)
    config = TeacherConfig(batch_size=8, board=True, alignment="left", supervised_pads=pads, label_share=1.0)
    rounds, rng = draw_rounds(problems, config, seed=0, step=0, labels=labels)
    [batch] = rounds_batches(rounds, config, ALL, rng, world_of({}))
    assert set(batch.targets_N.tolist()) == {PAD, task.token("1"), task.token("<sep>")}, "the counts that labels have"
    places = batch.picked_N % batch.tokens_BS.shape[1]
    beyond = [10] if pads == "all" else []  # the PAD that ends the row; problems have 9 tokens behind the first place
    assert sorted(set(places.tolist())) == [*([0] if pads == "all" else []), 1, 2, 3, 4, *beyond]


@pytest.mark.parametrize("alignment", ["right", "left"])
def test_labels_without_round_ends_or_answers_can_be_trained_on(
    alignment: Literal["right", "left"], problems: Problems, world_of
):
    group, task = problems.label[-1], problems.tasks["arithmetic"]
    drawn = problems.draw(np.random.default_rng(0), group, 16)
    endless = problems.solutions(group, drawn)
    endless[endless == task.token("=")] = task.token("+")
    endless[8:] = PAD
    endless[8:, 0] = EOS
    labels = Labels({group: with_chain(problems, group, drawn, endless)}, problems.vocabulary)
    config = TeacherConfig(batch_size=32, alignment=alignment, label_share=1.0)
    rounds, rng = draw_rounds(problems, config, seed=0, step=0, labels=labels)
    [batch] = rounds_batches(rounds, config, ALL, rng, world_of({}))
    assert np.isfinite(batch.answer_weight_B).all()
    assert np.isfinite(batch.weight_N).all()
    unanswered = (batch.answers_BA == IGNORED).all(axis=1)
    assert 0 < unanswered.sum() < len(unanswered)


def test_a_batch_depends_on_seed_and_step_alone(mixed: Problems):
    def draw(seed: int, step: int) -> bytes:
        return draw_rounds(mixed, MIXED, seed, step)[0].problems_BW.tobytes()

    assert draw(1, 5) == draw(1, 5)
    assert len({draw(1, 5), draw(2, 5), draw(1, 6)}) == 3


def test_rows_stand_at_the_side_they_are_aligned_to():
    rows = np.array([[5, 6, PAD], [7, PAD, PAD]], np.uint16)
    assert stand(rows, 4, "right").tolist() == [[0, 0, 5, 6], [0, 0, 0, 7]]
    assert stand(rows, 4, "left").tolist() == [[0, 5, 6, 0], [0, 7, 0, 0]]


def test_the_pad_beside_a_round_is_supervised():
    targets = np.array([[[0, 0, 5, 6], [0, 0, 0, 7]]], np.uint16)
    assert supervised_positions(targets, "last").astype(int).tolist() == [[[0, 1, 1, 1], [0, 0, 1, 1]]]
    mirrored = targets[..., ::-1]
    assert (
        supervised_positions(mirrored, "last", "left")[..., ::-1].tolist()
        == supervised_positions(targets, "last").tolist()
    )
    assert supervised_positions(targets, "all").all()
