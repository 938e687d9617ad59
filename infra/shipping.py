"""The code of a job on machines that have no checkout: the packages that a job imports, without what git ignores.

Ray names what it ships by its content, so that runs of different commits at once do not mix.
"""

import hashlib
import shutil
from contextlib import suppress
from pathlib import Path

from infra import git, leftovers, manifests
from infra.settings import ROOT, settings

_PACKAGES = ("infra", "models")
_NOT_CODE = {"__pycache__"}


def code_folder() -> Path:
    """A folder with the code as it is now, changes that are not committed too; no data, state, or secrets."""
    above = settings().home / "code"
    with manifests.draft_of(above / "new") as draft:
        digest = hashlib.sha256()
        for name in _files():
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, draft / name)
            # Of the copy: somebody may be writing in the file that it is of.
            digest.update(f"{name}\0{manifests.sha256_of(draft / name)}\n".encode())
        folder = above / digest.hexdigest()[:16]
        leftovers.use(folder)
        with suppress(OSError):  # a folder that is there has the same content, and somebody may be reading it
            draft.rename(folder)
    assert folder.is_dir()
    return folder


def _files() -> list[str]:
    """The files of the packages that git does not ignore; where this is no checkout, those that are not hidden."""
    if (ROOT / ".git").exists():
        known = git.run("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *_PACKAGES, folder=ROOT)
        names = [name for name in known.split("\0") if name]
    else:
        there = [path.relative_to(ROOT) for package in _PACKAGES for path in (ROOT / package).rglob("*")]
        names = [path.as_posix() for path in there if not any(_is_no_code(part) for part in path.parts)]
    return sorted(name for name in names if (ROOT / name).is_file() and _is_inside(ROOT / name))


def _is_no_code(part: str) -> bool:
    return part in _NOT_CODE or part.startswith(".")


def _is_inside(file: Path) -> bool:
    """Whether it is no link to a file of somewhere else."""
    return file.resolve().is_relative_to(ROOT.resolve())
