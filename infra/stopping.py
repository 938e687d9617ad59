"""A run is stopped in Ray: its jobs, and all that they started."""

import time
from typing import Any

from infra import ray_client, ray_head
from infra.settings import settings
from models.common.config import Config

_POLL_SECONDS = 0.3
_STOP_SECONDS = 45
_STOP_AGAIN_SECONDS = 5


class Stopped(Config):
    """What a run still had in Ray when it was stopped, and what of that was alive when the wait was over."""

    jobs: tuple[str, ...]
    workers: int  # processes of these jobs: drivers, actors, tasks
    left: tuple[str, ...]
    seconds: float


def stop_run(run_key: str) -> Stopped:
    """Stops every job of the run that is not over, and waits until Ray knows none of their processes any more.

    Raises ClusterError where Ray cannot be asked. A Ray of this machine that is not running has none of them.
    """
    began = time.monotonic()
    if not settings().ray_address and ray_head.current() is None:
        return Stopped(jobs=(), workers=0, left=(), seconds=0.0)
    client = ray_client.client()  # before anything else of Ray is imported, which reads then whether it has a token
    with ray_client.answering(f"the jobs of {run_key}"):
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
    """What Ray has of the run: jobs that are not over, supervisors, and processes of drivers, actors and tasks."""
    jobs = _jobs(client, run_key)
    ids = {job.job_id for job in jobs if job.job_id}
    supervisors = {ray_client.supervisor(job.submission_id) for job in jobs}
    drivers = {(int(job.driver_info.pid), job.driver_info.node_ip_address) for job in jobs if job.driver_info}
    actors = ray_client.living_actors(client)
    living_drivers, tasks = ray_client.living_drivers(client), ray_client.running_tasks(client)
    return [
        *(f"job {job.submission_id}" for job in jobs if not job.status.is_terminal()),
        *(f"job supervisor, process {each.pid}" for each in actors if each.name in supervisors),
        *(f"driver, process {each.pid} on {each.ip}" for each in living_drivers if (each.pid, each.ip) in drivers),
        *(f"{each.class_name}, process {each.pid}" for each in actors if each.job_id in ids),
        *(f"{each.name}, process {each.worker_pid}" for each in tasks if each.job_id in ids),
    ]
