"""The registry: a git repository in which a version is a commit and a gto tag, pushed together or not at all."""

import fcntl
import hashlib
import json
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from infra import git
from infra.artifacts_dvc import is_pushed, remote_config, remote_of, scratch
from infra.artifacts_remote import Remote
from infra.artifacts_versions import (
    RECORD,
    Version,
    ask,
    choose,
    explained,
    find_run,
    head_file,
    next_version,
    read_tags,
    read_versions,
)
from infra.git import GitError
from infra.settings import settings
from models.common.errors import RegistryError

_ATTEMPTS = 30  # of a push that others keep overtaking
_LOCK_SECONDS = 300
_ACCESS_SECONDS = 9


@dataclass(frozen=True)
class Draft:
    """What is to become a version: its bytes are on the remote already."""

    name: str
    run_key: str
    sha256: str
    dvc_file: str
    remote: Remote
    summary: Mapping[str, Any]


@contextmanager
def reading() -> Iterator[Path | None]:
    """The registry's git folder, or a clone of it; None where there is no registry yet. Raises RegistryError."""
    address = settings().registry
    folder = git.local_folder(address)
    if folder is None:
        with scratch() as place:
            ask("ls-remote", "--", address, "HEAD", folder=place, network=True, seconds=_ACCESS_SECONDS)
            ask("clone", "--quiet", "--bare", "--", address, "clone.git", folder=place, network=True)
            yield place / "clone.git"
    elif not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        yield None
    else:
        _require_bare(folder)
        yield folder


def is_missing() -> bool:
    """Whether there is nothing where the registry is to be. Raises RegistryError."""
    with reading() as repository:
        return repository is None


def register(draft: Draft) -> Version:
    """The version of this draft: the next minor one, or the one that the same run registered before.

    Commit and tag arrive together or not at all. A publisher that was overtaken starts again from what is there now.
    Raises RegistryError.
    """

    def attempt(clone: Path) -> None:
        require_same_remote(clone, draft.remote)
        if find_run(read_versions(clone, draft.name), draft.run_key) is None:
            _commit(clone, draft)
            version = next_version(read_tags(clone), draft.name)
            _tag(clone, f"{draft.name}@{version}", "HEAD", f"{draft.name} {version} of run {draft.run_key}", _now())
            branch = ask("symbolic-ref", "HEAD", folder=clone)
            _push(clone, f"HEAD:{branch}", f"refs/tags/{draft.name}@{version}")

    found = find_run(_write(attempt, draft.name), draft.run_key)
    assert found is not None
    return found


def assign(name: str, version: str, stage: str, instead_of: str | None = None) -> Version:
    """The version, which now has this stage; whichever had it before has it no longer.

    instead_of: the version that has to hold it until now, "" for nobody; None for whichever. Raises RegistryError.
    """

    def attempt(clone: Path) -> None:
        found = read_versions(clone)
        chosen = choose(found, name, version=version)
        _require_held(found, name, stage, instead_of)
        if stage not in chosen.stages:
            tags = [tag for tag in read_tags(clone) if tag.name == name]
            counter = max((tag.counter for tag in tags), default=0) + 1
            # Readers order assignments by their time in seconds: a later one must have a later second.
            when = max([_now(), *(tag.time + 1 for tag in tags if tag.stage)])
            label = f"{name}#{stage}#{counter}"
            _tag(clone, label, chosen.commit, f"{name} {version} is {stage}", when)
            _push(clone, f"refs/tags/{label}")

    return choose(_write(attempt, name), name, version=version)


def _require_held(versions: list[Version], name: str, stage: str, by: str | None) -> None:
    held_by = next((each.version for each in versions if each.name == name and stage in each.stages), "")
    if by is not None and held_by != by:
        raise RegistryError(
            f"{stage} of {name} is {held_by or 'nobody'} by now, and not {by or 'nobody'}: somebody else assigned it\n"
            f"fits: the {stage} that the decision was made for\nsee: orchard list {name}; then try again"
        )


def require_same_remote(registry: Path | None, remote: Remote) -> None:
    """Raises RegistryError where the registry keeps its bytes elsewhere: plain DVC reads one remote only."""
    if registry is None or not (config := head_file(registry, ".dvc/config")):
        return
    kept, _ = remote_of(config)
    if kept != remote.url and not _moved(registry, kept, remote):
        raise RegistryError(
            f"the registry {git.hide_secrets(settings().registry)} keeps its bytes in {kept}, and the remote here is "
            f"{remote.url}\nfits: one remote for all versions of a registry\n"
            f"set ORCHARD_REMOTE={kept}, or name another ORCHARD_REGISTRY"
        )


def _moved(registry: Path, kept: str, remote: Remote) -> bool:
    """Whether the folder that held the bytes is gone and this remote has them, as after ORCHARD_HOME was moved."""
    if "://" in kept or Path(kept).exists():
        return False
    names = {version.name for version in read_versions(registry)}
    return all(is_pushed(head_file(registry, f"{name}.dvc") or "", name, remote) for name in names)


