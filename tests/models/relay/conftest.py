import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from infra import collectives
from infra.clusters import LAPTOP
from infra.engine import engine_factory
from models.common.contract import World
from models.relay.data_config import ProblemsData, TaskLengths
from models.relay.problems import Problems
from models.relay.tasks.addition import BinaryAddition
from models.relay.tasks.arithmetic import Arithmetic
from models.relay.tasks.edit_distance import EditDistance

torch.set_num_threads(1)


@pytest.fixture
def problems_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "problems"
    folder.mkdir()
    ProblemsData(tests_per_length=64).prepare(folder)
    return folder


@pytest.fixture
def problems(problems_folder: Path) -> Problems:
    return Problems.read(problems_folder)


@pytest.fixture
def mixed_folder(tmp_path: Path) -> Path:
    """Problems of three tasks, of different T, widths and lengths."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    lengths = {"label_lengths": (7,), "untouched_lengths": ()}
    tasks = (
        TaskLengths(task=Arithmetic(operators=("+", "-", "*"), brackets=True), train_lengths=(1, 3, 5), **lengths),
        TaskLengths(task=EditDistance(), train_lengths=(2, 4), **lengths),
        TaskLengths(task=BinaryAddition(), train_lengths=(2, 6), **lengths),
    )
    ProblemsData(tasks=tasks, tests_per_length=16).prepare(folder)
    return folder


@pytest.fixture
def mixed(mixed_folder: Path) -> Problems:
    return Problems.read(mixed_folder)


@pytest.fixture
def world_of() -> Callable[..., World]:
    """Makes the world of one worker with the plain-torch engine."""

    def make(inputs: dict[str, Path], *, start_from: Path | None = None, rank: int = 0, size: int = 1) -> World:
        torch.manual_seed(3)
        device = torch.device("cpu")
        return World(
            rank=rank,
            size=size,
            device=device,
            seed=3,
            inputs=inputs,
            start_from=start_from,
            fingerprints={},
            make_engine=engine_factory(LAPTOP.but(engine="torch"), device),
            mean=collectives.mean,
            sum=collectives.total,
            gather=collectives.gather,
            exchange=collectives.exchange,
            clock=time.monotonic,
        )

    return make
