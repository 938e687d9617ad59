"""What determines the result of a run: code, lock, data, config, seed. Equal fingerprints train equal versions.

It is not the commit: that changes with a page of documentation, and does not with an edit that nobody committed.
"""

import ast
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from infra import datasets, lineage
from infra.manifests import sha256_of
from infra.settings import ROOT
from models.common.config import Config
from models.common.contract import DataConfig, WorkloadConfig

FINGERPRINT_FILE = "fingerprint.json"
# What of this layer takes part in a number; the rest carries, shows and stores.
_COMPUTING = ("infra/collectives.py", "infra/engine.py", "infra/worker.py")
_MOST_NAMES = 3


class Fingerprint(Config):
    """SHA-256 of everything that a run was made of. None: it changed while the run was under way."""

    code: dict[str, str] | None  # by file in the repository; of what it does: comments and docstrings do not count
    lock: str | None
    data: str | None  # of the user's files, their names included; the names stay here, as they may tell of patients
    data_files: int
    config: str | None
    seed: int


def fingerprint_of(workload: str, config: WorkloadConfig, seed: int) -> Fingerprint:
    """The fingerprint of a run that would start now; raises DataError where a source file is not there."""
    return Fingerprint(
        code=_code(workload),
        lock=lineage.code()["lock_sha256"],
        data=_of_values(sources := _sources(config)),
        data_files=len(sources),
        config=_of_values(training_part(config.model_dump(mode="json"))),
        seed=seed,
    )


def changes(before: Any, now: Fingerprint, config_before: Mapping[str, Any], config: WorkloadConfig) -> tuple[str, ...]:
    """What differs between a version and a run that would start now, a line a part; nothing where it would be alike.

    before, config_before: of the version's folder, as they were published.
    """
    try:
        then = Fingerprint.model_validate(before)
    except ValidationError:
        return ("its lineage has no fingerprint that this code can read",)
    told: list[str] = []
    if then.code != now.code:
        told.append(f"code: {_names(_differing(then.code, now.code))}")
    if then.lock != now.lock:
        told.append(f"lock: {_short(then.lock)} -> {_short(now.lock)}")
    if then.data != now.data:
        told.append(f"data: {_counted(then)} -> {_counted(now)}")
    if then.config != now.config:
        both = training_part(config_before), training_part(config.model_dump(mode="json"))
        told.append(f"config: {_names(list(_fields(*both)))}")
    if then.seed != now.seed:
        told.append(f"seed: {then.seed} -> {now.seed}")
    return tuple(told)


def training_part(config: Mapping[str, Any]) -> dict[str, Any]:
    """A workload's config without what decides on promotion: that is no reason to train again."""
    return {name: value for name, value in config.items() if name != "promotion"}


def keep(folder: Path, fingerprint: Fingerprint) -> None:
    """Notes in a run's folder what the run begins with, unless an earlier attempt has."""
    file = folder / FINGERPRINT_FILE
    if not file.exists():
        draft = file.with_suffix(".partial")
        draft.write_text(fingerprint.model_dump_json(indent=1) + "\n")
        draft.rename(file)


def kept(folder: Path, now: Fingerprint) -> Fingerprint:
    """What a run was made of: what it began with, without the parts that have changed before it ended."""
    file = folder / FINGERPRINT_FILE
    if not file.exists():
        return now
    began = Fingerprint.model_validate_json(file.read_text())
    return began.but(
        **{part: None for part in ("code", "lock", "data", "config") if getattr(began, part) != getattr(now, part)}
    )


def shortened(history: Mapping[str, Any]) -> dict[str, Any]:
    """A version's lineage for a page: one hash in place of that of each file of the code."""
    made_of = history.get("fingerprint")
    if not made_of or not made_of["code"]:
        return dict(history)
    code = f"{len(made_of['code'])} files with SHA-256 {_of_values(made_of['code'])}"
    return {**history, "fingerprint": {**made_of, "code": code}}


def _code(workload: str) -> dict[str, str]:
    """The workload's own files, what they import of `models`, its flow, and what computes in the frame."""
    waiting = [file for file in (ROOT / "models" / workload).rglob("*") if _counts(file)]
    waiting += [ROOT / name for name in (f"flows/{workload}.py", *_COMPUTING)]
    found: dict[str, str] = {}
    while waiting:
        file = waiting.pop()
        name = file.relative_to(ROOT).as_posix()
        if name in found or not file.is_file():
            continue
        if file.suffix == ".py":
            tree = ast.parse(file.read_text())
            found[name] = _meaning(tree)
            waiting += _imported(tree) if name.startswith("models/") else ()
        else:
            found[name] = sha256_of(file)
    return dict(sorted(found.items()))


def _counts(file: Path) -> bool:
    return file.is_file() and file.suffix not in {".md", ".pyc"}


def _imported(tree: ast.Module) -> Iterator[Path]:
    """The files of `models` that a module imports anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for path in (ROOT / name.replace(".", "/") for name in names if name.startswith("models.")):
            yield path.with_suffix(".py")
            yield path / "__init__.py"


def _meaning(tree: ast.Module) -> str:
    """SHA-256 of what a module does: without its comments, docstrings and layout, which are lost here."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and _docstring(node):
            node.body = node.body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return ast.get_docstring(node, clean=False) is not None


def _sources(config: WorkloadConfig) -> dict[str, str]:
    hashes: dict[str, str] = {}
    for _, value in config:
        if isinstance(value, DataConfig):
            hashes |= datasets.source_hashes(value)
    return hashes


def _of_values(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _differing(before: Mapping[str, str] | None, now: Mapping[str, str] | None) -> list[str]:
    if before is None or now is None:
        return ["changed while that run was under way"]
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))


def _fields(before: Any, now: Any, path: str = "") -> Iterator[str]:
    """Each field in which two configs differ, with both values."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in sorted(before.keys() | now.keys()):
            yield from _fields(before.get(name), now.get(name), f"{path}.{name}".strip("."))
    elif before != now:
        yield f"{path} {json.dumps(before)[:40]} -> {json.dumps(now)[:40]}"


def _names(names: list[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _counted(found: Fingerprint) -> str:
    return f"{found.data_files} files with SHA-256 {_short(found.data)}"


def _short(sha256: str | None) -> str:
    return sha256[:12] if sha256 else "unknown"
