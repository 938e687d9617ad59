"""Linux namespaces that live as long as the process which made them, whichever way that ends."""

import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import psutil

from infra.processes import Identity
from models.common.errors import ClusterError

_MARK = "orchard-drill"
_LAST_MILE_SECONDS = 20

# The first process of the namespaces ends when the pipe from its owner closes, and the kernel then ends all in them:
# a killed drill leaves nothing. It reaps what is orphaned there, as the first process has to.
_HOLD = """
exec 3<&0
cat <&3 >/dev/null &
echo ready
wait $!
"""


class Namespaces:
    """Namespaces of these kinds, prepared by `script` (of sh), and held by its process."""

    def __init__(
        self, kinds: Sequence[str], script: str, arguments: Sequence[str] = (), within: "Namespaces | None" = None
    ) -> None:
        owner = Identity.of(psutil.Process().pid)
        self.mark = f"{_MARK}:{owner.pid}:{owner.created}"
        self._holder = subprocess.Popen(
            [
                *(within.enter("--mount") if within else ()),
                *("unshare", *kinds, "--pid", "--mount-proc", "--fork", "--kill-child"),
                *("sh", "-ec", script + _HOLD, self.mark, *arguments),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            start_new_session=True,  # Ctrl-C is for the drill alone, which then ends them in its order
        )
        if _stream(self._holder.stdout).readline().strip() != "ready":
            self._holder.kill()
            said = _stream(self._holder.stderr).read().strip()
            self.end()
            raise ClusterError(f"a host cannot be set up on this machine\n{said}\nrun the drill as root of the machine")
        self.first, self._listener = psutil.Process(self._holder.pid).children(recursive=True)

    @property
    def pid(self) -> int:
        """The number of the first process, as the machine knows it."""
        return self.first.pid

    def enter(self, *kinds: str) -> list[str]:
        """What runs a command in these of the namespaces; in all of them where none is named."""
        return ["nsenter", f"--target={self.pid}", *(kinds or ("--net", "--mount", "--pid", "--uts", "--ipc"))]

    def alive(self) -> bool:
        return self._holder.poll() is None

    def processes(self) -> list[psutil.Process]:
        """All that lives in them, but what holds them."""
        own = _space(self.pid) if self.alive() else None
        holding = {self.first.pid, self._listener.pid}
        return [each for each in psutil.process_iter() if own and each.pid not in holding and _space(each.pid) == own]

    def end(self) -> None:
        """SIGKILL for everything in them; returns once none of it is left."""
        if self.alive():
            with suppress(psutil.NoSuchProcess):
                self.first.kill()  # its end is not seen before that of all others in its namespace
        self._holder.wait(_LAST_MILE_SECONDS)
        for stream in (self._holder.stdin, self._holder.stdout, self._holder.stderr):
            _stream(stream).close()


def sweep() -> int:
    """Ends what earlier owners left that were killed while a child of theirs kept the pipe; how many there were."""
    swept = 0
    for process in psutil.process_iter(["cmdline"]):
        for argument in process.info["cmdline"] or ():
            if argument.startswith(f"{_MARK}:") and not _owner(argument).alive():
                with suppress(psutil.NoSuchProcess):
                    process.kill()
                    swept += 1
    return swept


def _owner(mark: str) -> Identity:
    _, pid, created = mark.split(":")
    return Identity(int(pid), float(created))


def _space(pid: int) -> int | None:
    """Which process namespace it is in."""
    try:
        return Path(f"/proc/{pid}/ns/pid").stat().st_ino
    except OSError:
        return None


def _stream(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream
