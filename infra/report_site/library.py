"""The registry's versions and what each says of itself; read again when they may have changed, and only then."""

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from infra import artifacts, manifests
from infra.artifacts import Found, Version
from infra.artifacts_versions import choose, parse_spec
from infra.report_site.kept_files import folder_of, keep, read_kept
from models.common.errors import RegistryError
from models.common.report import Report

PAGE = "report.html"
_TOLD = ("config.json", "lineage.json", "metrics.json", "report.json")
_FRESH_SECONDS = 2.0
_PART_OF_TIME = 10  # a registry over a network takes seconds to read: at most a tenth of the time goes there


@dataclass(frozen=True)
class Listing:
    """All versions, newest first, as the registry had them when it last answered."""

    versions: tuple[Version, ...] = ()
    problem: str = ""  # why the registry does not answer now

    def named(self, name: str) -> list[Version]:
        return [version for version in self.versions if version.name == name]


@dataclass(frozen=True)
class Facts:
    """What a version says of itself; empty where `problem` says why there is nothing, or less."""

    version: Version
    files: dict[str, int] = field(default_factory=dict)  # bytes by name
    config: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    lineage: dict[str, Any] = field(default_factory=dict)
    report: Report | None = None
    problem: str = ""

    @property
    def spec(self) -> str:
        return f"{self.version.name}@{self.version.version}"

    @property
    def trouble(self) -> str:
        """The problem, with the version that it is of in it."""
        return self.problem if not self.problem or self.spec in self.problem else f"{self.spec}: {self.problem}"

    @property
    def workload(self) -> str:
        return str(self.lineage.get("workload") or (self.report.workload if self.report else self.version.name))


class Library:
    """What the pages are made of. Threads share one: the registry is read by one of them at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listing = Listing()
        self._read_at = ""
        self._fresh_until = 0.0

    def listing(self) -> Listing:
        """All versions. Where the registry does not answer, those that it had when it last did."""
        with self._lock:
            began = time.monotonic()
            if began >= self._fresh_until:
                self._listing = self._read()
                took = time.monotonic() - began
                self._fresh_until = time.monotonic() + max(_FRESH_SECONDS, _PART_OF_TIME * took)
            return self._listing

    def forget(self) -> None:
        """Lets the next question read the registry again."""
        self._fresh_until = 0.0

    def _read(self) -> Listing:
        try:
            versions = tuple(artifacts.versions())
        except RegistryError as error:
            when = f"shown is what it had at {self._read_at}" if self._read_at else "nothing is known of it yet"
            return Listing(self._listing.versions, f"{error}\n{when}")
        self._read_at = datetime.now(UTC).strftime("%H:%M:%S UTC")
        return Listing(versions)

    def find(self, spec: str) -> Version:
        """The version that `relay@v0.1.0`, `relay#champion` or `relay` names; raises RegistryError."""
        listing = self.listing()
        if listing.problem and not listing.versions:
            raise RegistryError(listing.problem)
        return choose(list(listing.versions), *parse_spec(spec))

    def page(self, version: Version) -> bytes:
        """The version's report page, verified; raises RegistryError."""
        (found,) = _files([version], (PAGE,))
        if isinstance(found, RegistryError):
            raise found
        if PAGE not in found:
            raise RegistryError(
                f"{version.name}@{version.version} has no {PAGE}\nfits: a version of a workload's run\n"
                f"see its files: orchard pull {version.name}@{version.version}"
            )
        return found[PAGE]

    def page_file(self, version: Version) -> Path:
        """The file in which this machine keeps the version's report page; raises RegistryError."""
        self.page(version)
        folder = folder_of(version)
        assert folder is not None, "a version whose page was verified has a hash"
        return folder / PAGE

    def facts(self, version: Version) -> Facts:
        """All that the version says of itself."""
        (found,) = _files([version], _TOLD)
        return _facts(version, found)

    def lineages(self, versions: Sequence[Version]) -> list[Facts]:
        """What each version says of where it comes from."""
        found = _files(versions, ("lineage.json",))
        return [_facts(version, each) for version, each in zip(versions, found, strict=True)]


def _files(versions: Sequence[Version], names: tuple[str, ...]) -> list[Found]:
    """The files of each version: those kept here, and the others fetched, verified and kept."""
    found: list[Found | None] = [read_kept(version, names) for version in versions]
    missing = [place for place, each in enumerate(found) if each is None]
    if missing:
        try:
            fetched = artifacts.read_many([versions[place] for place in missing], (*names, manifests.MANIFEST))
        except RegistryError as error:
            fetched = [error] * len(missing)
        for place, each in zip(missing, fetched, strict=True):
            if isinstance(each, dict):
                keep(versions[place], each)
            found[place] = each
    return [each for each in found if each is not None]


def _facts(version: Version, found: Found) -> Facts:
    if isinstance(found, RegistryError):
        return Facts(version, problem=str(found))
    problem, report = "", None
    if "report.json" in found:
        try:
            report = Report.model_validate_json(found["report.json"])
        except ValidationError as fault:
            problem = (
                f"this Orchard cannot read its report.json ({fault.error_count()} fields do not fit): "
                "another release wrote it; its page is whole"
            )
    listed = manifests.parse_manifest(found[manifests.MANIFEST])["files"]
    return Facts(
        version,
        files={name: about["bytes"] for name, about in listed.items()},
        config=_object(found.get("config.json")),
        metrics=_object(found.get("metrics.json")),
        lineage=_object(found.get("lineage.json")),
        report=report,
        problem=problem,
    )


def _object(text: bytes | None) -> dict[str, Any]:
    """The JSON object that this is; an empty one where it is none."""
    try:
        value = json.loads(text or b"{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
