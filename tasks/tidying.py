"""A run that crashed: started again a few times, unless it turns out to be alive; then stopped, with all it left."""

from uuid import UUID

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound
from prefect.states import AwaitingRetry, Running

from infra import stopping
from infra.local.lost_runs import most_restarts
from infra.stopping import Stopped
from models.common.config import Config
from models.common.errors import ClusterError
from tasks.cancelling import emit_failure, runs_of
from tasks.run_page import artifact_key

_AGAIN = "It crashed, and is started again"


class Tidied(Config):
    """What was found of a run that crashed, and stopped."""

    run_key: str
    goes_on: bool  # nothing was stopped
    stopped: dict[str, Stopped]  # by run key: those that the flow run was made of


@task(task_run_name="let-it-go-on", retries=3, retry_delay_seconds=20)
def goes_on(run_key: str, flow_run_id: UUID | None, reason: str) -> bool:
    """Whether the run is not over: alive after all, started again by somebody, or by this, ORCHARD_RESTARTS times.

    One whose process is alive (its machine slept, the server was away) is set to Running again. One that is started
    again attaches to its Ray job, or goes on from its checkpoints, and publishes once.
    """
    flow_run = _read(flow_run_id)
    if flow_run is None:
        return False
    if flow_run.state and not flow_run.state.is_final():
        get_run_logger().info("%s goes on: nothing is stopped", run_key)
        return True
    return _is_alive(flow_run) or _started_again(flow_run, reason)


@task(task_run_name="stop-what-is-left", retries=3, retry_delay_seconds=20)
def stop_what_is_left(run_key: str, flow_run_id: UUID | None) -> Tidied:
    """Every Ray job of the crashed run, stopped and seen to be gone."""
    keys = [folder.key for folder in runs_of(flow_run_id)] if flow_run_id else []
    stopped = {key: stopping.stop_run(key) for key in keys or [run_key]}
    create_markdown_artifact(key=artifact_key(run_key, "tidied"), markdown=_page(run_key, stopped))
    left = [process for each in stopped.values() for process in each.left]
    if left:
        raise ClusterError(f"{run_key}: still alive: {', '.join(left)}\nlook at Ray's dashboard; stop it there")
    return Tidied(run_key=run_key, goes_on=False, stopped=stopped)


@task(task_run_name="tell-why")
def tell_crash(run_key: str, flow_run_id: UUID | None, state: str, reason: str) -> None:
    """One event, as of a run that failed."""
    workload = next((folder.asked().workload for folder in runs_of(flow_run_id)), "") if flow_run_id else ""
    emit_failure(run_key, flow_run_id or UUID(int=0), workload, f"{state}: {reason}".strip(": "))


def _read(flow_run_id: UUID | None) -> FlowRun | None:
    """The flow run, or None where it has been deleted."""
    if flow_run_id is None:
        return None
    with get_client(sync_client=True) as client:
        try:
            return client.read_flow_run(flow_run_id)
        except ObjectNotFound:
            return None


def _is_alive(flow_run: FlowRun) -> bool:
    """Whether its process is; it is said to be then."""
    if not any(folder.running_pid() for folder in runs_of(flow_run.id)):
        return False
    alive = Running(message="its process is alive: the heartbeats were lost on their way")
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(flow_run.id, alive, force=True)
    return True


def _started_again(flow_run: FlowRun, reason: str) -> bool:
    """Whether a worker may take it once more, which it is scheduled for."""
    if flow_run.state is None or not flow_run.state.is_crashed():  # somebody has ended it otherwise meanwhile
        return False
    if flow_run.deployment_id is None:  # of a terminal: no worker would take it
        return False
    most = most_restarts()
    with get_client(sync_client=True) as client:
        before = sum((state.message or "").startswith(_AGAIN) for state in client.read_flow_run_states(flow_run.id))
        if before >= most:
            return False
        message = f"{_AGAIN}, {before + 1} of {most} times: {reason}"
        client.set_flow_run_state(flow_run.id, AwaitingRetry(message=message), force=True)
    get_run_logger().info("%s is started again, %d of %d times", flow_run.name, before + 1, most)
    return True


def _page(run_key: str, stopped: dict[str, Stopped]) -> str:
    rows = [
        f"| {key} | {', '.join(each.jobs) or 'none was running'} | {each.workers} | "
        f"{', '.join(each.left) or 'none'} | {each.seconds:.1f} |"
        for key, each in stopped.items()
    ]
    return "\n".join(
        [
            f"# What {run_key} left behind",
            "",
            "| run | Ray jobs stopped | their processes | still alive | seconds |",
            "| --- | --- | --- | --- | --- |",
            *rows,
            "",
            "Checkpoints are kept: a run of the same name goes on from them.",
        ]
    )
