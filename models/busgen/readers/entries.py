"""What a reader lists before it decodes: one entry for each file, and the folders they are found in."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from models.busgen.images.cases import Quarantined, Scan
from models.busgen.readers.pictures import SUFFIXES
from models.common.errors import DataError

_SHOWN = 8  # names of a folder that an error lists


@dataclass(frozen=True)
class Entry:
    """One image file, or one row of a table that names it, not decoded yet.

    file: how the quarantine calls it, its path below the data set. files: all that `load` reads. load: its scans, and
    the parts of it that cannot be used; raises DataError with the reason where nothing of it can.
    """

    file: str
    files: tuple[Path, ...]
    load: Callable[[], Iterable[Scan | Quarantined]]


def entry_of(root: Path, image: Path, masks: Iterable[Path], load: Callable[[], Scan]) -> Entry:
    """The entry of an image that gives one scan."""
    return Entry(relative(root, image), (image, *masks), lambda: (load(),))


def faulty(root: Path, file: Path, reason: str) -> Entry:
    """The entry of a file that is no image of the data set; loading it gives the reason."""
    return Entry(relative(root, file), (file,), partial(_refuse, reason))


def unnamed(root: Path, table: str, named: Collection[str], images: str, masks: str) -> Iterator[Entry]:
    """The pictures in these two folders that no row of the table names, as faults."""
    for folder, what in ((images, "an image"), (masks, "a mask without an image")):
        for path in in_folder(root / folder):
            if path.suffix.lower() in SUFFIXES and path.name not in named:
                yield faulty(root, path, f"it is {what} that {table} does not name")


def _refuse(reason: str) -> Iterable[Scan]:
    raise DataError(reason)


def relative(root: Path, file: Path) -> str:
    """A file's path below the data set, with "/" between; the whole path where it lies elsewhere."""
    return (file.relative_to(root) if file.is_relative_to(root) else file).as_posix()


def natural(name: str) -> tuple[list[tuple[str, int]], str]:
    """A key that sorts names as people do, 2 before 10; the same names always in the same order."""
    parts = re.split(r"([0-9]+)", name)  # text and digits by turns, text first
    texts, digits = parts[::2], [*parts[1::2], "-1"]
    return [(text, int(number)) for text, number in zip(texts, digits, strict=True)], name


def in_folder(folder: Path) -> list[Path]:
    """The files and folders in a folder in natural order, hidden ones left out."""
    found = (path for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(found, key=lambda path: natural(path.name))


def folders_below(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """The folder and those in it at any depth, one after the other; links are followed, but not back to `above`."""
    here = folder.resolve()
    if here in above:
        return
    yield folder
    for path in in_folder(folder):
        if path.is_dir():
            yield from folders_below(path, above | {here})


def files_below(folder: Path, suffixes: frozenset[str] = frozenset()) -> Iterator[Path]:
    """The files at any depth, of these endings where some are given.

    One folder at a time is held, so that millions of files do not have to be.
    """
    for place in folders_below(folder):
        for path in in_folder(place):
            if path.is_file() and (not suffixes or path.suffix.lower() in suffixes):
                yield path


def root_of(source: Path, layout: str, *needed: str) -> Path:
    """The folder that has all that a layout needs: the source or a folder in it.

    needed: names of files and, with a "/" at their end, of folders. Raises DataError where there is none.
    """
    if not source.is_dir():
        what = "is a file" if source.is_file() else "does not exist"
        raise DataError(f"{source} {what}\nlayout '{layout}' fits: a folder with {', '.join(needed)}")
    for folder in (source, *(path for path in in_folder(source) if path.is_dir())):
        if all((folder / name).is_dir() if name.endswith("/") else (folder / name).is_file() for name in needed):
            return folder
    raise DataError(
        f"{source} does not have the layout '{layout}': it holds {listing(source)}\n"
        f"fits: a folder with {', '.join(needed)}; name the folder that the data set was unpacked to, or another layout"
    )


def listing(folder: Path) -> str:
    """What a folder holds, in a few words."""
    names = [path.name + "/" * path.is_dir() for path in in_folder(folder)]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more if names else "nothing"
