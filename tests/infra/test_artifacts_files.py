"""Single files of a version are read without the rest of it, and only where its manifest vouches for them."""

from pathlib import Path

import pytest

from infra import artifacts
from infra.artifacts import Version
from models.common.errors import RegistryError
from tests.fixtures.many_versions import Published, damage, write_registry
from tests.fixtures.registry import an_artifact, published
from tests.fixtures.s3 import S3Server

NAMES = ("lineage.json", "metrics.json", "no-such-file.json")


def _versions(*specs: str) -> list[Version]:
    known = {f"{version.name}@{version.version}": version for version in artifacts.versions()}
    return [known[spec] for spec in specs]


def test_the_files_of_a_version_are_read_without_its_weights(home: Path, tmp_path: Path) -> None:
    folder = an_artifact(tmp_path / "run")
    published(folder)
    for file in (home / "remote" / "files" / "md5").rglob("*"):
        if file.is_file() and file.stat().st_size == 300_000:
            file.unlink()
    found = artifacts.read_files("relay", ["lineage.json", "figures/é and space.svg", "metrics.json"])
    assert found == {name: (folder / name).read_bytes() for name in ("lineage.json", "figures/é and space.svg")}
    with pytest.raises(RegistryError, match="no object"):
        artifacts.read_files("relay", ["weights.safetensors"])


def test_the_files_of_a_version_on_s3_are_read(s3: S3Server, home: Path, tmp_path: Path) -> None:
    published(an_artifact(tmp_path / "run"))
    artifacts.promote("relay", "v0.1.0")
    assert artifacts.read_files("relay#champion", ["lineage.json"]) == {"lineage.json": b'{"seed": 7}\n'}


def test_a_damaged_version_is_told_and_the_others_are_read(home: Path) -> None:
    places = write_registry(
        home,
        [
            Published("relay", "v0.1.0"),
            Published("relay", "v0.2.0", lineage={"seed": 2}),
            Published("relay", "v0.3.0", foreign=True),
        ],
    )
    damage(home, places["relay@v0.2.0"]["lineage.json"])
    whole, damaged, foreign = artifacts.read_many(_versions("relay@v0.1.0", "relay@v0.2.0", "relay@v0.3.0"), NAMES)
    assert isinstance(whole, dict)
    assert set(whole) == {"lineage.json", "metrics.json"}
    assert isinstance(damaged, RegistryError)
    assert "was altered" in str(damaged)
    assert isinstance(foreign, RegistryError)
    assert "was not registered by Orchard" in str(foreign)
    assert "dvc artifacts get" in str(foreign)


def test_another_versions_files_do_not_stand_in_for_it(home: Path) -> None:
    """Whoever can write the registry's DVC files points a version at other bytes that agree with each other."""
    write_registry(home, [Published("relay", "v0.1.0"), Published("relay", "v0.2.0", lineage={"seed": 2})])
    first, second = _versions("relay@v0.1.0", "relay@v0.2.0")
    (found,) = artifacts.read_many([first.but(commit=second.commit)], NAMES)
    assert isinstance(found, RegistryError)
    assert "another manifest than was registered" in str(found)


def test_a_version_that_does_not_exist_is_answered_with_what_does(home: Path) -> None:
    with pytest.raises(RegistryError, match="no artifact 'relay'"):
        artifacts.read_files("relay", NAMES)
    write_registry(home, [Published("relay", "v0.1.0")])
    with pytest.raises(RegistryError, match=r"did you mean 'v0\.1\.0'"):
        artifacts.read_files("relay@v0.1.1", NAMES)
