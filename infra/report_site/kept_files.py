"""Files of versions that were fetched before: a version never changes, so what verifies need not be fetched again."""

import hashlib
import re
import uuid
from collections.abc import Collection, Mapping
from pathlib import Path

from infra import manifests
from infra.artifacts import Version
from infra.settings import settings


def folder_of(version: Version) -> Path | None:
    """Where this machine keeps files of the version; None where nothing says which bytes they should have."""
    if not re.fullmatch("[0-9a-f]{64}", version.sha256):
        return None  # its record comes from the registry, and could name any path
    return settings().home / "reports" / version.sha256


def read_kept(version: Version, names: Collection[str]) -> dict[str, bytes] | None:
    """The manifest and those of these files that the version has; None unless all are here and verify."""
    folder = folder_of(version)
    if folder is None:
        return None
    try:
        found = {manifests.MANIFEST: (folder / manifests.MANIFEST).read_bytes()}
        if hashlib.sha256(found[manifests.MANIFEST]).hexdigest() != version.sha256:
            return None
        files = manifests.parse_manifest(found[manifests.MANIFEST])["files"]
        for name in files.keys() & set(names):
            found[name] = (folder / name).read_bytes()
            if hashlib.sha256(found[name]).hexdigest() != files[name]["sha256"]:
                return None
    except (OSError, manifests.ManifestError):
        return None
    return found


def keep(version: Version, files: Mapping[str, bytes]) -> None:
    """Keeps verified files; whoever reads at the same time sees each whole or not at all."""
    folder = folder_of(version)
    assert folder is not None
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        draft = folder / f".{name}.{uuid.uuid4().hex}"
        draft.write_bytes(content)
        draft.replace(folder / name)
