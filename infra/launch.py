"""A stage becomes a job of Ray, which is submitted once, attached to, and followed."""

import json
import re
import shlex
import sys
import time
from collections.abc import Callable
from typing import Any

from infra import ray_client
from infra.carrying import Carrier, carrier_of, insist
from infra.clusters import Cluster
from infra.json_lines import Reader
from infra.runs import StageFolder, StageRequest
from infra.settings import ROOT, settings
from infra.shipping import code_folder
from models.common import errors
from models.common.errors import Cancelled, ClusterError, OrchardError, StorageError, TrainingError

_POLL_SECONDS = 0.3
_STATUS_SECONDS = 1.5  # the events say most; the job's status is asked for more rarely
_FINISH_SECONDS = 600  # with a store that does not answer, before another attempt

Event = dict[str, Any]


def run_stage(
    request: StageRequest,
    cluster: Cluster,
    on_event: Callable[[Event], None],
    check: Callable[[], None] = lambda: None,
) -> None:
    """Runs the request's stage as a Ray job, or attaches to the job that already does; returns when it has ended well.

    check: called several times a second; what it raises lets go of the job, which goes on without us.

    Raises ClusterError where Ray cannot be reached or has not the resources, TrainingError (or the error that the
    stage itself raised) where the job fails, Cancelled where somebody stopped it.
    """
    stage_folder = StageFolder(request.folder)
    client = ray_client.connect(cluster)
    events = Reader(stage_folder.events)
    has_run = bool(events.new_lines())
    _wait_for_nodes(client, cluster, cluster.rejoin_seconds if has_run else 0, stage_folder, check)
    carrier = carrier_of(request)
    with ray_client.answering(f"the stage {request.stage} of {request.run_key}"):
        job = _submit_once(client, request, stage_folder, carrier)
    status = _follow(client, job, stage_folder, events, on_event, check, carrier)
    if status == "STOPPED":
        raise Cancelled(f"{job} was stopped\nits checkpoints are kept: the same --run-key goes on from them")
    if status != "SUCCEEDED" or stage_folder.failure.exists():
        raise _failure(client, job, status, stage_folder)
    if not stage_folder.result.exists():
        raise ClusterError(
            f"{job} ended well, and {stage_folder.result} is not there\n"
            "fits: a disk that all machines of Ray see, or ORCHARD_STORAGE between them"
        )


def require_feasible(cluster: Cluster) -> None:
    """Raises ClusterError where the Ray that would run the jobs cannot be reached, or is too small; starts nothing."""
    if settings().ray_address:
        _require_resources(ray_client.nodes(ray_client.client()), cluster)
    else:
        _require_resources([ray_client.this_machine(cluster)], cluster)


def _wait_for_nodes(
    client: Any, cluster: Cluster, seconds: int, stage_folder: StageFolder, check: Callable[[], None]
) -> None:
    """Returns once Ray has what the cluster asks for; a stage that has run before waits for nodes to come back.

    Raises ClusterError where they have not come in `seconds`.
    """
    deadline, told = time.monotonic() + seconds, False
    while True:
        try:
            return _require_resources(ray_client.nodes(client), cluster)
        except ClusterError as missing:
            if time.monotonic() >= deadline:
                raise
            if not told:
                stage_folder.record("log", text=f"waits up to {seconds} s for nodes to come back: {missing}")
        told = True
        check()
        time.sleep(_POLL_SECONDS)


def _require_resources(nodes: list[dict[str, float]], cluster: Cluster) -> None:
    """Raises ClusterError where all of Ray's nodes together have fewer slots than the cluster's workers need."""
    slots = sum(cluster.workers_on(node) for node in nodes)
    if slots < cluster.least_workers:
        has = ", ".join(f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes) or "no nodes"
        raise ClusterError(
            f"cluster '{cluster.name}' asks for {cluster.least_workers} workers with {cluster.cpus_per_worker} CPUs "
            f"and {cluster.gpus_per_worker} GPUs each; Ray has {has}\n"
            f"fits: {slots} such workers\nuse a smaller --cluster, or RAY_ADDRESS of a larger Ray"
        )


def _submit_once(client: Any, request: StageRequest, stage_folder: StageFolder, carrier: Carrier) -> str:
    """Submits the stage's job, unless one is under way; returns its name.

    Each attempt has a name of its own. What watches over a job in Ray would take a new one of the same name for the
    one that has just ended, and call it failed.
    """
    name = f"{request.run_key}.{request.stage}"
    earlier = _jobs_of(client, name)
    newest = max(earlier, default=0)
    status = earlier.get(newest)
    job = _numbered(name, newest)
    if status and not status.is_terminal():
        stage_folder.record("job", name=job)
        stage_folder.record("log", text=f"attached to the running job {job}")
        return job
    if str(getattr(status, "value", "")) == "SUCCEEDED":  # when whoever followed it could not bring its result
        insist(carrier.finish, _FINISH_SECONDS)
        if stage_folder.result.exists():
            return job
    job = _numbered(name, newest + 1)
    stage_folder.folder.mkdir(parents=True, exist_ok=True)
    stage_folder.failure.unlink(missing_ok=True)
    draft = stage_folder.request.with_suffix(".partial")
    draft.write_text(request.model_dump_json(indent=1) + "\n")
    draft.rename(stage_folder.request)
    where = carrier.hand_over(request)
    stage_folder.record("job", name=job)
    try:
        client.submit_job(entrypoint=_command(where), submission_id=job, runtime_env=_runtime_environment(request))
    except RuntimeError as error:
        if "already exists" not in str(error):
            raise ClusterError(f"Ray did not take the job {job}\n{error}") from None
        # Another process of the same run was quicker: its job is ours.
    return job


