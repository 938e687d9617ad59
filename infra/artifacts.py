"""The registry's door: publish, promote, list, pull and verify versions.

A version is a commit of a git registry with a gto tag, `relay@v0.3.0`; its bytes are on a DVC remote. Plain DVC reads
both: `dvc artifacts get REGISTRY relay --rev v0.3.0`. Reading here needs no DVC, which follows `../` in a remote that
was tampered with.
"""

import json
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from infra import artifacts_registry as registry
from infra import git, manifests
from infra.artifacts_dvc import directory_of, files_of, own_remote, push, registry_remote
from infra.artifacts_files import Found, read_verified
from infra.artifacts_registry import Draft, is_missing
from infra.artifacts_remote import Remote, save
from infra.artifacts_stages import Holder, history, rollback
from infra.artifacts_versions import (
    Version,
    choose,
    find_run,
    head_file,
    parse_spec,
    read_blobs,
    read_file,
    read_versions,
    require_name,
)
from infra.settings import settings
from models.common.errors import RegistryError
from models.common.handles import Artifact

__all__ = [
    "Found",
    "Holder",
    "Version",
    "check_access",
    "history",
    "is_missing",
    "promote",
    "publish",
    "pull",
    "read_files",
    "read_many",
    "require_access",
    "rollback",
    "verify",
    "versions",
]

_ACCESS_SECONDS = 10.0
_ABANDONED_SECONDS = 24 * 3600


def publish(folder: Path, name: str, *, run_key: str, summary: Mapping[str, Any]) -> Artifact:
    """The version that this run's folder is now: a new one, or the one that an earlier attempt registered.

    Bytes come first, pushed and read again; then commit and tag arrive together. Dying in between leaves no version,
    and is mended by publishing again. Raises RegistryError.
    """
    require_name(name)
    sha256 = _fingerprint(folder)
    with registry.reading() as repository:
        known = find_run(read_versions(repository, name), run_key)
        remote = own_remote()
        registry.require_same_remote(repository, remote)
    if known is None:
        remote.check()
        dvc_file = push(folder, name, remote)
        known = registry.register(Draft(name, run_key, sha256, dvc_file, remote, summary))
    if known.sha256 != sha256:
        raise RegistryError(
            f"run {run_key} is published as {name}@{known.version}, and {folder} holds other bytes\n"
            "fits: one version for one run\npull that version, or run again with another --run-key"
        )
    return Artifact(name=name, version=known.version, commit=known.commit, folder=folder)


def promote(name: str, version: str, stage: str = "champion", instead_of: str | None = None) -> Version:
    """The version, which holds the stage from now on. Raises RegistryError where there is no such version.

    instead_of: the version that has to hold it until now, "" for nobody; else somebody was faster, and it is refused.
    """
    require_name(stage)
    return registry.assign(name, version, stage, instead_of)


def versions(name: str | None = None) -> list[Version]:
    """All versions of one artifact or of all, newest first; none where nothing was published. Raises RegistryError."""
    with registry.reading() as repository:
        found = read_versions(repository, name)
    found.sort(key=lambda version: version.published)
    return found[::-1]


def pull(spec: str, out: Path | None = None) -> Artifact:
    """The version that `relay`, `relay@v0.1.0` or `relay#champion` names, verified, in `out` or in ORCHARD_HOME.

    The folder appears whole or not at all. Where it is there already, it is verified and left as it is.
    Raises RegistryError for a version that does not exist, altered bytes, or a target that holds something else.
    """
    name, version, stage = parse_spec(spec)
    with registry.reading() as repository:
        chosen = choose(read_versions(repository), name, version, stage)
        assert repository is not None
        directory = directory_of(read_file(repository, chosen.commit, f"{name}.dvc"), name)
        config = head_file(repository, ".dvc/config") or ""
    target = (out or settings().home / "artifacts" / name / chosen.version).absolute()
    if not _is_there(target, chosen):
        _fetch(chosen, directory, registry_remote(config), target)
    return Artifact(name=name, version=chosen.version, commit=chosen.commit, folder=target)


def read_files(spec: str, names: Collection[str]) -> dict[str, bytes]:
    """Those of these files that the version has, verified, by name; the rest of it, its weights above all, stays there.

    Raises RegistryError for a version that does not exist, that Orchard did not register, or that was altered.
    """
    with registry.reading() as repository:
        chosen = choose(read_versions(repository), *parse_spec(spec))
    (found,) = read_many([chosen], names)
    if isinstance(found, RegistryError):
        raise found
    return found


