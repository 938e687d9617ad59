"""What the registry says: versions and stages from gto's tags, and what each version's commit holds."""

import json
import logging.config
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from infra import git
from infra.git import GitError
from infra.settings import settings
from models.common.config import Config, explain_validation, unknown
from models.common.errors import RegistryError

NAME = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9_-]*[a-zA-Z0-9])?")  # gto's, without its folders
RECORD = "{name}.json"


class Version(Config):
    """A registered version, as the registry tells of it."""

    name: str
    version: str  # such as "v0.3.0"
    stages: tuple[str, ...]  # such as ("champion",)
    commit: str  # of the registry
    published: str  # such as "2026-11-21T09:30:00Z"
    run_key: str  # this and what follows is empty where a version was not registered by Orchard
    preset: str
    seed: int | None
    summary: str
    sha256: str  # of the artifact's manifest


@dataclass(frozen=True)
class Tag:
    name: str
    version: str | None
    stage: str | None
    removes: bool  # a version or stage that was taken back
    counter: int
    commit: str
    time: int

    @property
    def place(self) -> tuple[str, str]:
        return self.name, self.commit


def read_versions(registry: Path | None, name: str | None = None) -> list[Version]:
    """All versions of one artifact or of all, oldest first."""
    if registry is None:
        return []
    tags = [tag for tag in read_tags(registry) if name in (None, tag.name)]
    registered = _registered(tags)
    stages = _stages(tags)
    records = _records(registry, registered)
    return [_version(tag, stages, record) for tag, record in zip(registered, records, strict=True)]


