"""`orchard status`, `cancel`, `logs` and `data changed` with a real Prefect server; runs that no worker begins."""

import json
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from infra.runs import Asked, RunFolder
from tests.fixtures.commands import orchard
from tests.fixtures.prefect_rest import answer_of, ask

pytestmark = pytest.mark.usefixtures("prefect")


class Server:
    """The session's server, asked over HTTP and not through what is tested."""

    def __init__(self, api: str) -> None:
        self.api = api
        self.flow = self.post("flows/", name="relay")["id"]

    def post(self, path: str, **body: Any) -> Any:
        return ask(f"{self.api}/{path}", **body)

    def a_run(self, name: str, state: dict[str, Any], deployed: bool = True, **parameters: Any) -> str:
        """A flow run of relay in this state."""
        if not deployed:
            return self.post("flow_runs/", name=name, flow_id=self.flow, state=state, parameters=parameters)["id"]
        made = self.post("deployments/", name=name, flow_id=self.flow, entrypoint="flows.relay.relay")
        path = f"deployments/{made['id']}/create_flow_run"
        return self.post(path, name=name, state=state, parameters=parameters)["id"]

    def state(self, flow_run: str) -> str:
        return answer_of("GET", f"{self.api}/flow_runs/{flow_run}")["state"]["name"]


@pytest.fixture
def server(prefect: str) -> Server:
    return Server(prefect)


def scheduled(minutes: float) -> dict[str, Any]:
    when = datetime.now(UTC) + timedelta(minutes=minutes)
    return {"type": "SCHEDULED", "state_details": {"scheduled_time": when.isoformat()}}


def a_name() -> str:
    """The server is the session's: names tell one test's runs from another's."""
    return f"run-{uuid.uuid4().hex[:8]}"


def status() -> dict[str, Any]:
    done = orchard("status", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_status_tells_what_waits_what_is_late_and_what_is_under_way(server: Server) -> None:
    late, queued, later, running = (a_name() for _ in range(4))
    server.a_run(late, {**scheduled(-20), "name": "Late"}, cluster="laptop")
    server.a_run("made-up", scheduled(-1), run_key=queued, cluster="one-gpu")
    server.a_run(later, scheduled(90))
    server.a_run(running, {"type": "RUNNING"}, cluster="laptop")
    stage = RunFolder(running).stage("teacher")
    stage.record("started", step=0, max_steps=40, workers=1)
    stage.record("step", step=10, metrics={"loss": 0.25})
    RunFolder(running).note_start(Asked(workload="relay", preset="tiny", cluster="laptop", seed=0, overrides={}, pid=1))

    seen = status()
    queue = {run["run_name"]: run for run in seen["queue"]}
    assert queue[late]["late"]
    assert queue[queued]["cluster"] == "one-gpu", "known by the name that was asked for"
    assert later in {run["run_name"] for run in seen["scheduled"]}
    [shown] = [run for run in seen["under_way"] if run["run_name"] == running]
    assert (shown["state"], shown["workload"], shown["cluster"]) == ("Running", "relay", "laptop")
    assert shown["stages"] == [{"name": "teacher", "percent": 25.0, "text": "10 of 40 steps, loss 0.25"}]

    text = orchard("status").stdout
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    for name in (late, queued, later, running):
        assert name in text
    assert "late" in text


def test_what_waits_is_cancelled_at_once_and_what_is_over_is_refused(server: Server) -> None:
    waiting, over = a_name(), a_name()
    flow_run = server.a_run(waiting, scheduled(60))
    server.a_run(over, {"type": "COMPLETED"}, deployed=False)
    done = orchard("cancel", waiting)
    assert done.returncode == 0, done.stderr
    assert server.state(flow_run) == "Cancelled"
    again = orchard("cancel", waiting)
    assert again.returncode == 2
    assert "is not under way: Cancelled" in again.stderr
    assert "is not under way: Completed" in orchard("cancel", over).stderr
    assert "no run 'nobody'" in orchard("cancel", "nobody").stderr


def test_a_run_whose_process_is_gone_does_not_stay_cancelling(server: Server) -> None:
    """Started from a terminal that was killed: no worker would ever end it."""
    name = a_name()
    flow_run = server.a_run(name, {"type": "RUNNING"}, deployed=False)
    done = orchard("cancel", name)
    assert done.returncode == 0, done.stderr
    assert server.state(flow_run) == "Cancelled"


def test_logs_of_a_run_of_another_machine_come_from_the_server(server: Server) -> None:
    name = a_name()
    flow_run = server.a_run(name, {"type": "COMPLETED"}, deployed=False)
    lines = ["teacher: step 0, 2 workers", "student: step 0, 1 workers", "teacher: rank 1 failed\nValueError"]
    for number, line in enumerate(lines):
        at = datetime.now(UTC).isoformat()
        entry = {"name": "x", "level": 40 if number == 2 else 20, "message": line, "timestamp": at}
        answer_of("POST", f"{server.api}/logs/", [{**entry, "flow_run_id": flow_run}])
    deadline = time.monotonic() + 30
    while not (found := orchard("logs", name, "--stage", "teacher", "--json").stdout) and time.monotonic() < deadline:
        time.sleep(0.5)  # the server writes logs a little later
    told = [json.loads(line) for line in found.splitlines()]
    assert [line["text"] for line in told] == [lines[0], lines[2]]
    assert [line["level"] for line in told] == ["info", "error"]


def test_changed_data_are_told_to_the_server(server: Server) -> None:
    before = datetime.now(UTC) - timedelta(seconds=5)
    done = orchard("data", "changed", "relay")
    assert done.returncode == 0, done.stderr
    wanted = {
        "filter": {
            "event": {"name": ["orchard.data.changed"]},
            "occurred": {"since": before.isoformat(), "until": (before + timedelta(minutes=5)).isoformat()},
        }
    }
    deadline = time.monotonic() + 30
    while not (events := server.post("events/filter", **wanted)["events"]) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert [event["resource"]["prefect.resource.id"] for event in events] == ["orchard.data.relay"]
