"""Which `orchard up` runs in an ORCHARD_HOME, where its services listen, and what logs in to them."""

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from infra.processes import Identity
from models.common.errors import ClusterError

USER = "orchard"


@dataclass(frozen=True)
class Services:
    """What `orchard up` serves, all of it for this machine only."""

    ui: str  # "http://127.0.0.1:4200"
    ray: str  # the dashboard's address, which is the one for jobs too
    reports: str | None
    s3: str | None
    pid: int  # of `orchard up` itself
    created: float  # when that process began

    @property
    def api(self) -> str:
        return f"{self.ui}/api"


def running(home: Path) -> Services | None:
    """The `orchard up` that runs in this ORCHARD_HOME and whose services have all answered, or None."""
    try:
        services = Services(**json.loads((_place(home) / "up.json").read_text()))
    except (OSError, ValueError, TypeError):  # there is none, or no home that can be read
        return None
    return services if Identity(services.pid, services.created).alive() else None


def tell(home: Path, services: Services | None) -> None:
    """Lets other processes know where the services are, or that there are none."""
    file = folder(home) / "up.json"
    if services is None:
        file.unlink(missing_ok=True)
    else:
        write_private(file, json.dumps(asdict(services)))


@contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Holds the place of the one `orchard up` of this ORCHARD_HOME; raises ClusterError where another has it."""
    with (folder(home) / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise ClusterError(
                f"orchard up runs already, as process {lock.read().strip() or '?'}, with ORCHARD_HOME {home}\n"
                "fits: one for each ORCHARD_HOME\n'orchard status' shows it; 'orchard down' ends it"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def holder(home: Path) -> int | None:
    """The process that is `orchard up` here, be its services ready or not; None where there is none."""
    with (folder(home) / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            return int(lock.read())
    return None


def auth_string(home: Path) -> str:
    """What logs in to the Prefect server, "orchard:..."; made at first use."""
    return secret(home, "auth", before=f"{USER}:")


def secret(home: Path, name: str, before: str = "") -> str:
    """The random word of this name; made at first use, readable by its owner only."""
    file = _place(home) / name
    if not file.exists():
        write_private(file, before + secrets.token_urlsafe(24))
    return file.read_text()


def write_private(file: Path, text: str) -> None:
    """Replaces the file at once; only its owner can read it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    draft.touch(mode=0o600)
    draft.write_text(text)
    draft.rename(file)


def folder(home: Path) -> Path:
    """Where `orchard up` keeps what it knows, and its services' logs."""
    place = _place(home)
    place.mkdir(parents=True, exist_ok=True)
    return place


def _place(home: Path) -> Path:
    return home / "up"
