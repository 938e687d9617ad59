"""Runs of the worker whose process is gone: Prefect would show them as running for ever.

A run key is idempotent: a run that is started again attaches to its Ray job, or goes on from its checkpoints, and
publishes once. So each is scheduled anew, and one that was being cancelled is cancelled.
"""

import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import psutil

from infra import processes
from infra.local.prefect_api import PrefectApi
from infra.settings import ROOT, settings
from models.common.errors import ConfigError

POOL = "orchard"
_STOP_SECONDS = 90
_MOST_RUNS = 200  # a page of Prefect's


def most_restarts() -> int:
    """How often a worker's run that crashed is started again by itself; raises ConfigError where that is no number."""
    text = settings().restarts
    with suppress(ValueError):
        if int(text) >= 0:
            return int(text)
    raise ConfigError(
        f"ORCHARD_RESTARTS is '{text}'\nfits: a whole number, 0 or more\nset it to such a number, or unset it"
    )


class LostRuns:
    """Finds them again and again; a run has to be missing in two looks, since it may just be starting or ending."""

    def __init__(self, api: PrefectApi, pool: str = POOL) -> None:
        self.api = api
        self.pool = pool
        self._missing: set[str] = set()

    def mend(self, worker: int | None, *, at_once: bool = False) -> list[str]:
        """Schedules lost runs anew; returns their names. What runs without the worker, its process, is ended first.

        `at_once`: the worker that had them is gone, so that none can be just starting. Raises OSError, ClusterError.
        """
        under_way = self._under_way()
        if not under_way:
            self._missing.clear()
            return []
        found = _processes_of_runs()
        below = {each.pid for each in processes.tree(psutil.Process(worker))} if worker else set()
        missing = {run["id"] for run in under_way if not any(each.pid in below for each in found.get(run["id"], ()))}
        lost = [run for run in under_way if run["id"] in (missing if at_once else missing & self._missing)]
        for run in lost:
            processes.end(found.get(run["id"], ()), patience=0)
            self._mend(run)
        self._missing = missing - {run["id"] for run in lost}
        return [run["name"] for run in lost]

    def _under_way(self) -> list[dict[str, Any]]:
        wanted = {"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}}
        pool = {"name": {"any_": [self.pool]}}
        return self.api.post("/flow_runs/filter", {"flow_runs": wanted, "work_pools": pool, "limit": _MOST_RUNS})

    def _mend(self, run: dict[str, Any]) -> None:
        if run["state_type"] == "CANCELLING":
            _stop_jobs(run["name"])
            state = {
                "type": "CANCELLED",
                "message": "Its process was gone already; its jobs are stopped.",
            }
        else:
            state = {
                "type": "SCHEDULED",
                "message": "Its process was gone: it goes on where it stopped.",
                "state_details": {"scheduled_time": datetime.now(UTC).isoformat()},
            }
        self.api.post(f"/flow_runs/{run['id']}/set_state", {"state": state, "force": True})


def _processes_of_runs() -> dict[str, list[psutil.Process]]:
    """The processes of this machine by the flow run that Prefect started them for."""
    found: dict[str, list[psutil.Process]] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if run := process.environ().get("PREFECT__FLOW_RUN_ID"):
                found.setdefault(run, []).append(process)
    return found


def _stop_jobs(run_key: str) -> None:
    """In a process of its own: a client of Ray would stay in the memory of this one."""
    code = "import sys; from infra import stopping; stopping.stop_run(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, run_key], cwd=ROOT, capture_output=True, timeout=_STOP_SECONDS)
