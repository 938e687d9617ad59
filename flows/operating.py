"""What a terminal asks of the Prefect server: which runs there are, how they stand, what they said; and to cancel one.

Import it after `infra.settings.prepare_prefect`, which says where the server is.
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterType,
    FlowFilter,
    FlowFilterId,
    FlowRunFilter,
    FlowRunFilterName,
    FlowRunFilterState,
    FlowRunFilterStateType,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.events import Event, Resource
from prefect.events.clients import get_events_client
from prefect.states import Cancelled, Cancelling

from flows.server import connected
from infra.settings import settings

DATA_CHANGED = "orchard.data.changed"  # the event; its resource is orchard.data.WORKLOAD
_LOGS_AT_ONCE = 200
_UNFINISHED = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED, StateType.CANCELLING]


@dataclass(frozen=True)
class Seen:
    """A flow run, as the server tells of it. Times are seconds since 1970."""

    id: UUID
    run_name: str
    flow: str
    pool: str | None
    state: str  # in Prefect's words: "Late", "Running"
    why: str  # what the state says of itself
    is_over: bool
    is_waiting: bool  # for its time, for a worker, or for a place in its queue
    is_deployed: bool  # so that a worker ends it when the server is asked
    due: float | None  # when it is or was to start
    started: float | None
    parameters: dict[str, Any]

    @property
    def page(self) -> str:
        """Its address in the UI."""
        return f"{(settings().prefect_api or '').removesuffix('/api')}/runs/flow-run/{self.id}"


@dataclass(frozen=True)
class Log:
    """One log line of a flow run."""

    time: float
    level: int  # as Python's logging has it
    text: str


def unfinished() -> list[Seen]:
    """The runs that are not over, the one due first coming first."""
    with connected() as client:
        state = FlowRunFilterState(type=FlowRunFilterStateType(any_=_UNFINISHED))
        found = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=state), sort=FlowRunSort.EXPECTED_START_TIME_ASC
        )
        return _seen(client, found)


def find(run_name: str) -> Seen | None:
    """The newest flow run of this name, one that is not over before those that are; None where there is none."""
    with connected() as client:
        named = FlowRunFilter(name=FlowRunFilterName(any_=[run_name]))
        runs = client.read_flow_runs(flow_run_filter=named, sort=FlowRunSort.EXPECTED_START_TIME_DESC)
        found = _seen(client, runs)
    # One that has not begun is known by the name that was asked for, and is not called so yet.
    found += [run for run in unfinished() if run.run_name == run_name]
    return min(found, key=lambda run: run.is_over, default=None)


def read(flow_run: UUID | str) -> Seen:
    """The flow run of this id as it is now."""
    with connected() as client:
        return _seen(client, [client.read_flow_run(UUID(str(flow_run)))])[0]


def cancel(run: Seen) -> Seen:
    """The run as it is once the server was asked to cancel it: a worker ends what it has begun."""
    with connected() as client:
        # What no worker has begun would stay Cancelling for ever: nobody ends it.
        wanted = Cancelling() if run.is_deployed and not run.is_waiting else Cancelled()
        client.set_flow_run_state(run.id, wanted)
    return read(run.id)


def log_lines(run: Seen, after: int = 0) -> list[Log]:
    """What the run has said, but for the first so many lines."""
    found: list[Log] = []
    with connected() as client:
        logs = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id]))
        while True:
            lines = client.read_logs(log_filter=logs, limit=_LOGS_AT_ONCE, offset=after + len(found))
            found += [Log(line.timestamp.timestamp(), line.level, line.message) for line in lines]
            if len(lines) < _LOGS_AT_ONCE:
                return found


def stages_shown(run: Seen) -> list[tuple[str, float, str]]:
    """Name, percent and text of each stage that the run's page shows under way."""
    with connected() as client:
        wanted = ArtifactFilter(
            flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]), type=ArtifactFilterType(any_=["progress"])
        )
        found = [
            (*(each.description or "").partition(": ")[::2], each.data)
            for each in client.read_artifacts(artifact_filter=wanted)
        ]
    return [(name, float(data), text) for name, text, data in found if isinstance(data, int | float) and data < 100]


def tell_data_changed(workload: str) -> None:
    """Emits the event that the workload's data changed; an automation may answer it with a retrain."""
    event = Event(
        event=DATA_CHANGED,
        resource=Resource({"prefect.resource.id": f"orchard.data.{workload}", "prefect.resource.name": workload}),
    )

    async def send() -> None:
        async with get_events_client() as client:
            await client.emit(event)

    with connected():
        asyncio.run(send())


def _seen(client: SyncPrefectClient, runs: list[FlowRun]) -> list[Seen]:
    ids = list({run.flow_id for run in runs})
    flows = client.read_flows(flow_filter=FlowFilter(id=FlowFilterId(any_=ids))) if ids else []
    names = {flow.id: flow.name for flow in flows}
    return [_seen_run(run, names.get(run.flow_id, "")) for run in runs]


def _seen_run(run: FlowRun, flow: str) -> Seen:
    assert run.state is not None
    return Seen(
        id=run.id,
        run_name=run.parameters.get("run_key") or run.name,
        flow=flow,
        pool=run.work_pool_name,
        state=run.state.name or run.state.type.value.title(),
        why=run.state.message or "",
        is_over=run.state.is_final(),
        is_waiting=run.state.is_scheduled(),
        is_deployed=run.deployment_id is not None,
        due=_seconds(run.expected_start_time),
        started=_seconds(run.start_time),
        parameters=run.parameters,
    )


def _seconds(time: datetime | None) -> float | None:
    return time.timestamp() if time else None
