"""DVC's part: the bytes of a folder pushed to the remote, and what the registry's DVC files say."""

import configparser
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from infra import manifests
from infra.artifacts_remote import (
    DamagedObject,
    FolderRemote,
    Remote,
    S3Remote,
    check_object,
    key_of,
    read_small,
    remote_at,
)
from infra.git import hide_secrets
from infra.settings import dvc_environment, settings
from models.common.errors import RegistryError

REMOTE = "orchard"
_SETTLED_SECONDS = 60
_SECTION = f"'remote \"{REMOTE}\"'"

_PUSH = """
import sys
from dvc.cli import main
sys.exit(main(["push", sys.argv[1] + ".dvc"]))
"""
# Both commands in one process: starting DVC takes longer than either.
_ADD_AND_PUSH = """
import sys
from dvc.cli import main
sys.exit(main(["add", sys.argv[1]]) or main(["push", sys.argv[1] + ".dvc"]))
"""


def remote_config(remote: Remote) -> str:
    """The registry's `.dvc/config`: where the bytes are, and nothing secret. DVC checks hashes only if told to."""
    endpoint = f"    endpointurl = {remote.endpoint}\n" if isinstance(remote, S3Remote) and remote.endpoint else ""
    return (
        f"[core]\n    remote = {REMOTE}\n    analytics = false\n    check_update = false\n"
        f"[{_SECTION}]\n    url = {remote.url}\n{endpoint}    verify = true\n"
    )


