"""Draws of a batch and its buckets, against all ways to cut a few rows, and what the presets' batches leave empty."""

from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from benchmarks.relay_padding import Part, solved, student_parts, teacher_parts
from models.relay.config import StudentConfig
from models.relay.data_config import ProblemsData, TaskLengths
from models.relay.mixing import buckets_of, draw_groups, least_rows
from models.relay.network_config import MixConfig
from models.relay.presets import paper
from models.relay.problems import Group, Problems
from models.relay.tasks.addition import BinaryAddition
from models.relay.tasks.parity import Parity

TWO_TASKS = ProblemsData(
    tasks=(
        TaskLengths(task=Parity(), train_lengths=(2, 4), label_lengths=(5,), untouched_lengths=()),
        TaskLengths(task=BinaryAddition(), train_lengths=(1, 3), label_lengths=(4,), untouched_lengths=()),
    ),
    tests_per_length=1,
)


def computed(widths: np.ndarray, passes: np.ndarray, parts: list[np.ndarray]) -> int:
    return sum(int(widths[part].max() * passes[part].sum()) for part in parts)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("buckets", [1, 2, 3, 4])
def test_no_other_way_to_cut_the_rows_computes_fewer_positions(seed: int, buckets: int) -> None:
    rng = np.random.default_rng(seed)
    widths, passes = rng.integers(1, 8, size=11), rng.integers(1, 5, size=11)
    found = buckets_of(widths, buckets, passes)
    assert sorted(np.concatenate(found).tolist()) == list(range(11))
    least = least_rows(11, buckets)
    assert min(map(len, found)) >= least
    order = np.argsort(widths)
    ways = []
    for cuts in combinations(range(1, 11), buckets - 1):
        parts = np.split(order, cuts)
        at_a_change = all(widths[order[cut - 1]] < widths[order[cut]] for cut in cuts)
        if at_a_change and min(map(len, parts)) >= least:
            ways.append(computed(widths, passes, parts))
    assert computed(widths, passes, found) <= min(ways, default=np.inf)


def test_rows_of_one_width_are_cut_evenly_enough_for_every_worker() -> None:
    parts = buckets_of(np.full(32, 9), 4)
    assert sorted(np.concatenate(parts).tolist()) == list(range(32))
    assert min(map(len, parts)) >= 4


def test_a_bucket_has_its_rows_with_most_passes_first() -> None:
    rng = np.random.default_rng(0)
    widths, passes = rng.integers(1, 30, size=60), rng.integers(1, 9, size=60)
    for part in buckets_of(widths, 5, passes):
        assert (np.diff(passes[part]) <= 0).all()


def test_more_widths_than_are_compared_still_make_good_buckets() -> None:
    widths = np.arange(1, 3001)
    parts = buckets_of(widths, 4)
    assert sorted(np.concatenate(parts).tolist()) == list(range(3000))
    best = sum(750 * part * 750 for part in range(1, 5))  # equal parts are the best where all widths are as frequent
    assert computed(widths, np.ones_like(widths), parts) < 1.01 * best


def test_draws_share_the_rows_and_equal_draws_are_put_together() -> None:
    problems = Problems(TWO_TASKS, {})
    drawn = draw_groups(np.random.default_rng(0), problems, 50, MixConfig(draws=7))
    assert sum(count for _, count in drawn) == 50
    assert len({group for group, _ in drawn}) == len(drawn) <= 4
    few = draw_groups(np.random.default_rng(0), problems, 3, MixConfig(draws=7))
    assert sum(count for _, count in few) == 3


def test_each_task_has_its_own_share_of_labelled_problems() -> None:
    problems = Problems(TWO_TASKS, {})
    shares = StudentConfig(new_share={"parity": 0.75}).new_share_of
    counts: Counter[Group] = Counter()
    rng = np.random.default_rng(0)
    for _ in range(40):
        drawn = draw_groups(
            rng,
            problems,
            100,
            MixConfig(draws=100),
            new_share=shares,
            draw_new=lambda _, task: next(group for group in problems.label if group.task == task),
        )
        counts.update(dict(drawn))
    assert counts[Group("parity", 5)] / 4000 == pytest.approx(0.5 * 0.75, abs=0.03)
    assert counts[Group("parity", 4)] / counts[Group("parity", 2)] == pytest.approx(2.0, rel=0.25)
    addition = [group for group in counts if group.task == problems.data.tasks[1].task.name]
    assert all(group.length in (1, 3) for group in addition)
    assert sum(counts[group] for group in addition) / 4000 == pytest.approx(0.5, abs=0.03)


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Problems:
    folder = tmp_path_factory.mktemp("problems")
    paper().data.but(tests_per_length=1).prepare(Path(folder))
    return Problems.read(Path(folder))


def padding(parts: list[Part]) -> float:
    return 1.0 - sum(part.filled for part in parts) / sum(part.computed for part in parts)


@pytest.mark.parametrize("stage", ["teacher", "student", "fine_tuning"])
def test_the_papers_mix_leaves_at_most_15_percent_empty_where_one_bucket_leaves_half(
    papers: Problems, stage: str
) -> None:
    config = paper()

    def drawn(buckets: int, steps: range) -> list[Part]:
        if stage == "teacher":
            teacher = config.teacher.with_overrides({"mix.buckets": buckets})
            return [part for step in steps for part in teacher_parts(papers, teacher, step)]
        labels = solved(papers)
        student = getattr(config, stage).with_overrides({"mix.buckets": buckets})
        return [part for step in steps for part in student_parts(papers, labels, student, step)]

    assert padding(drawn(config.teacher.mix.buckets, range(2))) <= 0.15
    assert padding(drawn(1, range(1))) > 0.4
