"""Files of JSON lines that processes append to while others read: a line that was broken off spoils no other."""

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Its whole lines; left out are a last one that is still being written, and what a fault has broken off."""
    if not file.exists():
        return []
    text = file.read_text(errors="replace")
    read = []
    for line in text[: text.rfind("\n") + 1].splitlines():
        with suppress(ValueError):
            read.append(json.loads(line))
    return read


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
