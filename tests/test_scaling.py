"""docs/scaling.md: its model against closed forms, and its tables against the script that makes them."""

import json

import pytest

from docs import scaling
from docs.scaling import CLUSTER, DPO, Network

FLAT = Network(
    operations=1.0, workers_per_node=1, inside=1e30, between=2.0, latency=0.0, store_of_node=1.0, store=3.0,
    hours_between_faults=100.0,
)  # fmt: skip
MEASURED = json.loads(scaling.MEASURED.read_text())


def test_one_worker_averages_with_nobody():
    assert scaling.all_reduce_seconds(1e9, 1, CLUSTER) == 0.0


@pytest.mark.parametrize(("workers", "seconds"), [(2, 4.0), (4, 6.0), (8, 7.0)])
def test_each_link_of_a_ring_carries_nearly_twice_the_bytes(workers: int, seconds: float):
    """8 bytes over links of 2 bytes a second: a reduce-scatter and an all-gather of (n - 1) pieces of 8 / n each."""
    assert scaling.all_reduce_seconds(8.0, workers, FLAT) == pytest.approx(seconds)


def test_the_interval_is_the_one_that_loses_least():
    """By trying all: saving costs 30 s, a worker fails every 100 hours, there are 50 of them."""
    best = min(range(60, 20_000, 5), key=lambda each: 30 / each + each / 2 * 50 / (3600 * 100))
    assert scaling.interval_seconds(30.0, 50, FLAT) == pytest.approx(best, abs=5)


def test_without_faults_only_saving_is_lost():
    never = Network(**{**FLAT.__dict__, "hours_between_faults": 1e12})
    assert scaling.goodput(10.0, 990.0, 60.0, 8, never) == pytest.approx(0.99)


def test_s3_takes_no_more_than_it_can():
    assert scaling.checkpoint_seconds(DPO, 2, FLAT) == pytest.approx(DPO.checkpoint_bytes / 2)
    assert scaling.checkpoint_seconds(DPO, 64, FLAT) == pytest.approx(DPO.checkpoint_bytes / 3)


def test_a_batch_does_not_spread_over_more_workers_than_it_has_items():
    apart = scaling.step_seconds(DPO, 256) - scaling.all_reduce_seconds(DPO.gradient_bytes, 256, CLUSTER)
    beyond = scaling.step_seconds(DPO, 512) - scaling.all_reduce_seconds(DPO.gradient_bytes, 512, CLUSTER)
    assert beyond == pytest.approx(apart)
    assert max(scaling.COUNTS) <= DPO.items


def test_the_page_has_the_tables_that_the_script_makes():
    page = (scaling.HERE / "scaling.md").read_text()
    assert scaling.table(scaling.HEADINGS, scaling.rows(DPO, MEASURED)) in page
    assert scaling.check_table(MEASURED) in page
