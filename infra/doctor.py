"""What a run needs of this machine and its addresses, checked one by one; nothing is started."""

import shutil
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

from infra import artifacts, launch, lineage, preflight, ray_client
from infra.clusters import LAPTOP
from infra.lineage import LOCK
from infra.local.prefect_api import PrefectApi
from infra.settings import settings
from models.common.errors import ClusterError

_PACKAGES = ("torch", "ray", "deepspeed", "prefect", "dvc", "gto", "botocore", "pydantic")
_ANSWER_SECONDS = 5
_ROOMY_BYTES = 5 << 30


@dataclass(frozen=True)
class Check:
    """One line of the doctor's: `fail` means that a run would fail."""

    name: str
    level: Literal["ok", "warn", "fail"]
    text: str


def examine() -> Iterator[Check]:
    """All checks, in the order in which a run would meet them."""
    yield from _versions()
    yield _machine()
    yield _disk()
    yield _ports()
    yield _ray()
    yield _prefect()
    for name, reachable, text in artifacts.check_access():
        yield Check(name, "ok" if reachable else "fail", text)


def require_prefect() -> None:
    """Raises ClusterError where a Prefect server is named and does not answer, or refuses our login."""
    address = settings().prefect_api
    if address and not _answers(f"{address}/health"):
        raise ClusterError(
            f"the Prefect server at {address} does not answer\n"
            "fits: the address of its API, as in http://HOST:4200/api\nunset PREFECT_API_URL to use a temporary server"
        )
    login = settings().prefect_auth_string
    if address and login and not PrefectApi(address, login).takes_login():
        raise ClusterError(
            f"the Prefect server at {address} refuses our login\n"
            "fits: the auth string that it was started with, as in orchard:WORD\n"
            "set PREFECT_API_AUTH_STRING; unset both variables to use the server of orchard up"
        )


def _versions() -> Iterator[Check]:
    locked = _locked_versions()
    for package in _PACKAGES:
        try:
            found = metadata.version(package).partition("+")[0]
        except metadata.PackageNotFoundError:
            yield Check(package, "fail", "is not installed; install requirements.lock")
            continue
        wanted = locked.get(package, found)
        text = found if found == wanted else f"{found}; the lock has {wanted}, with which everything was tested"
        yield Check(package, "ok" if found == wanted else "warn", text)


def _locked_versions() -> dict[str, str]:
    lines = LOCK.read_text().splitlines() if LOCK.exists() else []
    return dict(line.split()[0].split("==", 1) for line in lines if "==" in line and not line.startswith("#"))


def _machine() -> Check:
    hardware = lineage.hardware()
    gpus = ray_client.local_gpus()
    text = f"{hardware['cores']} cores, {hardware['memory_gib']} GiB, {gpus or 'no'} GPUs, Python {hardware['python']}"
    return Check("machine", "ok", text)


def _disk() -> Check:
    home = settings().home
    if refused := preflight.problem(preflight.require_space, home):
        return Check("disk", "fail", refused)
    free = shutil.disk_usage(home).free
    return Check("disk", "ok" if free > _ROOMY_BYTES else "warn", f"{home} is writable, {free / 2**30:.1f} GiB free")


def _ports() -> Check:
    """Whether this process may listen, which the local Ray and the temporary Prefect server do."""
    try:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
    except OSError as error:
        return Check(
            "ports", "fail", f"127.0.0.1 takes no listener: {error.strerror}\na firewall or sandbox forbids it"
        )
    return Check("ports", "ok", "127.0.0.1 takes listeners; free ports are found when they are needed")


def _ray() -> Check:
    if refused := preflight.problem(launch.require_feasible, LAPTOP):
        return Check("ray", "fail", refused)
    address = settings().ray_address
    if not address:
        return Check("ray", "ok", "local, started by each run; auth on")
    if ray_client.asks_for_token(address):
        return Check("ray", "ok", f"{address}, auth on")
    return Check("ray", "warn", f"{address}, auth off: whoever reaches it can run code there")


def _prefect() -> Check:
    address = settings().prefect_api
    if not address:
        return Check("prefect", "ok", "temporary, started by each run on 127.0.0.1; set PREFECT_API_URL for a server")
    if refused := preflight.problem(require_prefect):
        return Check("prefect", "fail", refused)
    guarded = not _answers(f"{address}/admin/version")
    text = f"{address}, auth {'on' if guarded else 'off: whoever reaches it can start flows'}"
    return Check("prefect", "ok" if guarded else "warn", text)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=_ANSWER_SECONDS) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError, ValueError):
        return False
