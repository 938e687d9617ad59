"""Ray from the outside: a stage becomes one job, which is submitted once, attached to, followed and stopped."""

import json
import logging
import shlex
import socket
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from infra import ray_head
from infra.carrying import Carrier, carrier_of, insist
from infra.clusters import Cluster
from infra.runs import StageFolder, StageRequest, read_lines
from infra.settings import ROOT, settings, use_ray_token
from infra.shipping import code_folder
from models.common import errors
from models.common.config import Config
from models.common.errors import Cancelled, ClusterError, OrchardError, StorageError, TrainingError

_POLL_SECONDS = 0.3
_STATUS_SECONDS = 1.5  # the events say most; the job's status is asked for more rarely
_STOP_SECONDS = 45
_STOP_AGAIN_SECONDS = 5
_FINISH_SECONDS = 600  # with a store that does not answer, before another attempt
_MOST_ENTRIES = 10_000  # of Ray's state, and the most that it gives
_ANSWER_SECONDS = 5

Event = dict[str, Any]


def start_ahead(cluster: Cluster) -> None:
    """Begins starting the local Ray, where no running one is named, so that it is up when the first stage needs it."""
    if not settings().ray_address:
        ray_head.start_ahead(_local_slots(cluster))


class Stopped(Config):
    """What a run still had in Ray when it was stopped, and what of that was alive when the wait was over."""

    jobs: tuple[str, ...]
    workers: int  # processes of these jobs: drivers, actors, tasks
    left: tuple[str, ...]
    seconds: float


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
    client = _connect(cluster)
    _require_resources(_nodes(client), cluster)
    seen = len(read_lines(stage_folder.events))
    job = f"{request.run_key}.{request.stage}"
    carrier = carrier_of(request)
    _submit_once(client, job, request, stage_folder, carrier)
    status = _follow(client, job, stage_folder, seen, on_event, check, carrier)
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
        _require_resources(_nodes(_client()), cluster)
    else:
        _require_resources([_this_machine(cluster)], cluster)


def stop_run(run_key: str) -> Stopped:
    """Stops every job of the run that is not over, and waits until Ray knows none of their processes any more.

    Raises ClusterError where Ray cannot be asked. A Ray of this machine that is not running has none of them.
    """
    began = time.monotonic()
    if not settings().ray_address and ray_head.current() is None:
        return Stopped(jobs=(), workers=0, left=(), seconds=0.0)
    client = _client()  # before anything else of Ray is imported, which reads then whether it has a token
    with _answering(f"the jobs of {run_key}"):
        return _stop_jobs(client, run_key, began)


def _stop_jobs(client: Any, run_key: str, began: float) -> Stopped:
    jobs = tuple(job.submission_id for job in _jobs(client, run_key) if not job.status.is_terminal())
    seen = left = _alive(client, run_key)
    asked = float("-inf")
    while left and time.monotonic() - began < _STOP_SECONDS:
        if time.monotonic() - asked >= _STOP_AGAIN_SECONDS:  # a job that is just starting does not hear the first one
            asked = time.monotonic()
            for job in _jobs(client, run_key):
                if not job.status.is_terminal():
                    client.stop_job(job.submission_id)
        time.sleep(_POLL_SECONDS)
        left = _alive(client, run_key)
    workers = sum(not each.startswith("job ") for each in seen)
    return Stopped(jobs=jobs, workers=workers, left=tuple(left), seconds=round(time.monotonic() - began, 2))


def _jobs(client: Any, run_key: str) -> list[Any]:
    return [job for job in client.list_jobs() if (job.submission_id or "").startswith(f"{run_key}.")]


def _alive(client: Any, run_key: str) -> list[str]:
    """What Ray has of the run: jobs that are not over, and the processes of its drivers, actors and tasks."""
    from ray.util.state import list_actors, list_tasks, list_workers

    jobs = _jobs(client, run_key)
    ids = {job.job_id for job in jobs if job.job_id}
    drivers = {(int(job.driver_info.pid), job.driver_info.node_ip_address) for job in jobs if job.driver_info}
    living_drivers = _listed(list_workers, client, ("worker_type", "=", "DRIVER"), ("is_alive", "=", True))
    actors = _listed(list_actors, client, ("state", "!=", "DEAD"))
    tasks = _listed(list_tasks, client, ("state", "=", "RUNNING"), ("type", "=", "NORMAL_TASK"), detail=True)
    return [
        *(f"job {job.submission_id}" for job in jobs if not job.status.is_terminal()),
        *(f"driver, process {each.pid} on {each.ip}" for each in living_drivers if (each.pid, each.ip) in drivers),
        *(f"{each.class_name}, process {each.pid}" for each in actors if each.job_id in ids),
        *(f"{each.name}, process {each.worker_pid}" for each in tasks if each.job_id in ids),
    ]


