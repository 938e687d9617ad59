"""A small cluster on hosts of its own: Ray, an S3 server and Prefect, all of which can be killed."""

import secrets
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from infra.drill.hosts import Network, Sizes
from infra.drill.nodes import RAY_FOLDER, S3, Node, RayHead, RayWorker, ray_client_environment, wait_until
from infra.drill.prefect_nodes import Database, PrefectServer, PrefectWorker
from infra.local.state import write_private


@dataclass(frozen=True)
class Shape:
    """What the cluster has."""

    workers: int = 2
    slots: int = 1  # of each worker
    object_store_bytes: int = 80_000_000
    prefect: bool = False  # a server on PostgreSQL and a worker, each on a host of its own
    sizes: Sizes = field(default_factory=Sizes)


class DrillCluster:
    """The cluster, up and ready within the block; its logs, and what its clients need, stay in `folder`."""

    def __init__(self, folder: Path, shape: Shape | None = None) -> None:
        self.folder = folder
        self.shape = shape or Shape()
        self.network = Network(folder / "logs")
        self.token_file = folder / "ray-token"

    def __enter__(self) -> Self:
        self.network.__enter__()
        try:
            self._make()
            self._start()
        except BaseException:
            self.network.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.collect_logs()
        finally:
            self.network.__exit__(kind, error, trace)

    @property
    def ray_address(self) -> str:
        return self.head.address

    @property
    def nodes(self) -> list[Node]:
        """In the order in which they start."""
        prefect = [self.database, self.prefect, self.flows] if self.shape.prefect else []
        return [self.s3, self.head, *self.workers, *prefect]

    def worker_at(self, address: str) -> RayWorker:
        """The worker with this address, as Ray names it."""
        return next(each for each in self.workers if each.host.address == address)

    def client_environment(self) -> dict[str, str]:
        """What a process on this machine needs to run stages there: addresses, the token's file, keys, storage."""
        prefect = self.prefect.client_environment() if self.shape.prefect else {}
        return {**self._environment(str(self.token_file)), **prefect}

    def _environment(self, token_file: str) -> dict[str, str]:
        return {
            "RAY_ADDRESS": self.ray_address,
            **ray_client_environment(token_file),
            **self.s3.client_environment(),
            "ORCHARD_STORAGE": f"s3://{self.s3.bucket}/runs",
        }

    def wait_dead(self, worker: RayWorker, seconds: float) -> float:
        """How long Ray took to notice that the worker's host is gone; raises ClusterError where it does not."""
        return self._wait_state(worker, "DEAD", seconds)

    def wait_alive(self, worker: RayWorker, seconds: float) -> float:
        return self._wait_state(worker, "ALIVE", seconds)

    def collect_logs(self) -> Path:
        """Ray's own logs of every host that is up, beside those of the programs; where they all are."""
        for node in self.nodes:
            if node.host.alive():
                for logs in node.host.path(RAY_FOLDER).glob("session_2*/logs"):
                    kept = self.network.logs / node.host.name
                    shutil.copytree(logs, kept, dirs_exist_ok=True, ignore_dangling_symlinks=True)
        return self.network.logs

    def _make(self) -> None:
        token = secrets.token_hex(32)
        self.token_file.unlink(missing_ok=True)
        write_private(self.token_file, token)
        shape = self.shape
        self.s3 = S3(self.network.host("s3", shape.sizes))
        self.head = RayHead(
            self.network.host("head", shape.sizes), token, shape.object_store_bytes, self.s3.client_environment()
        )
        self.workers = [
            RayWorker(
                self.network.host(f"worker-{number}", shape.sizes), self.head, shape.slots, shape.object_store_bytes
            )
            for number in range(1, shape.workers + 1)
        ]
        if shape.prefect:
            self.database = Database(self.network.host("database", shape.sizes))
            self.prefect = PrefectServer(self.network.host("prefect", shape.sizes), self.database)
            self.flows = PrefectWorker(self.network.host("flows", shape.sizes), self.prefect, self._environment, token)

    def _start(self) -> None:
        self.s3.start()
        self.head.start()
        self.head.wait_listening()  # its dashboard takes three times as long, and no worker needs it
        for worker in self.workers:
            worker.start()
        for node in (self.s3, self.head, *self.workers):
            node.wait_ready()
        if self.shape.prefect:
            for node in (self.database, self.prefect, self.flows):  # each needs the one before
                node.start()
                node.wait_ready()

    def _wait_state(self, worker: RayWorker, state: str, seconds: float) -> float:
        return wait_until(
            lambda: self.head.states().get(worker.host.address) == state,
            seconds,
            lambda: f"Ray does not call {worker.host.name} {state}; it says {self.head.states()}",
        )
