"""DeepSpeed at every ZeRO stage on two workers against plain torch on one: the same losses, whoever holds the rows.

`benchmarks/relay_engines.py` does this for 50 steps, and on one worker too.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.relay_engines import DATA, ENGINES, SEED, STAGES, curves, largest
from models.relay.config import TeacherConfig
from models.relay.mixing import buckets_of
from models.relay.problems import Problems
from models.relay.rounds import draw_rounds, rounds_batches
from tests.fixtures.ranks import run_ranks
from tests.fixtures.worlds import world_of

STEPS = 7
TOLERANCE = 1e-5  # relative; in 50 steps none is 1e-6 apart

Curves = dict[str, dict[str, list[float]]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    problems = tmp_path_factory.mktemp("problems")
    DATA.prepare(problems)
    return problems


@pytest.fixture(scope="module")
def one_worker(folder: Path) -> Curves:
    return curves(0, str(folder), ("torch",), 1, STEPS)


@pytest.fixture(scope="module")
def two_workers(folder: Path) -> list[Curves]:
    return run_ranks(curves, 2, str(folder), ENGINES, 2, STEPS)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("stage", STAGES)
def test_two_workers_have_the_losses_of_one(
    one_worker: Curves, two_workers: list[Curves], stage: str, engine: str
) -> None:
    expected = one_worker[f"{stage} torch"]
    assert len(set(expected["loss"])) == STEPS
    for found in two_workers:
        for name in ("loss", "gradient_norm"):
            assert largest(found[f"{stage} {engine}"][name], expected[name]) < TOLERANCE


def test_a_worker_that_is_done_with_its_rows_goes_on_while_the_other_is_not(folder: Path) -> None:
    problems, config = Problems.read(folder), STAGES["teacher"]
    assert isinstance(config, TeacherConfig)
    worlds = [replace(world_of({}), rank=rank, size=2) for rank in (0, 1)]
    leave, waits = 0, 0
    for step in range(STEPS):
        rounds, _ = draw_rounds(problems, config, SEED, step)
        both = [rounds_batches(rounds, config, 1000, draw_rounds(problems, config, SEED, step)[1], w) for w in worlds]
        buckets = buckets_of(rounds.widths_B, config.mix.buckets, rounds.loops_B)
        for rows, first, second in zip(buckets, *both, strict=True):
            assert len(first.rows_T) == len(second.rows_T) == rounds.loops_B[rows].max()
            leave += len(set(first.rows_T)) > 1
            waits += rounds.loops_B[rows[0::2]].max() != rounds.loops_B[rows[1::2]].max()
    assert leave
    assert waits