def _listed(question: Any, client: Any, *filters: tuple[str, str, Any], detail: bool = False) -> list[Any]:
    """All entries of Ray's state that pass the filters; it gives 100 where nobody asks for more."""
    return question(
        address=client.get_address(),
        filters=list(filters),
        limit=_MOST_ENTRIES,
        detail=detail,
        raise_on_missing_output=False,
    )


def dashboard() -> str | None:
    """The address of Ray's dashboard, or None where no Ray is up."""
    head = ray_head.current()
    return settings().ray_address or (head.address if head else None)


def asks_for_token(address: str) -> bool:
    """Whether Ray at this address refuses a stranger."""
    import requests

    return requests.get(f"{address}/api/jobs/", timeout=_ANSWER_SECONDS).status_code in (401, 403)


def _connect(cluster: Cluster) -> Any:
    """A client of the Ray that runs the jobs; the local one is started where none is named."""
    if not settings().ray_address:
        head = ray_head.start_ahead(_local_slots(cluster))
        ray_head.wait_until_ready(head)
    return _client()


def _client() -> Any:
    address = settings().ray_address
    if address:
        use_ray_token(None)
        return _open(address)
    head = ray_head.current()
    if head is None:
        raise ClusterError("no local Ray is running, so there is no job to speak of")
    use_ray_token(ray_head.token_file())
    return _open(head.address)


def _open(address: str) -> Any:
    """A job client; raises ClusterError where the address is unreachable or refuses our token."""
    if not address.startswith(("http://", "https://")):
        raise ClusterError(
            f"RAY_ADDRESS is '{address}', which is no address for jobs\n"
            "fits: the dashboard's, as in http://HOST:8265\nunset it to start a Ray on this machine"
        )
    import requests
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    logging.getLogger("ray").setLevel(logging.WARNING)
    try:
        parts = urllib.parse.urlsplit(address)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname, port), timeout=_ANSWER_SECONDS).close()  # Ray's client waits for ever
        client = JobSubmissionClient(address)
        client.list_jobs()  # the version is told to anyone, jobs only with the token
        return client
    except AuthenticationError:
        reason = "it refuses our token"
    except (OSError, requests.RequestException) as error:
        reason = f"it cannot be reached: {type(error).__name__}"
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
    raise ClusterError(
        f"Ray at {address}: {reason}\n"
        "check RAY_ADDRESS, and RAY_AUTH_TOKEN_PATH (or RAY_AUTH_TOKEN) for a Ray that wants a token"
    )


def _local_slots(cluster: Cluster) -> int:
    import psutil

    return max(psutil.cpu_count() or 1, 2 if not cluster.gpus_per_worker else 1)


def _this_machine(cluster: Cluster) -> dict[str, float]:
    """What a Ray that is started here would have."""
    return {"CPU": _local_slots(cluster), "GPU": local_gpus()}


def local_gpus() -> int:
    """How many GPUs the driver of this machine knows."""
    gpus = Path("/proc/driver/nvidia/gpus")
    return len(list(gpus.iterdir())) if gpus.exists() else 0


def _require_resources(nodes: list[dict[str, float]], cluster: Cluster) -> None:
    """Raises ClusterError where all of Ray's nodes together have fewer slots than the cluster's workers need."""
    slots = sum(_slots(node, cluster) for node in nodes)
    if slots < cluster.workers:
        has = ", ".join(f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes) or "no nodes"
        raise ClusterError(
            f"cluster '{cluster.name}' asks for {cluster.workers} workers with {cluster.cpus_per_worker} CPUs and "
            f"{cluster.gpus_per_worker} GPUs each; Ray has {has}\n"
            f"fits: {slots} such workers\nuse a smaller --cluster, or RAY_ADDRESS of a larger Ray"
        )


