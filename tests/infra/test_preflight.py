"""What is refused before a run: memory that a stage is known to need."""

import pytest

from infra.clusters import LAPTOP
from infra.preflight import check_memory
from models.common.contract import StageConfig, WorkerGroup, WorkloadConfig
from models.common.errors import ConfigError

GIB = 2**30


class Stage(StageConfig):
    """Needs a GiB for each row of a worker, and so many at least."""

    least_gib: int = 0

    def bytes_per_worker(self, group: WorkerGroup) -> int:
        split = group.workers if group.zero_stage else 1
        return GIB * self.batch_size // group.workers + GIB * self.least_gib // split


class Workload(WorkloadConfig):
    name: str = "made-up"
    stage: Stage


def _check(batch_size: int, least_gib: int, zero_stage: int = 0) -> None:
    cluster = LAPTOP.but(workers=2, memory_gib_per_worker=10.0, zero_stage=zero_stage)
    check_memory(Workload(stage=Stage(max_steps=1, batch_size=batch_size, least_gib=least_gib)), cluster)


def test_what_fits_is_let_through() -> None:
    _check(batch_size=20, least_gib=0)
    _check(batch_size=2, least_gib=18, zero_stage=2)


def test_a_batch_that_is_too_large_is_told_with_one_that_fits() -> None:
    with pytest.raises(ConfigError, match=r"has 10 GiB\nfits: a batch of 16\ntry: --set stage\.batch_size=16"):
        _check(batch_size=64, least_gib=0)


def test_where_no_batch_fits_none_is_suggested() -> None:
    with pytest.raises(ConfigError, match="fits: no smaller batch"):
        _check(batch_size=8, least_gib=18)
