"""Single files of versions, each verified by its version's manifest: a report without the weights beside it."""

import hashlib
from collections.abc import Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from infra import git, manifests
from infra.artifacts_dvc import directory_of, files_of
from infra.artifacts_remote import Remote, read_small
from infra.artifacts_versions import Version
from infra.settings import settings
from models.common.errors import RegistryError

Found = dict[str, bytes] | RegistryError

_AT_ONCE = 8
_PATIENCE_SECONDS = 20.0  # for all of them; a server that hangs would else be asked once for each version


def read_verified(
    remote: Remote, versions: Sequence[Version], dvc_files: Sequence[bytes | None], names: Collection[str]
) -> list[Found]:
    """For each version those of these files that it has, or why it cannot be read."""
    pool = ThreadPoolExecutor(_AT_ONCE)
    reading = [
        pool.submit(_read, remote, version, dvc_file, frozenset(names))
        for version, dvc_file in zip(versions, dvc_files, strict=True)
    ]
    wait(reading, _PATIENCE_SECONDS)
    pool.shutdown(wait=False, cancel_futures=True)
    return [_outcome(each, remote) for each in reading]


def _outcome(reading: Future[dict[str, bytes]], remote: Remote) -> Found:
    if not reading.done() or reading.cancelled():
        return RegistryError(
            f"no answer from {remote.url} within {_PATIENCE_SECONDS:.0f} s\n"
            "fits: a remote that answers\nsee whether it does: orchard doctor"
        )
    error = reading.exception()
    if error is None:
        return reading.result()
    if isinstance(error, RegistryError):
        return error
    raise error


def _read(remote: Remote, version: Version, dvc_file: bytes | None, names: frozenset[str]) -> dict[str, bytes]:
    """Those of the files that the version has, and among them its manifest if that is asked for."""
    if not version.sha256 or dvc_file is None:
        raise RegistryError(
            f"{version.name}@{version.version} was not registered by Orchard: nothing says which bytes it should have\n"
            "fits: a version that `orchard run` published\nget its files as they are: dvc artifacts get "
            f"{git.hide_secrets(settings().registry)} {version.name} --rev {version.version}"
        )
    objects = files_of(remote, directory_of(dvc_file.decode(errors="replace"), version.name))
    if manifests.MANIFEST not in objects:
        raise _altered(version, remote, f"no {manifests.MANIFEST}")
    text = read_small(remote, objects[manifests.MANIFEST])
    if hashlib.sha256(text).hexdigest() != version.sha256:
        raise _altered(version, remote, "another manifest than was registered")
    try:
        files = manifests.parse_manifest(text)["files"]
    except manifests.ManifestError as fault:
        raise _altered(version, remote, f"a manifest that is none: {fault}") from None
    found = {manifests.MANIFEST: text} if manifests.MANIFEST in names else {}
    for name in sorted(names & files.keys()):
        if name not in objects:
            raise _altered(version, remote, f"no {name}, which its manifest names")
        found[name] = read_small(remote, objects[name])
        if hashlib.sha256(found[name]).hexdigest() != files[name]["sha256"]:
            raise _altered(version, remote, f"another {name} than its manifest says")
    return found


def _altered(version: Version, remote: Remote, found: str) -> RegistryError:
    return RegistryError(
        f"{version.name}@{version.version} on {remote.url} has {found}\n"
        "the remote or the registry was tampered with: find out by whom, or use another version"
    )
