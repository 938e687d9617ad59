"""All layouts by name, and the two questions that a dataset asks of them: which scans, and out of which files."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, cast

from models.busgen.images.cases import Quarantine, Quarantined, Scan
from models.busgen.readers.entries import Entry
from models.common.errors import DataError

LAYOUTS: tuple[str, ...] = (
    "busi",
    "busbra",
    "breast",
    "udiat",
    "uclm",
    "oasbud",
    "buscot",
    "folder",
    "manifest",
    "dicom",
)


class Reader(Protocol):
    """What the module of each layout has."""

    def tables(self, source: Path) -> tuple[Path, ...]:
        """The files that say what is there, such as a CSV."""
        ...

    def entries(self, source: Path) -> Iterator[Entry]:
        """The image files, in a fixed order; raises DataError where the source has another layout."""
        ...


def read_scans(layout: str, source: Path, quarantine: Quarantine) -> Iterator[Scan]:
    """The scans of a data set, one after the other, in an order that depends on its names alone.

    What cannot be used goes to the quarantine under its file's name. Raises DataError where the source does not have
    this layout.
    """
    files: set[str] = set()
    for entry in _reader(layout).entries(Path(source)):
        try:
            if entry.file in files:
                raise DataError("it is named twice; the first row holds. Fits: one row for each image")
            files.add(entry.file)
            for found in entry.load():
                if isinstance(found, Quarantined):
                    quarantine.add(found.file, found.reason)
                else:
                    yield found
        except DataError as fault:
            quarantine.add(entry.file, str(fault))


def source_files(layout: str, source: Path) -> tuple[Path, ...]:
    """Every file that `read_scans` reads, once each, in a fixed order; files that do not exist are left out."""
    reader = _reader(layout)
    files = dict.fromkeys(reader.tables(Path(source)))
    for entry in reader.entries(Path(source)):
        files.update(dict.fromkeys(path for path in entry.files if path.is_file()))
    return tuple(files)


def _reader(layout: str) -> Reader:
    """The module of a layout, imported when it is asked for: each brings the library of its format."""
    if layout not in LAYOUTS:
        raise DataError(f"there is no layout '{layout}'\nfits: {', '.join(LAYOUTS)}")
    return cast(Reader, importlib.import_module(f"models.busgen.readers.{layout}"))
