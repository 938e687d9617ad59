"""A program on a host, as the machine that started it sees it."""

import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil

from infra import processes
from models.common.errors import ClusterError

_APPEARS_SECONDS = 10
_LOG_LINES = 12


class Process:
    """One program on one host. `pid` is its number on the machine."""

    def __init__(self, name: str, command: list[str], env: dict[str, str], log: Path, words: str) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as stream:
            self._entry = subprocess.Popen(
                command, env=env, stdin=subprocess.PIPE, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
            )
        assert self._entry.stdin
        with suppress(BrokenPipeError), self._entry.stdin:
            self._entry.stdin.write(words.encode())
        self._inner = self._find()

    @property
    def pid(self) -> int:
        return self._inner.pid

    def alive(self) -> bool:
        return self._entry.poll() is None and self._inner.is_running()

    def wait(self, seconds: float) -> int:
        """Its exit code; raises ClusterError where it has not ended by then."""
        try:
            return self._entry.wait(seconds)
        except subprocess.TimeoutExpired:
            raise ClusterError(f"{self.name} has not ended in {seconds:.0f} s\n{self.end_of_log()}") from None

    def kill(self) -> None:
        """SIGKILL, for this one process and not for those that it started."""
        self._send(signal.SIGKILL)
        self._entry.wait()

    def end(self, patience: float = 5) -> None:
        """Asks it to end, with all that it started, and kills what has not."""
        if self.alive():
            processes.end(processes.tree(self._inner), patience)
        self._entry.wait()

    def freeze(self) -> None:
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        self._send(signal.SIGCONT)

    def end_of_log(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:])

    def _send(self, sign: signal.Signals) -> None:
        with suppress(psutil.NoSuchProcess):
            self._inner.send_signal(sign)

    def _find(self) -> psutil.Process:
        """The program itself, which is the only child of the one that entered the host."""
        entry = psutil.Process(self._entry.pid)
        deadline = time.monotonic() + _APPEARS_SECONDS
        while time.monotonic() < deadline and self._entry.poll() is None:
            with suppress(psutil.NoSuchProcess):
                if children := entry.children():
                    return children[0]
            time.sleep(0.005)
        return entry  # it has ended already, and its code is known
