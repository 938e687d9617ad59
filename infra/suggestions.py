"""Names that a shell completes: what is found within a tenth of a second, without the network and without DVC."""

import glob
import re

from infra import git
from infra.git import GitError
from infra.settings import settings

_VERSION = re.compile(r"(?P<name>[^@#]+)@v[^!]+")
_STAGE = re.compile(r"(?P<name>[^@#]+)#(?P<stage>[^#!]+)(#\d+)?")
_MOST_RUNS = 40


def run_names() -> list[str]:
    """The runs of this machine, newest first."""
    folders = [file for file in settings().runs.glob("*") if file.is_dir()]
    folders.sort(key=lambda folder: folder.stat().st_mtime, reverse=True)
    return [folder.name for folder in folders[:_MOST_RUNS]]


def stages(run_name: str) -> list[str]:
    """Those that the run has begun."""
    return sorted(file.parent.name for file in settings().runs.glob(f"{glob.escape(run_name)}/*/events.jsonl"))


def artifact_names() -> list[str]:
    return sorted({spec.partition("@")[0] for spec in versions()})


def versions() -> list[str]:
    """`relay@v0.2.0`, newest first: those of a registry on this machine's disks, or else those that were pulled."""
    labels = _tags()
    if labels is None:
        return [f"{folder.parent.name}@{folder.name}" for folder in settings().home.glob("artifacts/*/v*")]
    taken_back = {label.removesuffix("!") for label in labels if label.endswith("!")}
    return [label for label in labels if _VERSION.fullmatch(label) and label not in taken_back]


def held_stages() -> list[str]:
    """`relay#champion`, each that was assigned."""
    found = (_STAGE.fullmatch(label) for label in _tags() or [])
    return sorted({f"{stage['name']}#{stage['stage']}" for stage in found if stage})


def _tags() -> list[str] | None:
    """The registry's tags, newest first; None where it lies over a network."""
    folder = git.local_folder(settings().registry)
    if folder is None:
        return None
    try:
        listed = git.run(
            "for-each-ref", "--sort=-taggerdate", "--format=%(refname:lstrip=2)", "refs/tags", folder=folder
        )
    except GitError:  # there is no registry yet
        return []
    return listed.splitlines()
