"""Prefect on hosts of its own: a PostgreSQL, the server that keeps its state there, and a worker that runs flows."""

import base64
import json
import pwd
import secrets
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from infra.drill.hosts import DISK, HOME, SCRATCH, Host
from infra.drill.nodes import Node, ask
from infra.drill.process import Process
from models.common.errors import ClusterError

POOL = "drill"
_USER = "prefect"
_INSTALLED = "/usr/lib/postgresql"  # of Debian: a folder for each version


@lru_cache
def missing_database() -> str | None:
    """What this machine lacks for a PostgreSQL, and what to do about it; None where nothing does."""
    if _programs() is None:
        return f"there is no PostgreSQL in {_INSTALLED}\non Debian: apt-get install postgresql"
    return None


class Database(Node):
    """A PostgreSQL on the host's disk, which lets nobody in without the password."""

    port = 5432

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        if reason := missing_database():
            raise ClusterError(reason)
        self._password = secrets.token_hex(20)
        names = {each.pw_name for each in pwd.getpwall()}
        self._user = "postgres" if "postgres" in names else "nobody"  # PostgreSQL refuses to be root

    @property
    def address(self) -> str:
        return f"postgresql+asyncpg://{_USER}:{self._password}@{self.host.address}:{self.port}/postgres"

    def launch(self) -> list[Process]:
        data = f"{DISK}/postgres"
        if not self.host.path(f"{data}/PG_VERSION").exists():
            self._make(data)
        options = ["-D", data, "-h", self.host.address, "-p", str(self.port), "-k", "/tmp"]  # noqa: S108 (the host's)
        return [self.host.start("postgres", [self._program("postgres"), *options], user=self._user)]

    def answers(self) -> bool:
        try:
            self.host.run([self._program("pg_isready"), "-h", self.host.address, "-p", str(self.port)])
        except ClusterError:
            return False
        return True

    def _make(self, data: str) -> None:
        password = self.host.write_private("/tmp/password", self._password)  # noqa: S108 (the host's)
        self.host.run(["install", "-d", "-m", "700", "-o", self._user, data])
        self.host.run(["chown", self._user, password])
        options = ["-U", _USER, f"--pwfile={password}", "--auth=scram-sha-256", "--no-sync"]
        self.host.run([self._program("initdb"), "-D", data, *options], user=self._user)
        with self.host.path(f"{data}/pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {self.host.address}/24 scram-sha-256\n")

    def _program(self, name: str) -> str:
        return f"{_programs()}/{name}"


class PrefectServer(Node):
    """A Prefect server that answers nobody without the password."""

    port = 4200
    start_seconds = 180.0  # the first start makes the tables

    def __init__(self, host: Host, database: Database) -> None:
        super().__init__(host)
        self.database = database
        self.auth_string = f"drill:{secrets.token_hex(20)}"

    @property
    def api(self) -> str:
        return f"http://{self.host.address}:{self.port}/api"

    def client_environment(self) -> dict[str, str]:
        return {"PREFECT_API_URL": self.api, "PREFECT_API_AUTH_STRING": self.auth_string, **_QUIET}

    def launch(self) -> list[Process]:
        environment = {
            **_QUIET,
            "PREFECT_HOME": f"{SCRATCH}/prefect",
            "PREFECT_SERVER_API_HOST": self.host.address,
            "PREFECT_SERVER_API_PORT": str(self.port),
            "PREFECT_SERVER_API_AUTH_STRING": self.auth_string,
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": self.database.address,
            "PREFECT_SERVER_UI_ENABLED": "false",  # it would be unpacked among the machine's files
        }
        return [self.host.start("server", [sys.executable, "-m", "prefect", "server", "start"], environment)]

    def answers(self) -> bool:
        return ask(f"{self.api}/health", self.login()) is True

    def login(self) -> dict[str, str]:
        """The header of who asks the API."""
        return {"Authorization": f"Basic {base64.b64encode(self.auth_string.encode()).decode()}"}


class PrefectWorker(Node):
    """A worker that runs flows as processes of its host, in an ORCHARD_HOME on the host's disk.

    `environment` is what its flows find: the addresses of Ray and S3. `token` is Ray's.
    """

    orchard_home = f"{DISK}/orchard"  # on the host

    def __init__(
        self, host: Host, server: PrefectServer, environment: Callable[[str], Mapping[str, str]], token: str
    ) -> None:
        super().__init__(host)
        self.server = server
        self._environment, self._token = environment, token
        self._started = 0.0

    @property
    def home(self) -> Path:
        """Its ORCHARD_HOME, as the machine reaches it."""
        return self.host.path(self.orchard_home)

    def launch(self) -> list[Process]:
        self._started = time.time()
        token_file = self.host.write_private(f"{HOME}/.ray/auth_token", self._token)
        environment = {
            **self._environment(token_file),
            **self.server.client_environment(),
            "ORCHARD_HOME": self.orchard_home,
            "PREFECT_HOME": f"{SCRATCH}/prefect",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_WORKER_PREFETCH_SECONDS": "2",
            "PREFECT_WORKER_ENABLE_CANCELLATION": "true",
            "PREFECT_WORKER_HEARTBEAT_SECONDS": "2",
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        }
        options = ["--pool", POOL, "--type", "process", "--name", self.host.name, "--install-policy", "never"]
        command = [sys.executable, "-m", "prefect", "worker", "start", *options]
        return [self.host.start("worker", command, environment)]

    def answers(self) -> bool:
        """Whether the server has heard from it since it was started."""
        body = json.dumps({}).encode()
        headers = {**self.server.login(), "Content-Type": "application/json"}
        address = f"{self.server.api}/work_pools/{POOL}/workers/filter"
        try:
            with urllib.request.urlopen(urllib.request.Request(address, body, headers), timeout=5) as answer:
                workers = json.load(answer)
        except OSError:
            return False
        heard = [each["last_heartbeat_time"] for each in workers if each["name"] == self.host.name]
        return any(datetime.fromisoformat(each).timestamp() > self._started for each in heard)


_QUIET = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}


def _programs() -> Path | None:
    """The folder of the newest PostgreSQL."""
    found = [each.parent for each in Path(_INSTALLED).glob("*/bin/initdb")]
    return max(found, key=lambda each: float(each.parent.name), default=None)