def read_many(chosen: Sequence[Version], names: Collection[str]) -> list[Found]:
    """For each version those of these files that it has, verified, or why it cannot be read; the others go on."""
    with registry.reading() as repository:
        if repository is None:
            raise RegistryError(
                f"there is no registry at {git.hide_secrets(settings().registry)}\nset ORCHARD_REGISTRY, or publish a "
                "version: orchard run relay --preset tiny"
            )
        remote = registry_remote(head_file(repository, ".dvc/config") or "")
        dvc_files = read_blobs(repository, [(version.commit, f"{version.name}.dvc") for version in chosen])
    return read_verified(remote, chosen, dvc_files, names)


def verify(folder: Path) -> dict[str, Any]:
    """What an artifact's manifest and lineage say of it, every byte checked; raises RegistryError."""
    manifest = _verified(folder)
    lineage = folder / "lineage.json"
    return {
        "about": manifest["about"],
        "files": len(manifest["files"]),
        "bytes": sum(file["bytes"] for file in manifest["files"].values()),
        "sha256": manifests.fingerprint(folder),
        "lineage": json.loads(lineage.read_text()) if lineage.exists() else None,
    }


def check_access() -> list[tuple[str, bool, str]]:
    """Name, whether it works, and what was found, for the registry and the remote; each within seconds."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(_checked, _CHECKS.keys(), _CHECKS.values()))


def require_access() -> None:
    """Raises RegistryError where a run could not publish; called before it begins."""
    for check in _CHECKS.values():
        _bounded(check)


def _check_registry() -> str:
    registry.check_writable()
    with registry.reading() as repository:
        registry.require_same_remote(repository, own_remote())
    return git.hide_secrets(settings().registry)


def _check_remote() -> str:
    remote = own_remote()
    remote.check()
    return remote.url


_CHECKS: dict[str, Callable[[], str]] = {"registry": _check_registry, "remote": _check_remote}


def _checked(name: str, check: Callable[[], str]) -> tuple[str, bool, str]:
    try:
        return name, True, _bounded(check)
    except RegistryError as error:
        return name, False, str(error)


def _bounded(check: Callable[[], str]) -> str:
    """What the check returns or raises; RegistryError where it hangs, as a lost network drive makes it."""
    outcome: list[str | RegistryError] = []

    def work() -> None:
        try:
            outcome.append(check())
        except RegistryError as error:
            outcome.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(_ACCESS_SECONDS)
    if not outcome:
        place = settings()
        raise RegistryError(
            f"no answer within {_ACCESS_SECONDS:.0f} s from {git.hide_secrets(place.registry)} or {place.remote}\n"
            "fits: a registry and a remote that answer\nsee ORCHARD_REGISTRY, ORCHARD_REMOTE and ORCHARD_S3_ENDPOINT"
        )
    if isinstance(outcome[0], RegistryError):
        raise outcome[0]
    return outcome[0]


def _fetch(version: Version, directory: str, remote: Remote, target: Path) -> None:
    """Downloads into a draft beside the target, verifies it, and renames it."""
    files = files_of(remote, directory)
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target)
    draft = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.partial"
    draft.mkdir()
    try:
        for name, md5 in files.items():
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            save(remote, md5, draft / name)
        _verified(draft)
        if manifests.fingerprint(draft) != version.sha256:
            raise RegistryError(
                f"{version.name}@{version.version} on {remote.url} has another manifest than was registered\n"
                "the remote or the registry was tampered with, or Orchard did not publish this version: pull another"
            )
        draft.rename(target)
    except OSError as error:
        raise RegistryError(f"cannot write {target}: {error.strerror}\nname another folder with --out") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _sweep(target: Path) -> None:
    """Removes the drafts that killed pulls left beside this target."""
    for draft in target.parent.glob(f".{target.name}.*.partial"):
        if time.time() - draft.stat().st_mtime > _ABANDONED_SECONDS:
            shutil.rmtree(draft, ignore_errors=True)


def _is_there(target: Path, version: Version) -> bool:
    """Whether the target holds this version already; raises RegistryError where it holds anything else."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    try:
        if manifests.fingerprint(target) == version.sha256:
            manifests.verify(target)
            return True
        found = "another version or another artifact"
    except (manifests.ManifestError, OSError) as error:
        found = str(error)
    raise RegistryError(
        f"{target} is not empty, and not {version.name}@{version.version}: {found}\n"
        "fits: a folder that does not exist, or is empty\ndelete it, or name another with --out"
    )


def _verified(folder: Path) -> dict[str, Any]:
    try:
        return manifests.verify(folder)
    except manifests.ManifestError as damage:
        raise RegistryError(
            f"the artifact is damaged: {damage}\nfits: the bytes that were published\npull it again into another folder"
        ) from None


def _fingerprint(folder: Path) -> str:
    try:
        return manifests.fingerprint(folder)
    except manifests.ManifestError as damage:
        raise RegistryError(f"cannot publish: {damage}\nfits: a folder written by a run") from None
