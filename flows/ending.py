"""A run that is under way, cancelled wherever it was started, and checked to be gone."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.finding import Found, find_run, server
from infra import stopping
from infra.runs import runs
from models.common.errors import ClusterError, ConfigError

if TYPE_CHECKING:
    from flows.operating import Seen

_WAIT_SECONDS = 90.0  # Prefect's own limit is 30 s, after which the worker kills
_LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Ended:
    """A run that was cancelled: whether it had begun, and what Ray still has of it (nothing, if all went well)."""

    had_begun: bool
    left: tuple[str, ...]


def cancel_run(run_name: str, tell: Callable[[str], None]) -> Ended:
    """Cancels the run and waits until it is over, and none of its workers is left.

    Raises ConfigError where the run is not under way, ClusterError where it does not end.
    """
    found = find_run(run_name)
    if not found.is_under_way:
        stopped = stopping.stop_run(run_name)
        if stopped.jobs:
            tell(f"{run_name}: its process is gone; stopped {', '.join(stopped.jobs)}, which went on without it")
            return Ended(had_begun=True, left=stopped.left)
        raise ConfigError(
            f"run '{run_name}' is not under way: {found.state()}\nfits: a run of 'orchard status'\n"
            f"read what it did: orchard logs {run_name}"
        )
    asked = _whole(found)
    if asked and (asked.is_deployed or not found.pid):
        if found.folder and not asked.is_deployed:
            found.folder.cancel()  # its process may live on another machine
        _cancel_on_server(asked, tell)
    else:
        _interrupt(found, tell)
    return Ended(found.folder is not None, _left(found, asked))


def _whole(found: Found) -> "Seen | None":
    """The flow run to cancel: the run's own, or the one that it is a part of, as of a retrain."""
    operating = server()
    root = found.folder.asked().root_flow_run if found.folder and found.pid else None
    return operating.read(root) if operating and root else found.seen


def _cancel_on_server(run: "Seen", tell: Callable[[str], None]) -> None:
    operating = server()
    assert operating is not None
    began, told = time.monotonic(), run.state
    run = operating.cancel(run)
    while True:
        if run.state != told:
            told = run.state
            tell(f"{run.run_name}: {told} after {time.monotonic() - began:.0f} s")
        if run.is_over:
            return
        if time.monotonic() - began > _WAIT_SECONDS:
            break
        time.sleep(_LOOK_SECONDS)
        run = operating.read(run.id)
    raise ClusterError(
        f"run '{run.run_name}' is still {run.state} after {_WAIT_SECONDS:.0f} s\n"
        "fits: a worker that ends it within 60 s\nsee whether its worker lives: orchard status; then repeat this"
    )


def _interrupt(found: Found, tell: Callable[[str], None]) -> None:
    """Ctrl-C from afar: the process stops its jobs and ends."""
    began, pid = time.monotonic(), found.pid
    if pid is not None:
        os.kill(pid, signal.SIGINT)
        tell(f"{found.run_name}: its process {pid} was asked to stop")
    while found.pid is not None:
        if time.monotonic() - began > _WAIT_SECONDS:
            raise ClusterError(
                f"process {pid} of run '{found.run_name}' has not ended within {_WAIT_SECONDS:.0f} s\n"
                f"fits: a few seconds\nend it: kill {pid}; checkpoints are kept"
            )
        time.sleep(_LOOK_SECONDS)
    tell(f"{found.run_name}: ended after {time.monotonic() - began:.0f} s")


def _left(found: Found, asked: "Seen | None") -> tuple[str, ...]:
    """What Ray still has of the run and of those that were parts of the same flow run, after stopping it once more."""
    parts = [each.key for each in runs() if asked and each.asked().root_flow_run == str(asked.id)]
    return tuple(left for key in {found.run_name, *parts} for left in stopping.stop_run(key).left)
