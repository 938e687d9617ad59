"""Who held a stage, and when: what the registry's tags tell, and what a rollback goes back to."""

from collections.abc import Sequence
from datetime import UTC, datetime

from infra import artifacts_registry as registry
from infra.artifacts_versions import Version, choose, read_tags, read_versions
from models.common.config import Config
from models.common.errors import RegistryError


class Holder(Config):
    """A version that was given a stage."""

    version: str  # such as "v0.3.0"
    since: str  # such as "2026-11-21T09:30:00Z"
    taken_back: bool  # one from before it was given the stage again, or the stage was taken from it


def history(name: str, stage: str = "champion") -> list[Holder]:
    """Each version that was given the stage, newest first; versions that were taken out of the registry are left out.

    Raises RegistryError.
    """
    with registry.reading() as repository:
        if repository is None:
            return []
        versions = {found.commit: found.version for found in read_versions(repository, name)}
        tags = [tag for tag in read_tags(repository) if (tag.name, tag.stage) == (name, stage)]
    given = [(tag, versions[tag.commit]) for tag in tags if tag.commit in versions]
    line = _line([(version, tag.removes) for tag, version in given])
    return [
        Holder(
            version=version,
            since=datetime.fromtimestamp(tag.time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            taken_back=version not in line,
        )
        for tag, version in reversed(given)
        if not tag.removes
    ]


def rollback(name: str, stage: str = "champion") -> Version:
    """The version that held the stage before the one that holds it, which holds it again from now on.

    Repeated, it goes back one more each time. Raises RegistryError where there was none before.
    """
    with registry.reading() as repository:
        now = choose(read_versions(repository), name, stage=stage).version
    line = _line([(holder.version, False) for holder in reversed(history(name, stage)) if not holder.taken_back])
    before = line[: line.index(now)] if now in line else line
    if not before:
        raise RegistryError(
            f"no version was {stage} of {name} before {now}\nfits: a stage that was given to two versions or more\n"
            f"see: orchard list {name}; then name one: orchard promote {name}@VERSION --stage {stage}"
        )
    return registry.assign(name, before[-1], stage, instead_of=now)


def _line(given: Sequence[tuple[str, bool]]) -> list[str]:
    """The versions that followed each other, oldest first, without those that were gone back from.

    given: versions in the order of time, and whether the stage was taken from it rather than given to it.
    """
    line: list[str] = []
    for version, removed in given:
        if removed:
            line = (
                line[:-1] if line[-1:] == [version] else line
            )  # taken from one who had it no longer, it means nothing
        elif version in line:
            line = line[: line.index(version) + 1]
        else:
            line.append(version)
    return line
