"""How a run ends early: cancelled, with its Ray jobs stopped and nothing left; or failed, with one event that says why.

Prefect's worker cancels in this order. It sends SIGTERM and waits for the process to end, which it kills after 30 s; it
runs the flow's on_cancellation hooks, in a process of their own and without a time limit; then it says Cancelled. So
the flow lets go of its jobs at once and stops them, and the hook does not return before nothing is left.
"""

import time
from contextlib import suppress
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.events import emit_event
from prefect.exceptions import TerminationSignal
from prefect.logging.loggers import flow_run_logger
from prefect.states import Cancelled
from prefect.task_runners import ThreadPoolTaskRunner

from infra import stopping
from infra.runs import RunFolder, leave, runs
from infra.settings import started_by_worker
from infra.stopping import Stopped
from models.common.errors import ClusterError
from tasks.run_page import artifact_key, close_pages

FAILED_EVENT = "orchard.run.failed"

_LEAVE_SECONDS = 20.0  # for jobs that are slow to end, and for threads that nothing interrupts
_KEEP_TRYING_SECONDS = 300.0  # until a Ray that does not answer is given up
_TRY_AGAIN_SECONDS = 5.0

_begun: dict[str, RunFolder] = {}  # by key, in this process


def begun(folder: RunFolder) -> None:
    """Notes that this process runs it, and has to let go of its jobs when it is cancelled."""
    _begun[folder.key] = folder


class StageRunner(ThreadPoolTaskRunner[Any]):
    """Prefect's threads, which let go of their Ray jobs when SIGTERM ends the flow, in place of following them on.

    Prefect waits for its threads then, and its own signal handler has to stay where it is: it tells the worker so. A
    flow that a worker watches over also leaves soon after, whatever its threads are at: what it writes is whole or not
    there, and the worker goes on only when the process is gone.
    """

    def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        ended_by_signal = isinstance(exc_value, TerminationSignal)
        if ended_by_signal:
            if started_by_worker():
                leave(after=_LEAVE_SECONDS)
            for folder in _begun.values():
                folder.cancel()
                with suppress(ClusterError):  # the hook tries again, and tells
                    folder.note_stop(stopping.stop_run(folder.key).model_dump())
        super().__exit__(exc_type, exc_value, traceback)
        if not ended_by_signal:
            for folder in _begun.values():
                _conclude(folder)
                close_pages(folder.key)


def _conclude(folder: RunFolder) -> None:
    """A run that was cancelled without a signal, from a terminal or past a worker that has died, says Cancelled."""
    asked = folder.asked()
    if not folder.was_cancelled(since=asked.started):
        return
    with suppress(httpx.HTTPError), get_client(sync_client=True) as client:
        for place, flow_run_id in enumerate(dict.fromkeys([asked.flow_run, asked.root_flow_run])):
            flow_run = client.read_flow_run(UUID(flow_run_id))
            if place == 0:
                stop_and_tell(folder, flow_run)
            client.set_flow_run_state(flow_run.id, Cancelled(message="stopped; checkpoints are kept"), force=True)


def stop_cancelled(flow: Any, flow_run: Any, state: Any) -> None:
    """Hook on cancellation: returns when nothing of the run is left in Ray, which the run page then shows."""
    for folder in runs_of(flow_run.id):
        if folder.key not in _begun:  # else this is the flow's own process, which concludes it at its end
            stop_and_tell(folder, flow_run)


def tell_failure(flow: Any, flow_run: Any, state: Any) -> None:
    """Hook on failure: one event with the first error, unless the run failed because it was cancelled."""
    folders = runs_of(flow_run.id)
    if any(folder.was_cancelled(since=folder.asked().started) for folder in folders):
        return
    raised = state.result(raise_on_failure=False)
    reasons = [*(folder.first_error(since=folder.asked().started) for folder in folders), raised]
    first = next((error for error in reasons if isinstance(error, Exception)), None)
    reason = f"{type(first).__name__}: {first}" if first else state.message or ""
    emit_failure(flow_run.name, flow_run.id, flow.name, reason)