def remote_of(config: str) -> tuple[str, str | None]:
    """Address and endpoint of the remote that a registry's `.dvc/config` names; raises RegistryError."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string("\n".join(line.strip() for line in config.splitlines()))
        section = parser[f"'remote \"{parser['core']['remote']}\"'"]
        return section["url"], section.get("endpointurl")
    except (configparser.Error, KeyError) as error:
        raise RegistryError(
            f"the registry's .dvc/config names no remote: {error}\nfits: one that Orchard or DVC wrote\n"
            "set ORCHARD_REGISTRY"
        ) from None


def own_remote() -> Remote:
    """The remote that the settings name."""
    return remote_at(settings().remote, settings().s3_endpoint)


def registry_remote(config: str) -> Remote:
    """The remote that the registry names; an endpoint that is set here may be another way to the same server."""
    url, endpoint = remote_of(config)
    own = own_remote()
    if "://" not in url + own.url and not Path(url).exists() and Path(own.url).exists():
        return own  # ORCHARD_HOME was moved, and the bytes with it
    return remote_at(url, settings().s3_endpoint or endpoint)


def directory_of(dvc_file: str, name: str) -> str:
    """The hash, ending in `.dir`, of the folder that a `.dvc` file stands for; raises RegistryError."""
    from ruamel.yaml import YAML, YAMLError  # DVC's own reader

    try:
        (out,) = YAML(typ="safe").load(dvc_file)["outs"]
        md5 = out["md5"]
    except (YAMLError, KeyError, TypeError, ValueError):
        md5 = None
    if not isinstance(md5, str) or not re.fullmatch(r"[0-9a-f]{32}\.dir", md5):
        raise RegistryError(
            f"{name}.dvc in the registry does not stand for one folder\nfits: a file that `dvc add` wrote\n"
            "publish the run again, or pull another version"
        )
    return md5


def files_of(remote: Remote, directory: str) -> dict[str, str]:
    """Path and hash of each file of a pushed folder; raises RegistryError where a path would leave it.

    DVC itself follows such a path, so this stands before anything is written.
    """
    where = f"the directory object {directory} in {remote.url}"
    try:
        files = {entry["relpath"]: entry["md5"] for entry in json.loads(read_small(remote, directory))}
        bad = [
            name
            for name, md5 in files.items()
            if not manifests.stays_inside(name) or not re.fullmatch("[0-9a-f]{32}", md5)
        ]
    except (ValueError, KeyError, TypeError):
        raise RegistryError(
            f"{where} is not what DVC writes\nrestore it from a backup of the remote, or publish the run again"
        ) from None
    if bad:
        raise RegistryError(
            f"{where} names '{bad[0]}', which lies outside of the folder; nothing was written\n"
            "fits: paths inside the folder\nthe remote or the registry was tampered with: find out by whom"
        )
    return files


def push(folder: Path, name: str, remote: Remote) -> str:
    """The `.dvc` file of a folder whose every byte is on the remote, which was read again to be sure.

    Raises RegistryError where the folder is not what its manifest says, or the remote does not keep it.
    """
    with scratch() as place:
        shutil.copytree(folder, place / name)
        try:
            manifest = manifests.verify(place / name)  # of the copy: what is checked is what is pushed
        except manifests.ManifestError as damage:
            raise RegistryError(f"cannot publish: {damage}\nrun again with the same --run-key") from None
        _prepare(place, remote)
        patience = 600 + sum(file["bytes"] for file in manifest["files"].values()) / 1e6
        failure = _try(place, _ADD_AND_PUSH, name, patience)
        if not (place / f"{name}.dvc").exists():
            raise failure or RegistryError(f"DVC added nothing for {name}\nsee whether it is installed: orchard doctor")
        dvc_file = (place / f"{name}.dvc").read_text()
        objects = _pushed_objects(place, directory_of(dvc_file, name), {*manifest["files"], manifests.MANIFEST})
        if damaged := [md5 for md5 in objects if not _is_whole(remote, md5)]:
            for md5 in damaged:  # DVC leaves an object as it is once something is there, or stumbles over it
                remote.remove(key_of(md5))
            _dvc(place, _PUSH, name, patience)
            for md5 in damaged:
                check_object(remote, md5)
    return dvc_file


def is_pushed(dvc_file: str, name: str, remote: Remote) -> bool:
    """Whether the remote has the list of files of the folder that this `.dvc` file stands for."""
    return _is_whole(remote, directory_of(dvc_file, name))


def _pushed_objects(place: Path, directory: str, expected: set[str]) -> list[str]:
    """The hashes of all objects that DVC made of a folder; raises RegistryError where it left a file out."""
    files = files_of(FolderRemote(str(place / ".dvc" / "cache")), directory)  # a cache is laid out as a remote is
    if left_out := sorted(expected - set(files)):
        raise RegistryError(
            f"DVC left out {', '.join(left_out[:5])}\nfits: file names that DVC does not ignore\nrename them"
        )
    return [*sorted(set(files.values())), directory]


def _is_whole(remote: Remote, md5: str) -> bool:
    try:
        check_object(remote, md5)
    except DamagedObject:
        return False
    return True


@contextmanager
def scratch() -> Iterator[Path]:
    """A temporary folder in ORCHARD_HOME; what a killed process left is removed by the next."""
    home = settings().home / "scratch"
    home.mkdir(parents=True, exist_ok=True)
    _sweep(home)
    with tempfile.TemporaryDirectory(dir=home, ignore_cleanup_errors=True) as folder:
        place = Path(folder)
        with (place / ".in-use").open("w") as mark:
            fcntl.flock(mark, fcntl.LOCK_EX)
            yield place


def _sweep(home: Path) -> None:
    for left in home.iterdir():
        with suppress(OSError), (left / ".in-use").open() as mark:
            if time.time() - os.stat(mark.fileno()).st_mtime < _SETTLED_SECONDS:
                continue  # its process may be about to lock it
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails where its process lives
            shutil.rmtree(left, ignore_errors=True)


def _prepare(place: Path, remote: Remote) -> None:
    """Makes a DVC repository without git, whose cache goes when the folder goes."""
    (place / ".dvc").mkdir()
    (place / ".dvc" / "config").write_text(remote_config(remote))
    patience = "    connect_timeout = 5\n    read_timeout = 60\n" if isinstance(remote, S3Remote) else ""
    (place / ".dvc" / "config.local").write_text(
        f"[core]\n    no_scm = true\n[cache]\n    type = hardlink,copy\n"
        f"[{_SECTION}]\n    url = {remote.url}\n{patience}"
    )


def _try(place: Path, program: str, name: str, seconds: float) -> RegistryError | None:
    """What went wrong, if anything did: damaged objects may be the reason, and can be removed."""
    try:
        _dvc(place, program, name, seconds)
    except RegistryError as error:
        return error
    return None


def _dvc(place: Path, program: str, name: str, seconds: float) -> None:
    """DVC in a process of its own: it gets its own environment, and can be given up on."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", program, name],
            cwd=place,
            env=dvc_environment(place),
            capture_output=True,
            text=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise RegistryError(
            f"DVC did not push {name} within {seconds:.0f} s\nsee whether the remote answers: orchard doctor"
        ) from None
    if done.returncode:
        said = [line for line in hide_secrets(done.stderr).splitlines() if line.startswith("ERROR")]
        raise RegistryError(
            "\n".join([f"DVC could not push {name}", *said[-6:], "see whether the remote answers: orchard doctor"])
        )