def create_registry() -> None:
    """Makes the registry where its folder is missing or empty: by one rename, so that it is whole or not there."""
    folder = git.local_folder(settings().registry)
    if folder is None or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        return
    with scratch() as place:
        ask("init", "--quiet", "--bare", "new.git", folder=place)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            try:
                (place / "new.git").rename(folder)
            except OSError:
                if not any(folder.iterdir()):  # another publisher was first, and its registry is as good
                    raise
        except OSError as error:
            raise RegistryError(
                f"cannot make the registry {folder}: {error.strerror}\nfits: a folder that this user can write in\n"
                "set ORCHARD_REGISTRY"
            ) from None


def check_writable() -> None:
    """Raises RegistryError where a version could not be registered; changes nothing, but makes a missing registry."""
    create_registry()
    folder = git.local_folder(settings().registry)
    if folder is None:
        _try_push(settings().registry)
        return
    _require_bare(folder)
    if not os.access(folder, os.W_OK) or not os.access(folder / "objects", os.W_OK):
        raise RegistryError(
            f"cannot write in the registry {folder}\nfits: a repository that this user can write in\n"
            "set ORCHARD_REGISTRY, or mend the folder's permissions"
        )


def _try_push(address: str) -> None:
    """Asks the server to take a commit, and takes the question back."""
    with scratch() as place:
        ask("init", "--quiet", ".", folder=place)
        ask("commit", "--quiet", "--allow-empty", "-m", "access", folder=place)
        asked = ["push", "--quiet", "--dry-run", "--", address, "HEAD:refs/heads/access-check"]
        ask(*asked, folder=place, network=True, seconds=_ACCESS_SECONDS)


def _write(attempt: Callable[[Path], None], name: str) -> list[Version]:
    """The versions as they are after `attempt(clone)` has pushed; tried again when another publisher was faster."""
    create_registry()
    address = settings().registry
    folder = git.local_folder(address)
    if folder is not None:
        _require_bare(folder)
    heads = ""
    for number in range(_ATTEMPTS):
        with _lock(address, folder), scratch() as place:
            clone = place / "clone"
            ask("clone", "--quiet", "--", str(folder or address), "clone", folder=place, network=folder is None)
            try:
                attempt(clone)
                return read_versions(clone, name)
            except GitError as refused:
                seen, heads = heads, ask("ls-remote", "origin", folder=clone, network=folder is None)
                if heads == seen or number == _ATTEMPTS - 1:  # nobody was faster: another attempt would end alike
                    raise explained(refused) from None
        time.sleep(random.uniform(0.05, 0.5) * min(number + 1, 4))
    raise AssertionError("the last attempt returns or raises")


@contextmanager
def _lock(address: str, folder: Path | None) -> Iterator[None]:
    """One publisher at a time on this machine; those on others meet at the push."""
    name = hashlib.sha256(address.encode()).hexdigest()[:16]
    file = folder / "orchard.lock" if folder else settings().home / "locks" / f"{name}.lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + _LOCK_SECONDS
    with file.open("a") as lock:
        while not _is_locked(lock):
            if time.monotonic() > until:
                raise RegistryError(
                    f"another publisher has held {file} for {_LOCK_SECONDS} s\nfits: a few seconds\n"
                    "see whether an `orchard` process hangs, and end it"
                )
            time.sleep(0.02)
        yield


def _is_locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _commit(clone: Path, draft: Draft) -> None:
    """Commits the version's files; those of other artifacts stay as they are."""
    name = draft.name
    record = {
        "format": 1,
        "name": name,
        "run_key": draft.run_key,
        "sha256": draft.sha256,
        **{field: draft.summary.get(field) for field in ("preset", "seed", "summary")},
    }
    (clone / ".dvc").mkdir(exist_ok=True)
    config = clone / ".dvc" / "config"
    if not config.exists() or remote_of(config.read_text())[0] != draft.remote.url:
        config.write_text(remote_config(draft.remote))
    (clone / ".dvc" / ".gitignore").write_text("/config.local\n/tmp\n/cache\n")
    (clone / f"{name}.dvc").write_text(draft.dvc_file)
    (clone / RECORD.format(name=name)).write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    names = sorted(file.stem for file in clone.glob("[!.]*.dvc"))
    (clone / "dvc.yaml").write_text(
        "artifacts:\n" + "".join(f"  {each}:\n    path: {each}\n    type: model\n" for each in names)
    )
    (clone / ".gitignore").write_text("".join(f"/{each}\n" for each in names))
    ask("add", "--all", folder=clone)
    ask("commit", "--quiet", "--allow-empty", "-m", f"{name}: {draft.run_key}", folder=clone, when=_now())


def _tag(clone: Path, label: str, commit: str, message: str, when: int) -> None:
    ask("tag", "--annotate", "-m", message, label, commit, folder=clone, when=when)


def _push(clone: Path, *references: str) -> None:
    """All of these or none; raises GitError, which the caller takes for having been overtaken."""
    network = git.local_folder(settings().registry) is None
    git.run("push", "--quiet", "--atomic", "origin", *references, folder=clone, network=network)


def _now() -> int:
    return int(time.time())


def _require_bare(folder: Path) -> None:
    if not git.is_bare_repository(folder):
        raise RegistryError(
            f"the registry {folder} is no bare git repository\nfits: a bare one, or a path where there is nothing yet\n"
            "set ORCHARD_REGISTRY, or make one: git init --bare -b main FOLDER"
        )
