import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from infra import collectives
from infra.clusters import LAPTOP
from infra.engine import engine_factory
from models.common.contract import World
from models.relay.config import ArithmeticData
from models.relay.problems import Problems

torch.set_num_threads(1)


@pytest.fixture
def problems_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "problems"
    folder.mkdir()
    ArithmeticData(tests_per_length=64).prepare(folder)
    return folder


@pytest.fixture
def problems(problems_folder: Path) -> Problems:
    return Problems.read(problems_folder)


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
