"""Cluster shapes: any preset on any cluster, or one clear error."""

import pytest

from infra import clusters
from infra.clusters import CLUSTER, LAPTOP
from models.common.contract import StageConfig
from models.common.errors import ConfigError


class Stage(StageConfig):
    max_steps: int = 10
    batch_size: int = 64


def test_an_unknown_cluster_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no cluster 'latpop'; did you mean 'laptop'\?\nfits: laptop, one-gpu"):
        clusters.named("latpop")


@pytest.mark.parametrize("name", clusters.names())
def test_every_name_finds_its_cluster(name: str) -> None:
    assert clusters.named(name).name == name


@pytest.mark.parametrize(
    ("batch", "workers", "divides"), [(64, 2, True), (63, 2, False), (64, 32, True), (48, 32, False)]
)
def test_a_batch_has_to_divide_over_the_workers(batch: int, workers: int, divides: bool) -> None:
    stage = Stage(batch_size=batch)
    if divides:
        LAPTOP.but(workers=workers).check(stage, "teacher")
        return
    fits = next(size for size in range(batch, batch + workers + 1) if size % workers == 0)
    with pytest.raises(
        ConfigError, match=rf"{batch} does not divide over {workers} workers(.|\n)*--set teacher.batch_size={fits}$"
    ):
        LAPTOP.but(workers=workers).check(stage, "teacher")


@pytest.mark.parametrize(("workers", "parts", "each"), [(2, 2, 1), (1, 2, 1), (32, 2, 16), (8, 3, 2)])
def test_stages_side_by_side_share_the_workers(workers: int, parts: int, each: int) -> None:
    assert LAPTOP.but(workers=workers).share(parts).workers == each


def test_side_by_side_the_fewest_are_shared_too() -> None:
    assert CLUSTER.but(workers=32, min_workers=8).share(2).min_workers == 4
    assert LAPTOP.share(2).min_workers is None


@pytest.mark.parametrize(
    ("places", "least", "batch", "size"),
    [
        (32, 8, 64, 32),
        (40, 8, 64, 32),
        (31, 8, 64, 16),
        (31, 8, 62, 31),
        (24, 8, 96, 24),
        (7, 8, 64, None),
        (31, 17, 64, None),
    ],
)
def test_a_smaller_group_is_the_largest_over_which_the_batch_divides(
    places: int, least: int, batch: int, size: int | None
) -> None:
    assert CLUSTER.but(workers=32, min_workers=least).group_size(places, batch) == size


def test_a_group_that_has_to_be_whole_is_never_smaller() -> None:
    assert [LAPTOP.but(workers=4).group_size(places, 64) for places in (3, 4, 5)] == [None, 4, 4]


def test_more_than_all_are_refused_as_the_fewest() -> None:
    with pytest.raises(ConfigError, match=r"min_workers is 3, of 2 workers; fits: at most 2"):
        LAPTOP.but(min_workers=3)


def test_a_node_has_room_for_as_many_as_its_scarcest_resource_serves() -> None:
    assert CLUSTER.workers_on({"CPU": 40.0, "GPU": 8.0, "memory": 1e9}) == 5
    assert CLUSTER.workers_on({"CPU": 400.0}) == 0


def test_bf16_without_a_float32_master_is_refused() -> None:
    with pytest.raises(ConfigError, match="zero_stage 1, 2 or 3"):
        LAPTOP.but(precision="bf16")
    assert LAPTOP.but(precision="bf16", zero_stage=1).precision == "bf16"
    assert LAPTOP.but(precision="bf16", engine="torch").precision == "bf16"


def test_gpus_choose_the_backend() -> None:
    assert LAPTOP.backend == "gloo"
    assert CLUSTER.backend == "nccl"