def _version(tag: Tag, stages: dict[tuple[str, str], str], record: dict[str, Any]) -> Version:
    try:
        return Version(
            name=tag.name,
            version=tag.version or "",
            stages=tuple(stage for (name, stage), commit in sorted(stages.items()) if (name, commit) == tag.place),
            commit=tag.commit,
            published=datetime.fromtimestamp(tag.time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            seed=record.get("seed"),
            **{field: record.get(field) or "" for field in ("run_key", "preset", "summary", "sha256")},
        )
    except ValidationError as fault:
        raise RegistryError(
            f"{explain_validation(fault, f'the record of {tag.name}@{tag.version}')}\n"
            "fits: a record that Orchard wrote\n"
            f"take that version back: git tag -a '{tag.name}@{tag.version}!' -m 'no record of Orchard'"
        ) from None


def read_file(registry: Path, commit: str, path: str) -> str:
    """A file as a commit has it; raises RegistryError."""
    return ask("cat-file", "blob", f"{commit}:{path}", folder=registry)


def head_file(registry: Path, path: str) -> str | None:
    """A file as the registry has it now; None where it has none."""
    try:
        return git.run("cat-file", "blob", f"HEAD:{path}", folder=registry)
    except GitError:
        return None


def find_run(versions: list[Version], run_key: str) -> Version | None:
    return next((version for version in versions if version.run_key == run_key), None)


def choose(versions: list[Version], name: str, version: str | None = None, stage: str | None = None) -> Version:
    """The version asked for, else the latest; raises RegistryError naming what exists."""
    where = git.hide_secrets(settings().registry)
    ours = [found for found in versions if found.name == name]
    if not ours:
        raise RegistryError(
            f"{unknown('artifact', name, sorted({found.name for found in versions}), where=where)}\n"
            "publish one: orchard run WORKLOAD; or set ORCHARD_REGISTRY"
        )
    if stage is not None:
        held = {held: found for found in ours for held in found.stages}
        if stage not in held:
            raise RegistryError(
                f"{unknown(f'stage of {name}', stage, sorted(held), where=where)}\n"
                f"assign it: orchard promote {name}@VERSION --stage {stage}"
            )
        return held[stage]
    if version is None:
        return max(ours, key=lambda found: _numbers(found.version))
    if version not in (names := [found.version for found in ours]):
        raise RegistryError(f"{unknown(f'version of {name}', version, names, where=where)}\nsee: orchard list {name}")
    return ours[names.index(version)]


def parse_spec(spec: str) -> tuple[str, str | None, str | None]:
    """Name, version and stage of `relay`, `relay@v0.1.0` or `relay#champion`; raises RegistryError."""
    name, at, version = spec.partition("@")
    name, hash_sign, stage = (name, "", "") if at else spec.partition("#")
    if (at and not version) or (hash_sign and not stage):
        raise RegistryError(f"'{spec}' names no version\nfits: relay, relay@v0.1.0, relay#champion")
    require_name(name)
    return name, version or None, stage or None


def require_name(name: str) -> None:
    """Raises RegistryError where this cannot be the name of an artifact or a stage."""
    if not NAME.fullmatch(name):
        raise RegistryError(
            f"'{name}' cannot name an artifact or a stage\nfits: letters, digits, '-' and '_', with a letter or digit "
            "first and last\nname it otherwise"
        )


def next_version(tags: list[Tag], name: str) -> str:
    """One minor version above all that were ever registered, also those taken back."""
    numbers = [_numbers(tag.version) for tag in tags if tag.name == name and tag.version]
    major, minor, _ = max(numbers, default=(0, 0, 0))
    return f"v{major}.{minor + 1}.0"


def read_tags(registry: Path) -> list[Tag]:
    """All tags that gto would read, in the order in which it would."""
    form = "%(refname:lstrip=2)%00%(*objectname)%00%(taggerdate:unix)"
    lines = ask("for-each-ref", f"--format={form}", "refs/tags", folder=registry).splitlines()
    tags = [_tag(*line.split("\0")) for line in lines]
    return sorted((tag for tag in tags if tag), key=lambda tag: (tag.time, tag.counter))


def _tag(label: str, commit: str, seconds: str) -> Tag | None:
    """None for a tag that gto would not read, or that is not annotated: DVC passes over those."""
    parse_name, taking_back = _gto()
    said = parse_name(label, raise_on_fail=False)
    if not commit or not (said.get("version") or said.get("stage")):
        return None
    return Tag(
        name=said["name"],
        version=said.get("version"),
        stage=said.get("stage"),
        removes=said["action"] in taking_back,
        counter=said.get("counter", 0),
        commit=commit,
        time=int(seconds),
    )


@cache
def _gto() -> tuple[Callable[..., dict[str, Any]], frozenset[Any]]:
    """gto's reader of tags' names, and its actions that take a version or a stage back."""
    with _logging_left_alone():
        from gto.constants import Action  # here: a third of a second
        from gto.tag import parse_name

    return parse_name, frozenset((Action.DEREGISTER, Action.UNASSIGN))


@contextmanager
def _logging_left_alone() -> Iterator[None]:
    """Keeps a package from configuring logging when it is imported, as gto does.

    That flushes every handler while logging's lock is held. Prefect's handler then waits for a thread that wants the
    lock, and a flow that publishes stands still for ever, now and then.
    """
    configure = logging.config.dictConfig
    logging.config.dictConfig = lambda config: None
    try:
        yield
    finally:
        logging.config.dictConfig = configure


def _registered(tags: list[Tag]) -> list[Tag]:
    taken_back = {(tag.name, tag.version) for tag in tags if tag.version and tag.removes}
    kept = [tag for tag in tags if tag.version and (tag.name, tag.version) not in taken_back]
    return sorted(kept, key=lambda tag: (tag.name, _numbers(tag.version)))


def _stages(tags: list[Tag]) -> dict[tuple[str, str], str]:
    """The commit that holds each artifact's stage now."""
    held: dict[tuple[str, str], str] = {}
    for tag in tags:
        if tag.stage and tag.removes and held.get((tag.name, tag.stage)) == tag.commit:
            del held[tag.name, tag.stage]
        elif tag.stage and not tag.removes:
            held[tag.name, tag.stage] = tag.commit
    return held


def _records(registry: Path, tags: list[Tag]) -> list[dict[str, Any]]:
    """What each version's commit says of it; nothing where it was registered by other means."""
    records = read_blobs(registry, [(tag.commit, RECORD.format(name=tag.name)) for tag in tags])
    return [{} if record is None else _loaded(record) for record in records]


def read_blobs(registry: Path, places: list[tuple[str, str]]) -> list[bytes | None]:
    """The file at each commit and path, all from one git; None where there is none."""
    asked = "".join(f"{commit}:{path}\n" for commit, path in places)
    answer = git.run_bytes("cat-file", "--batch", folder=registry, stdin=asked.encode())
    found: list[bytes | None] = []
    for _ in places:
        head, _, answer = answer.partition(b"\n")
        if head.endswith(b"missing"):
            found.append(None)
        else:
            size = int(head.split()[-1])
            found.append(answer[:size])
            answer = answer[size + 1 :]
    return found


def _loaded(text: bytes) -> dict[str, Any]:
    try:
        record = json.loads(text)
    except ValueError:
        record = None
    return record if isinstance(record, dict) else {}


def _numbers(version: str | None) -> tuple[int, int, int]:
    major, minor, patch = (version or "v0.0.0")[1:].split("-")[0].split("+")[0].split(".")
    return int(major), int(minor), int(patch)


def ask(
    *arguments: str, folder: Path, network: bool = False, seconds: float | None = None, when: int | None = None
) -> str:
    """What git prints; raises RegistryError."""
    try:
        return git.run(*arguments, folder=folder, network=network, seconds=seconds, when=when)
    except GitError as error:
        raise explained(error) from None


def explained(error: GitError) -> RegistryError:
    return RegistryError(
        f"git could not work with the registry {git.hide_secrets(settings().registry)}\n{error}\n"
        "fits: a git repository that this user may read and push to without being asked for a password\n"
        "see ORCHARD_REGISTRY, and: orchard doctor"
    )
