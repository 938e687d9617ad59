"""What runs leave on the machines that work on them: kept while it is used, and removed some weeks after."""

import fcntl
import math
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from infra.settings import settings
from models.common.errors import ConfigError

_DAY = 24 * 3600.0
_in_use: dict[Path, IO[str]] = {}


def kept_days() -> float:
    """How long; raises ConfigError where that is no number of days."""
    text = settings().retention_days
    with suppress(ValueError):
        if 1 <= float(text) < math.inf:
            return float(text)
    raise ConfigError(
        f"ORCHARD_RETENTION_DAYS is '{text}'\nfits: a number of days, 1 or more\nset it to such a number, or unset it"
    )


def use(folder: Path) -> None:
    """Keeps the folder, which need not be there yet, until this process ends; sweeps what lies unused beside it."""
    if folder in _in_use:
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    mark = _mark_of(folder).open("a")
    fcntl.flock(mark, fcntl.LOCK_SH)
    os.utime(mark.name)
    _in_use[folder] = mark
    _sweep(folder.parent)


def _sweep(above: Path) -> None:
    """Removes the folders in `above` that nobody has used for so long; one that nobody ever marked counts as used."""
    oldest = time.time() - kept_days() * _DAY
    for folder in above.iterdir():
        mark = _mark_of(folder)
        if folder.name.startswith(".") or not mark.exists() or mark.stat().st_mtime > oldest:
            continue
        with mark.open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # a process has used it since then, and still does
                continue
            gone = above / f".{folder.name}.gone"
            shutil.rmtree(gone, ignore_errors=True)
            folder.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)


def _mark_of(folder: Path) -> Path:
    """It stays when the folder goes: who waits for its lock must find the one that others see."""
    return folder.parent / f".{folder.name}.used"
