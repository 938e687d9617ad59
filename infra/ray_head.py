"""The Ray of this machine: started on the spot with a token and a dashboard, shared by runs, stopped by the last."""

import atexit
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from infra import processes
from infra.local.state import write_private
from infra.processes import Identity
from infra.settings import ROOT, ray_environment, settings
from models.common.errors import ClusterError

_START_SECONDS = 90
_STOP_SECONDS = 3
_OBJECT_STORE_BYTES = 500_000_000  # shards' results pass through it; nothing larger does
_LONGEST_TEMP_DIR = 40  # Ray puts sockets below it, and a socket's path has at most 107 bytes


@dataclass(frozen=True)
class Head:
    """A local Ray: the leader of its process group, when that began, and where its dashboard listens."""

    pid: int
    created: float
    address: str

    def leader(self) -> psutil.Process | None:
        return Identity(self.pid, self.created).process()

    def alive(self) -> bool:
        return self.leader() is not None


def start_ahead(slots: int) -> Head:
    """Begins starting the local Ray, or joins the one that runs; returns at once. This process is now a user of it."""
    with _locked():
        _mark_user()
        head = _read()
        if head is None or not head.alive():
            head = _spawn(slots)
        return head


def wait_until_ready(head: Head) -> None:
    """Returns once the dashboard and a node answer; raises ClusterError, with the end of the log, if they do not."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and head.alive():
        if _has_node(head.address):
            return
        time.sleep(0.1)
    log = _folder() / "head.log"
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-8:]) if log.exists() else ""
    raise ClusterError(
        f"the local Ray did not answer at {head.address} within {_START_SECONDS} s\n{tail}\n"
        f"the whole log is {log}; 'orchard doctor' checks ports and disk"
    )


def current() -> Head | None:
    """The local Ray that runs now, or None."""
    head = _read()
    return head if head and head.alive() else None


def release() -> list[int]:
    """This process needs the local Ray no longer; the last user stops it. Returns the other users."""
    mark = _marks() / str(os.getpid())
    if not mark.exists():
        return []
    with _locked():
        mark.unlink(missing_ok=True)
        if not (others := _living_users()):
            _stop()
        return others


def users() -> list[int]:
    """The processes that use the local Ray now."""
    with _locked():
        return _living_users()


def stop_unused() -> bool:
    """Stops the local Ray where all of its users were killed; says whether there was one to stop."""
    if current() is None:
        return False
    with _locked():
        unused = not _living_users()
        if unused:
            _stop()
        return unused


def token_file() -> Path:
    """The token without which the local Ray answers nothing; made at first use, readable by its owner only."""
    file = _folder() / "token"
    if not file.exists():
        write_private(file, secrets.token_hex(32))
    return file


def without_ray_clients(parameters: Any, head: bool) -> None:
    """Ray's own hook on starting: no server for `ray://` addresses, a process that nobody here asks anything.

    Its option of the command line takes no word for "none".
    """
    parameters.ray_client_server_port = None


def _spawn(slots: int) -> Head:
    address_port, agent_port = _free_ports(2)
    log = (_folder() / "head.log").open("w")
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"),
        *("--node-ip-address", "127.0.0.1", "--port", "0", "--dashboard-host", "127.0.0.1"),
        *("--dashboard-port", str(address_port), "--dashboard-agent-listen-port", str(agent_port)),
        # A fixed range of worker ports would forbid the dashboard a port in it.
        *("--min-worker-port", "0", "--max-worker-port", "0"),
        "--no-monitor",  # no machines come and go here
        *("--num-cpus", str(slots), "--object-store-memory", str(_OBJECT_STORE_BYTES)),
        *("--temp-dir", str(_temp_dir())),
    ]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=ray_environment(token_file()),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # it outlives a flow that is killed, and is stopped as a group
    )
    head = Head(process.pid, psutil.Process(process.pid).create_time(), f"http://127.0.0.1:{address_port}")
    (_folder() / "head.json").write_text(json.dumps(asdict(head)))
    return head


def _stop() -> None:
    head = _read()
    if head and (leader := head.leader()):
        processes.end(processes.tree(leader), patience=_STOP_SECONDS)  # jobs are in sessions of their own
    (_folder() / "head.json").unlink(missing_ok=True)
    shutil.rmtree(_folder() / "tmp", ignore_errors=True)


def _has_node(address: str) -> bool:
    request = urllib.request.Request(
        f"{address}/api/v0/nodes", headers={"Authorization": f"Bearer {token_file().read_text()}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.load(answer)["data"]["result"]["total"] > 0
    except (urllib.error.URLError, OSError, ValueError, KeyError, TypeError):
        return False


def _temp_dir() -> Path:
    """Where Ray keeps its session: in the state folder, through a short link where the path would be too long."""
    folder = _folder() / "tmp"
    folder.mkdir(parents=True, exist_ok=True)
    if len(str(folder)) <= _LONGEST_TEMP_DIR:
        return folder
    link = Path(tempfile.gettempdir()) / f"orchard-{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"
    with suppress(FileExistsError):
        link.symlink_to(folder, target_is_directory=True)
    # Everybody can write there: a link of another user's would let Ray work in a folder of theirs.
    if not link.is_symlink() or link.lstat().st_uid != os.getuid() or link.readlink() != folder:
        raise ClusterError(
            f"{link} is not our own link to {folder}, which Ray needs\n"
            f"fits: an ORCHARD_HOME of at most {_LONGEST_TEMP_DIR - len('/ray/tmp')} letters, which needs no link\n"
            "remove it, or set ORCHARD_HOME to such a path"
        )
    return link


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _folder() -> Path:
    return settings().home / "ray"


def _marks() -> Path:
    return _folder() / "users"


def _mark_user() -> None:
    mark = _marks() / str(os.getpid())
    if not mark.exists():
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text(str(psutil.Process().create_time()))
        atexit.register(release)


def _living_users() -> list[int]:
    """The processes that use the head; marks of dead ones are removed."""
    living = []
    for mark in _marks().glob("*"):
        with suppress(ValueError):
            if Identity(int(mark.name), float(mark.read_text())).alive():
                living.append(int(mark.name))
                continue
        mark.unlink(missing_ok=True)
    return living


def _read() -> Head | None:
    try:
        return Head(**json.loads((_folder() / "head.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


@contextmanager
def _locked() -> Iterator[None]:
    _folder().mkdir(parents=True, exist_ok=True)
    with (_folder() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
