"""The run page: it is kept up to date while a run goes on, outlives its server, and tells why a run failed."""

import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from infra.json_lines import read_lines
from infra.runs import RunFolder
from tasks.run_page import artifact_key
from tests.fixtures.commands import started
from tests.fixtures.prefect_rest import ask
from tests.fixtures.services import prefect_server
from tests.fixtures.workers import Worker, left_of_run, wait_for


@pytest.mark.parametrize(("run_key", "key"), [("a.b_c-1", "a-b-c-1-result"), ("relay", "relay-result")])
def test_a_key_is_one_that_prefect_allows(run_key: str, key: str) -> None:
    assert artifact_key(run_key, "result") == key


@pytest.mark.slow
def test_a_failure_is_one_event_with_its_reason(worker: Worker) -> None:
    flow_run = worker.start("nqs", preset="tiny", run_key="refused", overrides={"training.max_steps": -1})
    wait_for(lambda: worker.state(flow_run) == "Failed")

    def events() -> list[dict[str, Any]]:
        wanted = {"event": {"name": ["orchard.run.failed"]}, "resource": {"id": ["orchard.run.refused"]}}
        return worker.ask("events/filter", filter=wanted)["events"]

    wait_for(events)
    [event] = events()
    assert event["resource"]["prefect.resource.name"] == "refused"
    assert event["related"][0]["prefect.resource.id"] == f"prefect.flow-run.{flow_run}"
    assert "training.max_steps: found -1" in event["payload"]["reason"]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("ray")
def test_a_server_that_is_away_delays_the_page_and_not_the_run(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    api = f"http://127.0.0.1:{port}/api"
    monkeypatch.setenv("PREFECT_API_URL", api)

    def shown() -> dict[str, dict[str, Any]]:
        return {each["key"]: each for each in ask(f"{api}/artifacts/filter")}

    def flow_run() -> dict[str, Any]:
        [found] = ask(f"{api}/flow_runs/filter", flow_runs={"name": {"any_": ["away"]}})
        return found

    def step() -> int:
        return max((event.get("step", 0) for event in read_lines(events)), default=0)

    events = RunFolder("away").stage("training").events
    with prefect_server(tmp_path / "prefect", port) as server:
        long = ("--set", "training.max_steps=1000000", "--run-key", "away")
        run = started("run", "nqs", "--preset", "tiny", *long)
        progress = wait_for(lambda: step() and shown().get("away-training"))
        wait_for(lambda: "data:image/png;base64," in str(shown().get("away-curves", {}).get("data")))
        assert "[Ray job](" in progress["description"]
        os.kill(server.pid, signal.SIGKILL)
        server.wait()
    reached = step()
    wait_for(lambda: step() > reached)
    assert run.poll() is None, "the run goes on"

    with prefect_server(tmp_path / "prefect", port):
        before = shown()["away-training"]["description"]
        assert " steps/s, at most " in wait_for(
            lambda: (now := shown()["away-training"]["description"]) != before and now
        )
        assert flow_run()["state_name"] == "Running"
        told = ask(f"{api}/flow_runs/{flow_run()['id']}/set_state", state={"type": "CANCELLING", "name": "Cancelling"})
        assert told["status"] == "ACCEPT"
        output, _ = run.communicate(timeout=120)
        assert run.returncode == 130, output
        assert flow_run()["state_name"] == "Cancelled"
        assert "| still alive | none |" in shown()["away-cancelled"]["data"]
    assert left_of_run("away") == []
