"""Where a rank stands still: its stack, kept on its host's disk for the attempt that follows."""

import faulthandler
import os
import time
from contextlib import suppress
from pathlib import Path

_BEAT_SECONDS = 1.0


class Watch:
    """Writes the stack of every thread of this process to `file` where nothing beats for `seconds`."""

    def __init__(self, file: Path, seconds: float) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self.seconds = seconds
        self._stream = file.open("w")
        self._beaten = 0.0

    def beat(self) -> None:
        """All is well: the wait begins anew, and what was written is forgotten."""
        now = time.monotonic()
        if now - self._beaten < _BEAT_SECONDS:
            return
        self._beaten = now
        if os.fstat(self._stream.fileno()).st_size:
            self._stream.seek(0)
            self._stream.truncate()
        faulthandler.dump_traceback_later(self.seconds, file=self._stream)

    def end(self) -> None:
        faulthandler.cancel_dump_traceback_later()
        self._stream.close()


def left(folder: Path) -> dict[str, str]:
    """What ranks that stood still have left there, by their files' names; each is told once, to who asks first."""
    found = {}
    for file in sorted(folder.glob("*.txt")):
        mine = file.with_suffix(f".{os.getpid()}")
        with suppress(FileNotFoundError):  # another rank was quicker
            file.rename(mine)
            found[file.stem] = mine.read_text(errors="replace")
            mine.unlink()
    return {name: stack for name, stack in found.items() if stack}
