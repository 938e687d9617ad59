"""Memory is taken from a process, until the kernel ends it for want of it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from models.common.errors import ClusterError

_ROOT = Path("/sys/fs/cgroup")
_LIMITS = {_ROOT / "memory": "memory.limit_in_bytes", _ROOT: "memory.max"}  # cgroups of version 1, and 2
_LEFT_BYTES = 1 << 20
_GONE_SECONDS = 5.0


@contextmanager
def starved(process: psutil.Process) -> Iterator[None]:
    """Within the block the process gets no memory beyond what it has: what it asks for next is its end.

    Raises ClusterError where the kernel's memory controller cannot be had.
    """
    above, limit = _controller()
    group = above / f"orchard-drill-{process.pid}"
    group.mkdir()
    try:
        (group / limit).write_text(str(_LEFT_BYTES))
        if (swap := group / "memory.swap.max").exists():  # else version 2 would swap it out
            swap.write_text("0")
        (group / "cgroup.procs").write_text(str(process.pid))
        yield
    finally:
        _remove(group)


def _controller() -> tuple[Path, str]:
    for above, limit in _LIMITS.items():
        controllers = above / "cgroup.controllers"
        if controllers.exists() and "memory" in controllers.read_text().split():
            (above / "cgroup.subtree_control").write_text("+memory")
            return above, limit
        if (above / limit).exists():
            return above, limit
    raise ClusterError(f"no process can be starved of memory\nfits: cgroups with the memory controller at {_ROOT}")


def _remove(group: Path) -> None:
    """Once nothing runs in it: until then the kernel keeps it."""
    until = time.monotonic() + _GONE_SECONDS
    while time.monotonic() < until:
        with suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.1)
