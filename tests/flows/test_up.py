"""`orchard up`: everything answers, nobody else gets in, nothing is left, and no run is lost whatever is killed."""

import json
import os
import re
import signal
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from infra import artifacts, ray_client, ray_head
from infra.json_lines import read_lines
from infra.local import state
from infra.local.prefect_api import PrefectApi
from infra.runs import RunFolder
from tests.fixtures.commands import orchard
from tests.fixtures.s3 import free_port
from tests.fixtures.up import Up, begin_up, start_up, stop_up
from tests.fixtures.workers import wait_for

_PATIENCE_SECONDS = 300  # of what a worker runs on a busy machine
WRONG = ["orchard:wrong", "admin:pass", "orchard:", ":"]
OPEN_ROUTES = {"/health", "/ready"}  # Prefect's own: probes of a cluster ask them; they say "true" and nothing else


def status(address: str, login: str | None = None, method: str = "GET", headers: dict[str, str] | None = None) -> int:
    """How the server answers a request with this login."""
    api = PrefectApi(address, login or "")
    sent = {**(headers or {}), **({"Authorization": api.login} if login else {})}
    data = b"{}" if method in {"POST", "PUT", "PATCH"} else None
    request = urllib.request.Request(
        address, data=data, headers={"Content-Type": "application/json", **sent}, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def routes(up: Up) -> Iterator[tuple[str, str]]:
    """Method and path of every route that the server itself lists."""
    for path, methods in up.api.get("/openapi.json")["paths"].items():
        for method in methods:
            yield method.upper(), re.sub(r"\{\w+(:\w+)?\}", str(uuid.uuid4()), path)


def csrf_headers(up: Up) -> dict[str, str]:
    """What the server asks of a change beside the login: without it, it would refuse before it looks at the login."""
    client = uuid.uuid4().hex
    token = up.api.get(f"/csrf-token?client={client}")["token"]
    return {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": client}


def test_every_service_answers_at_the_address_that_is_printed(up: Up):
    printed = up.output.read_text()
    for address in (up.services.ui, up.services.reports, up.services.ray):
        assert address
        assert address in printed
        assert status(address) == 200
    assert up.auth_string in printed
    assert ray_client.asks_for_token(up.services.ray)
    workers = up.api.post("/work_pools/orchard/workers/filter", {})
    assert [worker["status"] for worker in workers] == ["ONLINE"]
    deployed = {each["name"] for each in up.api.post("/deployments/filter", {"limit": 200})}
    assert {"tiny", "laptop", "pull"} <= deployed


def test_every_route_of_the_api_answers_401_without_the_right_login(up: Up):
    csrf = csrf_headers(up)
    asked = [(method, path) for method, path in routes(up) if path not in OPEN_ROUTES]
    assert len(asked) > 150
    let_in = [
        (method, path, login)
        for method, path in asked
        for login in (None, WRONG[0])
        if status(up.services.api + path, login, method, csrf) != 401
    ]
    assert let_in == []
    for login in WRONG:
        assert status(f"{up.services.api}/admin/version", login) == 401
    assert status(f"{up.services.api}/admin/version", up.auth_string) == 200


def test_a_change_without_its_token_against_forgery_is_refused(up: Up):
    assert status(f"{up.services.api}/flows/filter", up.auth_string, "POST") == 403
    assert status(f"{up.services.api}/flows/filter", up.auth_string, "POST", csrf_headers(up)) == 200


def receive(address: str, login: str | None, seconds: float = 60) -> str:
    """The first word of a socket to one who sends this login; raises where the server closes it."""
    with closing(connect(address, subprotocols=[Subprotocol("prefect")], open_timeout=60)) as socket:
        if login:
            socket.send(json.dumps({"type": "auth", "token": login}))
        return str(socket.recv(timeout=seconds))


@pytest.mark.parametrize("path", ["events/in", "events/out", "logs/out"])
def test_a_socket_without_the_right_login_gets_nothing(up: Up, path: str):
    address = f"{up.services.api.replace('http', 'ws', 1)}/{path}"
    with pytest.raises((WebSocketException, TimeoutError)):
        receive(address, None, seconds=3)
    with pytest.raises(WebSocketException):
        receive(address, WRONG[0])
    assert "auth_success" in receive(address, up.auth_string)


def test_everything_listens_on_this_machine_only(up: Up):
    ours = {process.pid for process in psutil.Process(up.services.pid).children(recursive=True)} | {up.services.pid}
    named = {int(address.rsplit(":", 1)[1]) for address in (up.services.ui, up.services.ray, up.services.reports or "")}
    listening = [each for each in psutil.net_connections("tcp") if each.pid in ours and each.status == "LISTEN"]
    found = {each.laddr[1]: each.laddr[0] for each in listening if each.laddr}
    assert {port: found.get(port) for port in named} == dict.fromkeys(named, "127.0.0.1")


def test_commands_of_another_terminal_join_it(up: Up):
    shown = orchard("deploy", "--plan")
    assert shown.returncode == 0, shown.stderr
    assert "the server is as the file says" in shown.stdout


def test_a_wrong_login_is_told_as_one_block(up: Up, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PREFECT_API_URL", up.services.api)
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", WRONG[0])
    refused = orchard("deploy", "--plan")
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    assert "PREFECT_API_AUTH_STRING" in refused.stderr


def test_a_run_with_a_wrong_login_is_refused_before_it_starts(up: Up, home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PREFECT_API_URL", up.services.api)
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", WRONG[0])
    monkeypatch.setenv("ORCHARD_HOME", str(home))
    refused = orchard("run", "relay", "--preset", "tiny")
    assert refused.returncode == 2
    assert "refuses our login" in refused.stderr
    assert "set PREFECT_API_AUTH_STRING" in refused.stderr
    assert not (home / "ray").exists()


def test_a_second_one_and_a_port_in_use_are_refused_with_what_to_do(
    up: Up, home: Path, monkeypatch: pytest.MonkeyPatch
):
    second = orchard("up", "--port", "0", "--reports-port", "0")
    assert second.returncode == 2
    assert f"runs already, as process {up.services.pid}" in second.stderr


def test_a_port_in_use_is_refused_with_the_process_that_has_it(up_service: Up, home: Path):
    up = up_service
    port = up.services.ui.rsplit(":", 1)[1]
    taken = orchard("up", "--port", port, "--reports-port", "0")
    assert taken.returncode == 2
    assert re.search(rf"port {port}: process \d+ has it \(.*prefect server start", taken.stderr)
    assert not (home / "up" / "up.json").exists()


@pytest.mark.parametrize(
    ("variable", "fits"),
    [("ORCHARD_RESTARTS", "a whole number, 0 or more"), ("ORCHARD_RETENTION_DAYS", "a number of days, 1 or more")],
)
def test_a_wrong_number_is_refused_before_anything_starts(
    variable: str, fits: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "often")
    refused = orchard("up", "--port", "0", "--reports-port", "0")
    assert refused.returncode == 2
    for told in (f"{variable} is 'often'", f"fits: {fits}", "or unset it"):
        assert told in refused.stderr
    assert not home.exists()


def child(up: Up, words: str) -> psutil.Process:
    """The process of a service, by what stands in its command."""
    for process in psutil.Process(up.services.pid).children():
        if words in " ".join(process.cmdline()):
            return process
    raise LookupError(words)


def queue(up: Up, count: int) -> list[str]:
    """So many light runs of the worker, queued at once: each pulls a version that does not exist, after all checks."""
    deployment = up.api.get("/deployments/name/pull/pull")["id"]
    asked = {"parameters": {"spec": "nothing@v9.9.9"}}
    return [up.api.post(f"/deployments/{deployment}/create_flow_run", asked)["id"] for _ in range(count)]


def ended(api: PrefectApi, runs: list[str]) -> list[str]:
    """The states of the runs once all are over."""
    try:
        states = [api.get(f"/flow_runs/{run}")["state_type"] for run in runs]
    except OSError:
        return []
    return states if all(state in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"} for state in states) else []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_queue_completes_when_worker_server_and_up_itself_are_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    home = tmp_path / "home"
    up = start_up(home).join(monkeypatch)
    runs = queue(up, 4)
    wait_for(lambda: any(up.api.get(f"/flow_runs/{run}")["state_type"] == "RUNNING" for run in runs), _PATIENCE_SECONDS)
    child(up, "prefect worker start").kill()
    child(up, "prefect server start").kill()
    as_undisturbed = ["FAILED"] * 4
    assert wait_for(lambda: ended(up.api, runs), _PATIENCE_SECONDS) == as_undisturbed
    more = queue(up, 2)
    time.sleep(3)
    os.kill(up.services.pid, signal.SIGKILL)
    again = start_up(home, "--port", up.services.ui.rsplit(":", 1)[1])
    assert again.auth_string == up.auth_string
    assert wait_for(lambda: ended(again.api, more), _PATIENCE_SECONDS) == ["FAILED"] * 2
    assert ended(again.api, runs) == as_undisturbed, "its history is there"
    family = [psutil.Process(again.services.pid), *psutil.Process(again.services.pid).children(recursive=True)]
    stop_up(again)
    assert "everything has ended" in again.output.read_text()
    assert [each for each in family if each.is_running() and each.status() != psutil.STATUS_ZOMBIE] == []
    assert state.running(home) is None
    assert ray_head.current() is None, "nobody who lives uses it"


@pytest.mark.slow
def test_a_run_whose_process_is_killed_is_started_again_and_publishes_once(up: Up):
    deployment = up.api.get("/deployments/name/nqs/tiny")["id"]
    asked = {"parameters": {"run_key": "killed-once", "training_steps": 600}}
    run = up.api.post(f"/deployments/{deployment}/create_flow_run", asked)["id"]
    events = RunFolder("killed-once").stage("training").events
    wait_for(lambda: any(event["kind"] == "step" for event in read_lines(events)), _PATIENCE_SECONDS)
    process = RunFolder("killed-once").running_pid()
    assert process is not None
    os.kill(process, signal.SIGKILL)
    assert wait_for(lambda: [up.api.get(f"/flow_runs/{run}")["state_type"]] == ["COMPLETED"], _PATIENCE_SECONDS)
    told = [each["message"] for each in up.api.get(f"/flow_run_states/?flow_run_id={run}")]
    assert any("It crashed, and is started again, 1 of 2 times" in (message or "") for message in told), told
    assert [version.run_key for version in artifacts.versions("nqs")] == ["killed-once"]
    assert len([event for event in read_lines(events) if event["kind"] == "started"]) == 1, "training went on"


@pytest.mark.slow
def test_ctrl_c_while_it_starts_leaves_nothing(tmp_path: Path):
    process, output = begin_up(tmp_path / "home", "--port", str(free_port()), "--reports-port", "0")
    root = psutil.Process(process.pid)
    family = wait_for(
        lambda: [each for each in root.children(recursive=True) if "prefect" in " ".join(each.cmdline())],
        _PATIENCE_SECONDS,
    )
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0, output.read_text()
    assert [each for each in family if each.is_running()] == []
