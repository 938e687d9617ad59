"""Files of JSON lines that processes append to while others read: a line that was broken off spoils no other."""

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any


class Reader:
    """Reads a file's lines while it grows: each once, and nothing again of what was read."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._read = 0  # bytes

    def new_lines(self) -> list[dict[str, Any]]:
        """The whole lines that came since this was asked last.

        Left out are a last one that is still being written, which comes once it is whole, and what a fault has broken
        off.
        """
        if not self.file.exists():
            return []
        with self.file.open("rb") as stream:
            stream.seek(self._read)
            found = stream.read()
        whole = found[: found.rfind(b"\n") + 1]
        self._read += len(whole)
        lines = []
        for line in whole.decode(errors="replace").splitlines():
            with suppress(ValueError):
                lines.append(json.loads(line))
        return lines


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Its whole lines, as a new reader finds them."""
    return Reader(file).new_lines()


def append_lines(file: Path, lines: Iterable[str]) -> None:
    """Appends lines, each with its end; raises OSError where they find no room, and the next ones begin anew."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+b") as stream:
        stream.seek(0, os.SEEK_END)
        if stream.tell():
            stream.seek(-1, os.SEEK_END)
            if stream.read(1) != b"\n":
                stream.write(b"\n")
        stream.write("".join(lines).encode())


def append_line(file: Path, values: dict[str, Any]) -> None:
    append_lines(file, [json.dumps(values) + "\n"])
