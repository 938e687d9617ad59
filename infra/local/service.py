"""A service: a program that is started, waited for, started again when it dies, and stopped with all below it."""

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from infra import processes
from infra.local import state
from infra.processes import Identity
from infra.settings import ROOT, settings
from models.common.errors import ClusterError

_POLL_SECONDS = 0.2
_LOG_LINES = 12
_LONGEST_WAIT = 30.0
_STEADY_SECONDS = 60.0  # a service that lived so long is started again at once


@dataclass(frozen=True)
class Program:
    """What is run, and when it counts as up."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]
    answers: Callable[[float], bool]  # given when it was started, in seconds since 1970
    start_seconds: float = 90.0
    stop_seconds: float = 10.0


class Service:
    """One running program. Its process is kept in a file, so that the next `orchard up` finds what this one left."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.process: subprocess.Popen[bytes] | None = None
        self._deaths = 0
        self._began = self._started = 0.0

    @property
    def log(self) -> Path:
        return _folder() / f"{self.program.name}.log"

    def start(self) -> None:
        """Starts it, in a session of its own: Ctrl-C in a terminal is for `orchard up` alone."""
        self._began, self._started = time.monotonic(), time.time()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.program.command,
                cwd=ROOT,
                env=self.program.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        state.write_private(_file(self.program.name), json.dumps(asdict(Identity.of(self.process.pid))))

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def wait(self, leave: Callable[[], bool]) -> None:
        """Returns once it answers, or `leave` says so; raises ClusterError, with the end of its log, if it does not."""
        deadline = time.monotonic() + self.program.start_seconds
        while time.monotonic() < deadline and self.alive():
            if leave() or self.program.answers(self._started):
                return
            time.sleep(_POLL_SECONDS)
        code = self.process.poll() if self.process else None
        how = "does not answer" if code is None else f"ended with code {code}"
        raise ClusterError(f"the {self.program.name} {how}\n{self.end_of_log()}\nthe whole log is {self.log}")

    def pause(self) -> float:
        """How long to wait before it is started again: longer each time that it dies young."""
        self._deaths = 0 if time.monotonic() - self._began > _STEADY_SECONDS else self._deaths + 1
        return min(2.0**self._deaths - 1, _LONGEST_WAIT)

    def end_of_log(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:])

    def stop(self) -> None:
        """Ends it, and all that it started."""
        if self.process is not None:
            if self.alive():
                processes.end(processes.tree(psutil.Process(self.process.pid)), self.program.stop_seconds)
            self.process.wait()
        _file(self.program.name).unlink(missing_ok=True)


def end_leftovers() -> list[str]:
    """Ends the services that an earlier `orchard up` left behind when it was killed; returns their names.

    At once, without a word to them: a worker that is asked to end would end its runs as crashed.
    """
    ended = []
    for file in sorted(_folder().glob("*.process")):
        try:
            left = Identity(**json.loads(file.read_text())).process()
        except (ValueError, TypeError):
            left = None
        if left:
            processes.end(processes.tree(left), patience=0)
            ended.append(file.stem)
        file.unlink(missing_ok=True)
    return ended


def _file(name: str) -> Path:
    return _folder() / f"{name}.process"


def _folder() -> Path:
    return state.folder(settings().home)
