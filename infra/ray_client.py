"""The Ray that runs the jobs, from the outside: a client of it, and what it has: nodes, actors, processes."""

import logging
import socket
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infra import ray_head
from infra.clusters import Cluster
from infra.settings import settings, use_ray_token
from models.common.errors import ClusterError

_MOST_ENTRIES = 10_000  # of Ray's state, and the most that it gives
_ANSWER_SECONDS = 5
_QUESTION_SECONDS = 60


def connect(cluster: Cluster) -> Any:
    """A client of the Ray that runs the jobs; the local one is started where none is named."""
    if not settings().ray_address:
        head = ray_head.start_ahead(_local_slots(cluster))
        ray_head.wait_until_ready(head)
    return client()


def start_ahead(cluster: Cluster) -> None:
    """Begins starting the local Ray, where no running one is named, so that it is up when the first stage needs it."""
    if not settings().ray_address:
        ray_head.start_ahead(_local_slots(cluster))


def client() -> Any:
    """A client of the Ray that is named, or of this machine's; raises ClusterError where it cannot be asked."""
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

    # It tells of every upload, at a level that its import sets.
    logging.getLogger("ray.dashboard.modules.dashboard_sdk").setLevel(logging.WARNING)

    class Impatient(JobSubmissionClient):
        """Ray's own waits for ever for a head that takes a question and is gone before it answers."""

        def _do_request(self, *arguments: Any, **named: Any) -> Any:
            return super()._do_request(*arguments, **{"timeout": _QUESTION_SECONDS, **named})

    logging.getLogger("ray").setLevel(logging.WARNING)
    try:
        parts = urllib.parse.urlsplit(address)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname, port), timeout=_ANSWER_SECONDS).close()
        client = Impatient(address)
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


@contextmanager
def answering(what: str) -> Iterator[None]:
    """Raises ClusterError where Ray does not answer within the block."""
    import requests
    from ray.util.state.exception import RayStateApiException

    try:
        yield
    except (requests.RequestException, RayStateApiException, RuntimeError, ConnectionError) as error:
        raise ClusterError(f"Ray lost {what}: {error}\nrun again with the same --run-key to go on") from None


def dashboard() -> str | None:
    """The address of Ray's dashboard, or None where no Ray is up."""
    head = ray_head.current()
    return settings().ray_address or (head.address if head else None)


def asks_for_token(address: str) -> bool:
    """Whether Ray at this address refuses a stranger."""
    import requests

    return requests.get(f"{address}/api/jobs/", timeout=_ANSWER_SECONDS).status_code in (401, 403)


def _local_slots(cluster: Cluster) -> int:
    import psutil

    return max(psutil.cpu_count() or 1, 2 if not cluster.gpus_per_worker else 1)


def this_machine(cluster: Cluster) -> dict[str, float]:
    """What a Ray that is started here would have."""
    return {"CPU": _local_slots(cluster), "GPU": local_gpus()}


def local_gpus() -> int:
    """How many GPUs the driver of this machine knows."""
    gpus = Path("/proc/driver/nvidia/gpus")
    return len(list(gpus.iterdir())) if gpus.exists() else 0


def nodes(client: Any) -> list[dict[str, float]]:
    """The resources of each node that is alive; raises ClusterError where Ray does not tell."""
    from ray.util.state import list_nodes

    with answering("its list of nodes"):
        found: list[Any] = list_nodes(address=client.get_address())
    return [node.resources_total for node in found if node.state == "ALIVE"]


def living_actors(client: Any) -> list[Any]:
    from ray.util.state import list_actors

    return _all_of(list_actors, client, ("state", "!=", "DEAD"))


def living_drivers(client: Any) -> list[Any]:
    from ray.util.state import list_workers

    return _all_of(list_workers, client, ("worker_type", "=", "DRIVER"), ("is_alive", "=", True))


def running_tasks(client: Any) -> list[Any]:
    """Those that are no method of an actor."""
    from ray.util.state import list_tasks

    return _all_of(list_tasks, client, ("state", "=", "RUNNING"), ("type", "=", "NORMAL_TASK"), detail=True)


def supervisor(job: str) -> str:
    """The name of the actor by which Ray runs a job, which ends a little after it."""
    return f"_ray_internal_job_actor_{job}"


def _all_of(question: Any, client: Any, *filters: tuple[str, str, Any], detail: bool = False) -> list[Any]:
    """All entries of Ray's state that pass the filters; it gives 100 where nobody asks for more."""
    return question(
        address=client.get_address(),
        filters=list(filters),
        limit=_MOST_ENTRIES,
        detail=detail,
        raise_on_missing_output=False,
    )