def _slots(node: dict[str, float], cluster: Cluster) -> int:
    by_cpu = node.get("CPU", 0) // cluster.cpus_per_worker
    by_gpu = node.get("GPU", 0) // cluster.gpus_per_worker if cluster.gpus_per_worker else by_cpu
    return int(min(by_cpu, by_gpu))


def _nodes(client: Any) -> list[dict[str, float]]:
    """The resources of each node that is alive."""
    from ray.util.state import list_nodes

    nodes: list[Any] = list_nodes(address=client.get_address())
    return [node.resources_total for node in nodes if node.state == "ALIVE"]


def _submit_once(client: Any, job: str, request: StageRequest, stage_folder: StageFolder, carrier: Carrier) -> None:
    """Submits the job, unless one of this name is under way."""
    try:
        status = client.get_job_status(job)
    except RuntimeError:  # there is none
        status = None
    if status and not status.is_terminal():
        stage_folder.record("log", text=f"attached to the running job {job}")
        return
    if str(getattr(status, "value", "")) == "SUCCEEDED":  # when whoever followed it could not bring its result
        insist(carrier.finish, _FINISH_SECONDS)
        if stage_folder.result.exists():
            return
    if status:
        client.delete_job(job)
    stage_folder.folder.mkdir(parents=True, exist_ok=True)
    stage_folder.failure.unlink(missing_ok=True)
    draft = stage_folder.request.with_suffix(".partial")
    draft.write_text(request.model_dump_json(indent=1) + "\n")
    draft.rename(stage_folder.request)
    where = carrier.hand_over(request)
    try:
        client.submit_job(entrypoint=_command(where), submission_id=job, runtime_env=_runtime_environment(request))
    except RuntimeError as error:
        if "already exists" not in str(error):
            raise ClusterError(f"Ray did not take the job {job}\n{error}") from None
        # Another process of the same run was quicker: its job is ours.


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
    seen: int,
    on_event: Callable[[Event], None],
    check: Callable[[], None],
    carrier: Carrier,
) -> str:
    """Passes on each new event until the job is over, and its result is here; returns the job's last status."""
    asked = float("-inf")
    while True:
        check()
        over = None
        if time.monotonic() - asked >= _STATUS_SECONDS or stage_folder.result.exists():
            asked = time.monotonic()
            status = _status(client, job)
            over = status if status in ("SUCCEEDED", "FAILED", "STOPPED") else None
            with suppress(StorageError):  # what is there now comes later
                carrier.collect()
            if over:
                insist(carrier.finish, _FINISH_SECONDS)
        lines = read_lines(stage_folder.events)
        for event in lines[seen:]:
            on_event(event)
        seen = len(lines)
        if over:
            return over
        time.sleep(_POLL_SECONDS)


def _status(client: Any, job: str) -> str:
    """The job's status; raises ClusterError where Ray is gone, which the task may cure by another attempt."""
    with _answering(f"the job {job}"):
        return str(client.get_job_status(job).value)


@contextmanager
def _answering(what: str) -> Iterator[None]:
    """Raises ClusterError where Ray does not answer within the block."""
    import requests
    from ray.util.state.exception import RayStateApiException

    try:
        yield
    except (requests.RequestException, RayStateApiException, RuntimeError, ConnectionError) as error:
        raise ClusterError(f"Ray lost {what}: {error}\nrun again with the same --run-key to go on") from None


def _failure(client: Any, job: str, status: str, stage_folder: StageFolder) -> OrchardError:
    """The error that the stage itself raised where it told one, else the end of the job's log."""
    if stage_folder.failure.exists():
        told = json.loads(stage_folder.failure.read_text())
        kind = getattr(errors, told["kind"], None)
        if kind is not None:
            return kind(told["text"])
        return TrainingError(f"{job} failed on rank {told['rank']}\n{told['trace']}")
    with _answering(f"the log of {job}"):
        log = f"{client.get_job_logs(job)}\n{client.get_job_info(job).message}"
    (stage_folder.folder / "job.log").write_text(log)
    tail = "\n".join(log.splitlines()[-20:])
    # Nothing was told, as where its process was killed: another job goes on from the checkpoints.
    return ClusterError(f"job {job} ended as {status}\n{tail}\nthe whole log is {stage_folder.folder / 'job.log'}")
