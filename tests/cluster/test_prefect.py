"""Prefect on several hosts: what it was told stays in its database, whichever of its hosts dies."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from infra.drill.hosts import Network, missing
from infra.drill.prefect_nodes import POOL, Database, PrefectServer, PrefectWorker, missing_database
from tests.fixtures.prefect_rest import answer_of
from tests.fixtures.workers import wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

_FLOW = """
from prefect import flow
@flow
def where():
    import socket
    return print("ran on", socket.gethostname())
"""


@pytest.fixture
def prefect(tmp_path: Path) -> Iterator[tuple[Database, PrefectServer, PrefectWorker]]:
    if reason := missing() or missing_database():
        pytest.skip(reason)
    with Network(tmp_path / "logs") as network:
        database = Database(network.host("database"))
        server = PrefectServer(network.host("prefect"), database)
        worker = PrefectWorker(network.host("flows"), server, lambda _: {}, "no Ray here")
        for node in (database, server, worker):
            node.start()
            node.wait_ready()
        yield database, server, worker


def test_a_flow_run_outlives_the_hosts_of_database_and_server(
    prefect: tuple[Database, PrefectServer, PrefectWorker],
):
    database, server, worker = prefect
    assert requests.post(f"{server.api}/flows/filter", json={}, timeout=10).status_code == 401
    worker.host.run(["mkdir", "-p", "/run/disk/code"])
    worker.host.path("/run/disk/code/where.py").write_text(_FLOW)
    run = start(server)
    wait_for(lambda: state(server, run) == "COMPLETED", 90)
    server.kill()
    database.kill()
    database.restart()
    server.restart()
    assert state(server, run) == "COMPLETED"
    worker.restart()
    again = start(server)
    wait_for(lambda: state(server, again) == "COMPLETED", 90)


def start(server: PrefectServer) -> str:
    """The id of a new run of the flow."""
    flow = ask(server, "flows/", name="where")["id"]
    deployment = ask(
        server,
        "deployments/",
        name="drill",
        flow_id=flow,
        work_pool_name=POOL,
        entrypoint="where.py:where",
        pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": "/run/disk/code"}}],
    )["id"]
    return ask(server, f"deployments/{deployment}/create_flow_run")["id"]


def state(server: PrefectServer, run: str) -> str:
    [found] = ask(server, "flow_runs/filter", flow_runs={"id": {"any_": [run]}})
    return found["state_type"]


def ask(server: PrefectServer, path: str, **body: Any) -> Any:
    return answer_of("POST", f"{server.api}/{path}", body, server.login())
