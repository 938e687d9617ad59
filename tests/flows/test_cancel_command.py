"""A run operated from another terminal: seen, followed, cancelled, resumed. Ray, server and worker are real."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest

from infra.json_lines import read_lines
from infra.runs import RunFolder
from infra.stopping import stop_run
from tests.fixtures.commands import orchard, started
from tests.fixtures.up import Up
from tests.fixtures.workers import left_of_run, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
_PATIENCE_SECONDS = 240  # of a run that begins on a busy machine
ENDLESS = ("run", "relay", "--preset", "tiny", "--set", "teacher.max_steps=1000000", "--run-name", "operated")


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a command, which does not outlive the test."""
    processes = []

    def begin(*arguments: str) -> subprocess.Popen[str]:
        processes.append(started(*arguments))
        return processes[-1]

    yield begin
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.usefixtures("ray", "prefect")
def test_a_run_of_one_terminal_is_operated_from_another(start: Callable[..., subprocess.Popen[str]]) -> None:
    folder = RunFolder("operated")
    events = folder.stage("teacher").events

    def steps() -> int:
        return max((event["step"] for event in read_lines(events) if event["kind"] == "step"), default=0)

    run = start(*ENDLESS)
    wait_for(lambda: steps() > 0, _PATIENCE_SECONDS)
    under_way = json.loads(orchard("status", "--json").stdout)["under_way"]
    [seen] = [each for each in under_way if each["run_name"] == "operated"]  # the server knows runs of other tests too
    assert (seen["state"], seen["cluster"]) == ("Running", "laptop")
    assert "teacher" in {stage["name"] for stage in seen["stages"]}
    refused = orchard("resume", "operated")
    assert refused.returncode == 2
    assert "is under way" in refused.stderr

    follower = start("logs", "operated", "--follow", "--stage", "teacher")
    cancelled = orchard("cancel", "operated")
    assert cancelled.returncode == 0, cancelled.stderr
    assert "none of its workers is left" in cancelled.stdout
    assert run.wait(60) == 130
    told, _ = follower.communicate(timeout=60)
    assert "Cancelled" in told, "it was read to its end"
    again = orchard("cancel", "operated")
    assert again.returncode == 2
    assert "is not under way" in again.stderr

    before = steps()
    resumed = start("resume", "operated")
    wait_for(lambda: steps() > before, _PATIENCE_SECONDS)
    os.killpg(resumed.pid, signal.SIGKILL)
    resumed.wait()
    orphaned = orchard("cancel", "operated")
    assert orphaned.returncode == 0, orphaned.stderr
    assert stop_run("operated").jobs == (), "what went on without its process was stopped"


def test_a_run_that_a_worker_began_is_operated_from_a_terminal(
    up: Up, start: Callable[..., subprocess.Popen[str]]
) -> None:
    deployment = up.api.get("/deployments/name/relay/tiny")["id"]
    asked = {"run_key": "of-the-ui", "overrides": {"teacher.max_steps": 1000000}}
    flow_run = up.api.post(f"/deployments/{deployment}/create_flow_run", {"parameters": asked})["id"]
    wait_for(lambda: "of-the-ui" in orchard("status").stdout, _PATIENCE_SECONDS)
    follower = start("logs", "of-the-ui", "--follow")
    wait_for(lambda: any(read_lines(RunFolder("of-the-ui").stage("teacher").events)), _PATIENCE_SECONDS)
    cancelled = orchard("cancel", "of-the-ui")
    assert cancelled.returncode == 0, cancelled.stderr
    assert "none of its workers is left" in cancelled.stdout
    assert up.api.get(f"/flow_runs/{flow_run}")["state"]["name"] == "Cancelled"
    assert left_of_run("of-the-ui") == []
    follower.communicate(timeout=60)
