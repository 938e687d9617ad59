"""Folders that are whole or not there: a manifest with every file's SHA-256, committed by one atomic rename."""

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

MANIFEST = "manifest.json"
MOST_FILES = 100_000
MOST_BYTES = 64 << 20  # of a manifest's text: what a reader holds in memory before it knows what it reads
_MOST_NAME_BYTES = 255  # of one part of a path: what file systems take
_SHA256 = re.compile("[0-9a-f]{64}")
_CHUNK_BYTES = 1 << 20


class ManifestError(Exception):
    """A folder that is not what its manifest says; callers turn it into the error of their own kind."""


def sha256_of(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def write_manifest(folder: Path, about: dict[str, Any] | None = None) -> str:
    """Hashes every file in `folder`, flushes them, writes the manifest last; returns the manifest's SHA-256.

    `about` is kept beside the hashes: the config, the seed, what a reader of the folder needs to know.
    """
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / MANIFEST:
            files[path.relative_to(folder).as_posix()] = {"sha256": sha256_of(path), "bytes": path.stat().st_size}
            _flush(path)
    if len(files) > MOST_FILES:
        raise ManifestError(f"{folder} has {len(files)} files; a folder may have {MOST_FILES}")
    text = json.dumps({"format": 1, "about": about or {}, "files": files}, indent=1, sort_keys=True) + "\n"
    (folder / MANIFEST).write_text(text)
    _flush(folder / MANIFEST)
    return hashlib.sha256(text.encode()).hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, its paths checked to stay inside the folder; raises ManifestError."""
    try:
        text = (folder / MANIFEST).read_bytes()
    except FileNotFoundError:
        raise ManifestError(f"{folder} has no {MANIFEST}") from None
    except NotADirectoryError as error:
        raise ManifestError(f"{folder / MANIFEST} is not a manifest: {error}") from None
    return parse_manifest(text, str(folder / MANIFEST))


def parse_manifest(text: bytes, where: str = MANIFEST) -> dict[str, Any]:
    """The manifest that this is the text of, its paths checked to stay inside their folder; raises ManifestError."""
    try:
        manifest = json.loads(text)
        files = dict(manifest["files"])
        whole = isinstance(manifest.get("about"), dict) and all(_is_entry(each) for each in files.values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ManifestError(f"{where} is not a manifest: {error}") from None
    if not whole:
        raise ManifestError(f"{where} is not a manifest: it does not say the SHA-256 and the size of every file")
    if len(files) > MOST_FILES:
        raise ManifestError(f"{where} names {len(files)} files; a folder may have {MOST_FILES}")
    for name in files:
        if not stays_inside(name):
            raise ManifestError(f"{where} names '{name}', which lies outside of the folder")
        if name == MANIFEST or any(str(above) in files for above in PurePosixPath(name).parents):
            raise ManifestError(f"{where} names '{name}', which cannot be a file of the folder")
    return manifest


def _is_entry(value: Any) -> bool:
    """Whether this can be what a manifest says of one file."""
    size = value["bytes"]
    return isinstance(size, int) and size >= 0 and bool(_SHA256.fullmatch(value["sha256"]))


def sealed(about: dict[str, Any]) -> dict[str, Any]:
    """The same with its own hash among it, for where a flipped byte of a manifest must not pass for another value."""
    return {**about, "seal": _seal_of(about)}


def require_sealed(about: dict[str, Any], where: str) -> None:
    """Raises ManifestError where what was sealed is not as it was; what never was sealed passes."""
    if "seal" in about and about["seal"] != _seal_of({name: about[name] for name in about if name != "seal"}):
        raise ManifestError(f"{where} does not have the hash that it says of itself")


def _seal_of(about: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def stays_inside(name: Any) -> bool:
    """Whether a path from elsewhere names a file below the folder it is put in, in the one way to write it."""
    if not isinstance(name, str) or not name or "\\" in name or "\0" in name:
        return False
    path = PurePosixPath(name)
    try:
        if any(len(os.fsencode(part)) > _MOST_NAME_BYTES for part in path.parts):
            return False
    except UnicodeEncodeError:  # half of a character
        return False
    return not path.is_absolute() and ".." not in path.parts and path.as_posix() == name and name != "."


def verify(folder: Path) -> dict[str, Any]:
    """The manifest of a folder whose every byte is as it says, with no file more or less; raises ManifestError."""
    manifest = read_manifest(folder)
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() or path.is_symlink()}
    if extra := sorted(found - set(manifest["files"]) - {MANIFEST}):
        raise ManifestError(f"{folder} holds files that its manifest does not name: {', '.join(extra[:5])}")
    for name, expected in manifest["files"].items():
        file = folder / name
        if file.is_symlink() or not file.is_file():
            raise ManifestError(f"{file} is missing")
        if file.stat().st_size != expected["bytes"]:
            raise ManifestError(f"{file} has {file.stat().st_size} bytes, its manifest says {expected['bytes']}")
        if sha256_of(file) != expected["sha256"]:
            raise ManifestError(f"{file} does not have the SHA-256 that its manifest says")
    return manifest


def fingerprint(folder: Path) -> str:
    """SHA-256 of the manifest, which stands for every byte in the folder."""
    try:
        return sha256_of(folder / MANIFEST)
    except FileNotFoundError:
        raise ManifestError(f"{folder} has no {MANIFEST}") from None


@contextmanager
def committed(folder: Path, about: dict[str, Any] | None = None) -> Iterator[Path]:
    """A temporary folder to fill, which becomes `folder`, with its manifest, when the block ends well.

    A reader sees the whole folder or none. If the block raises or the process dies, `folder` is as it was.
    """
    with draft_of(folder) as draft:
        yield draft
        write_manifest(draft, about)
        commit(draft, folder)


@contextmanager
def draft_of(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder`, gone after the block unless it was committed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:8]}.partial"
    draft.mkdir()
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def commit(draft: Path, folder: Path) -> None:
    """Renames a draft that has its manifest to `folder`; what was there steps aside first and is then deleted."""
    _flush(draft)
    aside = draft.with_suffix(".replaced")
    if folder.exists():
        folder.rename(aside)
    draft.rename(folder)
    _flush(folder.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _flush(path: Path) -> None:
    """Asks the disk to keep what was written, so that a rename is never ahead of its bytes."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
