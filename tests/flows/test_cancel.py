"""Cancelled from the UI at every stage, on a real server, worker and Ray: nothing is left, and the run goes on."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from infra import artifacts, manifests
from infra.json_lines import read_lines
from tests.fixtures.workers import Worker, left_of_run, processes_of_run, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
MOST_SECONDS = 60


def _cancelled_when(worker: Worker, key: str, flow_run: str, reached: Callable[[], Any]) -> str:
    """Cancels the run once it is there; what the run page says then. Nothing of the run is alive by that time."""
    wait_for(lambda: reached() or worker.state(flow_run) in ("Failed", "Crashed", "Completed"))
    assert worker.state(flow_run) == "Running", worker.log.read_text()[-3000:]
    began = time.monotonic()
    worker.cancel(flow_run)
    wait_for(lambda: worker.state(flow_run) != "Cancelling" or time.monotonic() - began > MOST_SECONDS)
    assert worker.state(flow_run) != "Cancelling", worker.stacks()
    left = left_of_run(key)
    seconds = time.monotonic() - began
    assert worker.state(flow_run) == "Cancelled"
    assert left == []
    assert seconds < MOST_SECONDS
    page = worker.artifacts(flow_run)[f"{key}-cancelled"]["data"]
    assert "| still alive | none |" in page
    assert worker.folder(key).state() == "cancelled"
    return page


def _under_way(worker: Worker, key: str, stage: str) -> bool:
    return (worker.folder(key).stage(stage).folder / "request.json").exists()


def test_while_it_is_submitted_and_while_it_trains(worker: Worker) -> None:
    asked = {"preset": "tiny", "run_key": "training", "overrides": {"training.max_steps": 1_000_000}}
    training = worker.folder("training").stage("training")

    first = worker.start("nqs", **asked)
    page = _cancelled_when(worker, "training", first, lambda: processes_of_run("training"))
    assert "| Ray jobs stopped | `training.training` |" in page

    second = worker.start("nqs", **asked)
    page = _cancelled_when(worker, "training", second, lambda: list(training.checkpoints.glob("step-*")))
    assert "| Ray jobs stopped | `training.training.2` |" in page
    kept = max(int(place.name.removeprefix("step-")) for place in training.checkpoints.glob("step-*"))
    assert kept > 0

    def went_on() -> bool:
        return [event["step"] for event in read_lines(training.events) if event["kind"] == "started"] == [0, kept]

    _cancelled_when(worker, "training", worker.start("nqs", **asked), went_on)


def test_while_it_is_evaluated_and_while_it_is_published(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"preset": "tiny", "run_key": "publishing"}
    folder = worker.folder("publishing")
    monkeypatch.setenv("ORCHARD_HOME", str(worker.home))

    first = worker.start("nqs", **asked)
    page = _cancelled_when(worker, "publishing", first, lambda: _under_way(worker, "publishing", "evaluation"))
    assert "`publishing.evaluation`" in page
    assert artifacts.versions("nqs") == []

    _cancelled_when(worker, "publishing", worker.start("nqs", **asked), (folder.folder / "artifact").exists)
    for version in artifacts.versions("nqs"):  # the cancel may have come just too late: then it is whole
        artifacts.verify(artifacts.pull(f"nqs@{version.version}").folder)

    last = worker.start("nqs", **asked)
    wait_for(lambda: worker.state(last) in ("Completed", "Failed", "Crashed"))
    assert worker.state(last) == "Completed", worker.log.read_text()[-3000:]
    assert [(version.version, version.run_key) for version in artifacts.versions("nqs")] == [("v0.1.0", "publishing")]
    starts = [event for event in read_lines(folder.stage("training").events) if event["kind"] == "started"]
    assert len(starts) == 1, "what was trained is not trained again"
    assert folder.state() == "finished"


def test_while_its_dataset_is_written(worker: Worker) -> None:
    asked = {"preset": "laptop", "run_key": "preparing", "overrides": {"data.tests_per_length": 100_000}}
    flow_run = worker.start("relay", **asked)
    datasets = worker.home / "datasets"
    page = _cancelled_when(worker, "preparing", flow_run, lambda: datasets.exists() and any(datasets.iterdir()))
    assert "| Ray jobs stopped | none was running |" in page
    for place in datasets.glob("relay-*"):  # it may just have been finished: then it is whole
        manifests.verify(place)
