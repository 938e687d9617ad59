"""git, run so that it never asks, never hangs, and does not see what a user has set for other repositories."""

import os
import re
import signal
import subprocess
import uuid
from pathlib import Path

from infra.settings import git_environment, settings

LOCAL_SECONDS = 60.0
NETWORK_SECONDS = 120.0

# Every repository that git is run in is a clone of ours or the registry that the settings name: hence safe.directory.
_OURS = """[core]
\thooksPath = /dev/null
\tattributesFile = /dev/null
\texcludesFile = /dev/null
\tautocrlf = false
\tfsmonitor = false
[init]
\tdefaultBranch = main
\ttemplateDir =
[commit]
\tgpgSign = false
[tag]
\tgpgSign = false
[push]
\tgpgSign = false
\tfollowTags = false
[gc]
\tauto = 0
[maintenance]
\tauto = false
[safe]
\tdirectory = *
[http]
\tlowSpeedLimit = 1
\tlowSpeedTime = 10
"""
# Over a network the user's own configuration comes first: it knows the proxy and where passwords are kept.
_USERS = "[include]\n\tpath = ~/.config/git/config\n\tpath = ~/.gitconfig\n"


class GitError(Exception):
    """What git said when it failed."""


def run(
    *arguments: str, folder: Path, network: bool = False, seconds: float | None = None, when: int | None = None
) -> str:
    """What git prints, as text; see `run_bytes`."""
    output = run_bytes(*arguments, folder=folder, network=network, seconds=seconds, when=when)
    return output.decode(errors="replace").strip()


def run_bytes(
    *arguments: str,
    folder: Path,
    network: bool = False,
    stdin: bytes = b"",
    seconds: float | None = None,
    when: int | None = None,
) -> bytes:
    """What `git ARGUMENTS` prints in `folder`; `network` lets it use the user's proxy and stored passwords.

    `when` is the time that a commit or tag carries. Raises GitError where git fails, is missing or takes too long.
    """
    environment = git_environment(_configuration(network), folder.absolute().parent)
    if when is not None:
        environment |= {"GIT_AUTHOR_DATE": f"@{when} +0000", "GIT_COMMITTER_DATE": f"@{when} +0000"}
    seconds = seconds or (NETWORK_SECONDS if network else LOCAL_SECONDS)
    try:
        process = subprocess.Popen(
            ["git", "-C", str(folder), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # so that its transports end with it
        )
    except FileNotFoundError:
        raise GitError("git is not installed") from None
    try:
        output, said = process.communicate(stdin, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise GitError(f"no answer within {seconds:.0f} s") from None
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    if process.returncode:
        raise GitError(hide_secrets(said.decode(errors="replace").strip()) or f"git ended with {process.returncode}")
    return output


def local_folder(address: str) -> Path | None:
    """The folder that a registry's address names; None where it lies over a network."""
    if address.startswith("file://"):
        return Path(address.removeprefix("file://"))
    if "://" in address or re.match(r"[^/]+:", address):
        return None
    return Path(address).expanduser().absolute()


def is_bare_repository(folder: Path) -> bool:
    try:
        return run("--git-dir=.", "rev-parse", "--is-bare-repository", folder=folder) == "true"
    except GitError:
        return False


def hide_secrets(text: str) -> str:
    """The text without the user names and passwords that addresses can carry."""
    return re.sub(r"(\w+://)[^/\s@]+@", r"\1***@", text)


def _configuration(network: bool) -> Path:
    """The file that stands in for the user's ~/.gitconfig."""
    text = _USERS * network + _OURS
    file = settings().home / "git" / ("network.config" if network else "local.config")
    if not file.exists() or file.read_text() != text:
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
        draft.write_text(text)
        draft.replace(file)
    return file
