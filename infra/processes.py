"""Processes that outlive those who started them: known again after a restart, and ended with all that they started."""

import os
import signal
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

import psutil

_KILL_SECONDS = 5
_ASIDE = 10  # of 19: a thread so nice has a tenth of the time of one that is not, where both want the same core


@dataclass(frozen=True)
class Identity:
    """A process, and when it began: a number alone may belong to another one by now."""

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> Self:
        return cls(pid, psutil.Process(pid).create_time())

    def process(self) -> psutil.Process | None:
        """The process, or None where it has ended."""
        try:
            process = psutil.Process(self.pid)
            lives = process.create_time() == self.created and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return process if lives else None

    def alive(self) -> bool:
        return self.process() is not None


def tree(root: psutil.Process) -> list[psutil.Process]:
    """The process and all below it, in whatever session they are."""
    try:
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def end(processes: Iterable[psutil.Process], patience: float) -> None:
    """Asks all of them to end, and kills those that have not within `patience` seconds; 0 kills at once."""
    left = list(processes)
    if patience > 0:
        _send(left, signal.SIGTERM)
        _, left = psutil.wait_procs(left, timeout=patience)
    _send(left, signal.SIGKILL)
    psutil.wait_procs(left, timeout=_KILL_SECONDS)


def _send(processes: list[psutil.Process], sign: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(sign)


def step_aside() -> None:
    """Lets everything else go before this thread, and before those that it starts."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _ASIDE)