# What makes a flow of stages one that can be stopped: `@flow(name="relay", **STOPPABLE)`.
STOPPABLE: dict[str, Any] = {
    "task_runner": StageRunner(),
    "on_cancellation": [stop_cancelled],
    "on_failure": [tell_failure],
}


def emit_failure(run_key: str, flow_run_id: UUID, flow_name: str, reason: str) -> None:
    """Tells automations and the event feed that a run has failed, and why."""
    emit_event(
        event=FAILED_EVENT,
        resource={"prefect.resource.id": f"orchard.run.{run_key}", "prefect.resource.name": run_key},
        related=[{"prefect.resource.id": f"prefect.flow-run.{flow_run_id}", "prefect.resource.role": "flow-run"}],
        payload={"workload": flow_name, "reason": reason},
    )


def stop_and_tell(folder: RunFolder, flow_run: Any) -> Stopped:
    """What was found of the run, once nothing is left or Ray has been silent for too long; told on the run page."""
    folder.cancel()
    stopped = _all_of(folder, _stopped_for_good(folder.key, flow_run_logger(flow_run)))
    flow_run_logger(flow_run).info("cancelled %s: %s", folder.key, _in_words(stopped))
    with get_client(sync_client=True) as client:
        client.create_artifact(
            ArtifactCreate(
                type="markdown",
                key=artifact_key(folder.key, "cancelled"),
                description=_in_words(stopped),
                data=_page(folder.key, stopped),
                flow_run_id=flow_run.id,
            )
        )
    return stopped


def _stopped_for_good(run_key: str, log: Any) -> Stopped:
    began = time.monotonic()
    while True:
        try:
            stopped = stopping.stop_run(run_key)
        except ClusterError as unreachable:
            log.warning("cancelling %s: %s", run_key, unreachable)
            stopped = Stopped(jobs=(), workers=0, left=(f"unknown: {str(unreachable).splitlines()[0]}",), seconds=0.0)
        if not stopped.left or time.monotonic() - began > _KEEP_TRYING_SECONDS:
            return stopped
        time.sleep(_TRY_AGAIN_SECONDS)


def _all_of(folder: RunFolder, last: Stopped) -> Stopped:
    """The last stop together with those of the flow itself, which came before it."""
    stops = [Stopped.model_validate(found) for found in folder.stops(since=folder.asked().started)]
    jobs = dict.fromkeys(job for stop in (*stops, last) for job in stop.jobs)
    workers = max(stop.workers for stop in (*stops, last))
    return last.but(jobs=tuple(jobs), workers=workers, seconds=sum(stop.seconds for stop in (*stops, last)))


def _in_words(stopped: Stopped) -> str:
    jobs = ", ".join(stopped.jobs) or "no job was running"
    left = f"STILL ALIVE: {', '.join(stopped.left)}" if stopped.left else "none of them is left"
    return f"{jobs}; {stopped.workers} processes; {left} after {stopped.seconds:.1f} s"


def _page(run_key: str, stopped: Stopped) -> str:
    rows = [
        ("Ray jobs stopped", ", ".join(f"`{job}`" for job in stopped.jobs) or "none was running"),
        ("processes of these jobs", str(stopped.workers)),
        ("still alive", ", ".join(stopped.left) or "none"),
        ("seconds", f"{stopped.seconds:.1f}"),
    ]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    return (
        f"# {run_key} was cancelled\n\n| | |\n| --- | --- |\n{table}\n\n"
        f"Checkpoints are kept, and nothing was published by halves. `orchard resume {run_key}`, or a run of this "
        "name, goes on from them.\n"
    )


def runs_of(flow_run_id: UUID) -> list[RunFolder]:
    """The runs that this flow run is, or is made of; none where it was stopped before it began one."""
    wanted = str(flow_run_id)
    return [folder for folder in runs() if wanted in (folder.asked().flow_run, folder.asked().root_flow_run)]