def _numbered(name: str, attempt: int) -> str:
    return name if attempt == 1 else f"{name}.{attempt}"


def _jobs_of(client: Any, name: str) -> dict[int, Any]:
    """The status of each job of this name that Ray knows, by the number of its attempt."""
    numbered = re.compile(rf"{re.escape(name)}(?:\.(\d+))?")
    matches = ((numbered.fullmatch(each.submission_id or ""), each.status) for each in client.list_jobs())
    return {int(match[1] or 1): status for match, status in matches if match}


def _command(where: str) -> str:
    """What the job runs, in the folder with its code: this Python where the machine has it, else the image's own."""
    here, folder = shlex.quote(sys.executable), "." if settings().ray_address else shlex.quote(str(ROOT))
    return f"cd {folder} && p={here}; test -x $p || p=python; exec $p -m infra.job {shlex.quote(where)}"


def _runtime_environment(request: StageRequest) -> dict[str, Any]:
    """The job's variables, and its code where Ray is not that of this machine: Ray ships it, named by its content."""
    if settings().ray_address:
        return {"working_dir": str(code_folder()), "env_vars": _job_environment(request)}
    return {"env_vars": {"PYTHONPATH": str(ROOT), **_job_environment(request)}}


def _job_environment(request: StageRequest) -> dict[str, str]:
    threads = str(request.cluster["cpus_per_worker"])
    return {
        "ORCHARD_RUN": request.run_key,  # read by nobody: it tells whose process this is
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "RAY_DEDUP_LOGS": "0",
        "RAY_TRAIN_METRICS_ENABLED": "0",
        # It takes a process of its own, and of this machine nobody says that it is about to be taken away.
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "1" if settings().ray_address else "0",
        "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "2",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
        "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": str(request.cluster["hang_timeout_seconds"]),
        # A stage may wait for slots that another stage of the flow still has: feasibility was checked before.
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "86400",
    }


def _follow(
    client: Any,
    job: str,
    stage_folder: StageFolder,
    events: Reader,
    on_event: Callable[[Event], None],
    check: Callable[[], None],
    carrier: Carrier,
) -> str:
    """Passes on each new event until the job is over, and its result is here; returns the job's last status."""
    asked, behind = float("-inf"), False
    while True:
        check()
        over = None
        if time.monotonic() - asked >= _STATUS_SECONDS or stage_folder.result.exists():
            asked = time.monotonic()
            status = _status(client, job)
            over = status if status in ("SUCCEEDED", "FAILED", "STOPPED") else None
            behind = _falls_behind(carrier, behind, on_event)
            if over:
                insist(carrier.finish, _FINISH_SECONDS)
        for event in events.new_lines():
            on_event(event)
        if over:
            return over
        time.sleep(_POLL_SECONDS)


def _falls_behind(carrier: Carrier, behind: bool, on_event: Callable[[Event], None]) -> bool:
    """Brings the events that are new; whether that cannot be now, and if it could be before, a warning says why."""
    try:
        carrier.collect()
    except StorageError as why:
        if not behind:
            text = f"what the stage tells comes later: {str(why).splitlines()[0]}"
            on_event({"time": time.time(), "kind": "warning", "text": text})
        return True
    return False


def _status(client: Any, job: str) -> str:
    """The job's status; raises ClusterError where Ray is gone, which the task may cure by another attempt."""
    with ray_client.answering(f"the job {job}"):
        return str(client.get_job_status(job).value)


def _failure(client: Any, job: str, status: str, stage_folder: StageFolder) -> OrchardError:
    """The error that the stage itself raised where it told one, else the end of the job's log."""
    if stage_folder.failure.exists():
        told = json.loads(stage_folder.failure.read_text())
        kind = getattr(errors, told["kind"], None)
        if kind is not None:
            return kind(told["text"])
        where = f" on rank {told['rank']}" if told["rank"] >= 0 else ""
        return TrainingError(f"{job} failed{where}\n{told['trace']}")
    with ray_client.answering(f"the log of {job}"):
        log = f"{client.get_job_logs(job)}\n{client.get_job_info(job).message}"
    (stage_folder.folder / "job.log").write_text(log)
    tail = "\n".join(log.splitlines()[-20:])
    # Nothing was told, as where its process was killed: another job goes on from the checkpoints.
    return ClusterError(f"job {job} ended as {status}\n{tail}\nthe whole log is {stage_folder.folder / 'job.log'}")
