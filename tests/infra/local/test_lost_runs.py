"""Runs whose process is gone: scheduled anew or cancelled, on a real server; what lives is left alone."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from infra.local.lost_runs import LostRuns, most_restarts
from infra.local.prefect_api import PrefectApi
from models.common.errors import ConfigError
from tests.fixtures.up import Up


class Pool:
    """A work pool that no worker asks."""

    def __init__(self, api: PrefectApi) -> None:
        self.api = api
        self.name = f"nobody-{uuid.uuid4().hex[:8]}"
        api.post("/work_pools/", {"name": self.name, "type": "process"})
        flow = api.post("/flows/", {"name": self.name})["id"]
        deployment = {"name": self.name, "flow_id": flow, "work_pool_name": self.name}
        self.deployment = api.post("/deployments/", deployment)["id"]
        self.lost = LostRuns(api, self.name)

    def run(self, state: str) -> str:
        """A flow run of the pool in this state."""
        asked = {"name": f"gone-{state}".lower(), "state": {"type": "SCHEDULED"}}
        made = self.api.post(f"/deployments/{self.deployment}/create_flow_run", asked)
        for each in ("RUNNING", state):
            self.api.post(f"/flow_runs/{made['id']}/set_state", {"state": {"type": each}, "force": True})
        return made["id"]

    def state(self, run: str) -> str:
        return self.api.get(f"/flow_runs/{run}")["state_type"]


@pytest.fixture
def pool(up: Up) -> Pool:
    return Pool(up.api)


AFTER = {"RUNNING": "SCHEDULED", "PENDING": "SCHEDULED", "CANCELLING": "CANCELLED"}


@contextmanager
def process_of(run: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that Prefect would have started for the run."""
    environment = {**os.environ, "PREFECT__FLOW_RUN_ID": run}
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(("state", "then"), AFTER.items())
def test_a_run_without_a_process_goes_on_or_is_over(pool: Pool, state: str, then: str):
    run = pool.run(state)
    assert pool.lost.mend(os.getpid()) == [], "it may be just starting"
    assert pool.lost.mend(os.getpid()) == [f"gone-{state}".lower()]
    assert pool.state(run) == then


def test_a_run_under_the_worker_is_left_alone(pool: Pool):
    run = pool.run("RUNNING")
    with process_of(run):
        assert [pool.lost.mend(os.getpid()) for _ in range(3)] == [[], [], []]
    assert pool.state(run) == "RUNNING"


def test_a_run_that_outlived_its_worker_is_ended_and_scheduled_once(pool: Pool):
    run = pool.run("RUNNING")
    with process_of(run) as process:
        assert pool.lost.mend(None, at_once=True) == ["gone-running"]
        process.wait(10)
    assert pool.state(run) == "SCHEDULED"
    assert pool.lost.mend(None, at_once=True) == []


def test_runs_that_are_over_or_wait_for_a_person_are_left_alone(pool: Pool):
    states = ["COMPLETED", "FAILED", "CANCELLED", "PAUSED"]
    runs = [pool.run(state) for state in states]
    assert pool.lost.mend(None, at_once=True) == []
    assert [pool.state(run) for run in runs] == states


@pytest.mark.parametrize("text", ["often", "-1", "1.5"])
def test_a_number_of_restarts_that_is_none_is_refused(text: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ORCHARD_RESTARTS", text)
    with pytest.raises(ConfigError, match=rf"ORCHARD_RESTARTS is '{text}'\nfits: a whole number, 0 or more\nset it"):
        most_restarts()
