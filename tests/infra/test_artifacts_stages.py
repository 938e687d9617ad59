"""A stage's history is what was assigned, and a rollback goes back in it, as plain DVC and gto see too."""

import subprocess
import sys
from pathlib import Path

import pytest

from infra import artifacts_registry, artifacts_stages
from infra.artifacts_stages import history, rollback
from infra.git import run
from models.common.errors import RegistryError
from tests.fixtures.registry import an_artifact, published


@pytest.fixture
def registry(home: Path, tmp_path: Path) -> Path:
    """A registry with four versions of relay, as gto would register them; none has a stage."""
    work = tmp_path / "work"
    run("init", "--quiet", "-b", "main", str(work), folder=tmp_path)
    for number in range(1, 5):
        run("commit", "--quiet", "--allow-empty", "-m", f"version {number}", folder=work)
        run("tag", "--annotate", "-m", "registered", f"relay@v0.{number}.0", folder=work)
    run("clone", "--quiet", "--bare", str(work), str(home / "registry.git"), folder=tmp_path)
    return home / "registry.git"


def assign(*numbers: int) -> None:
    for number in numbers:
        artifacts_registry.assign("relay", f"v0.{number}.0", "champion")


def held() -> list[str]:
    return [holder.version for holder in history("relay")]


def test_a_rollback_goes_back_one_more_each_time(registry: Path) -> None:
    assign(1, 2, 3)
    assert rollback("relay").version == "v0.2.0"
    assert rollback("relay").version == "v0.1.0"
    with pytest.raises(RegistryError, match=r"no version was champion of relay before v0\.1\.0"):
        rollback("relay")
    assert held() == ["v0.1.0", "v0.2.0", "v0.3.0", "v0.2.0", "v0.1.0"]
    assert {holder.version for holder in history("relay") if holder.taken_back} == {"v0.2.0", "v0.3.0"}


def test_dvc_alone_gets_the_version_that_was_gone_back_to(home: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        published(an_artifact(tmp_path / str(number), number), f"run-{number}")
    assign(1, 2)
    rollback("relay")
    of = str(home / "registry.git")
    get = [sys.executable, "-m", "dvc", "artifacts", "get", of, "relay", "--stage", "champion", "-o", "out"]
    subprocess.run(get, cwd=tmp_path, check=True, capture_output=True)
    pulled = (tmp_path / "out" / "weights.safetensors").read_bytes()
    assert pulled == (tmp_path / "1" / "weights.safetensors").read_bytes()


def test_what_was_gone_back_from_is_not_gone_back_to(registry: Path) -> None:
    assign(1, 2)
    rollback("relay")
    assign(3)
    assert rollback("relay").version == "v0.1.0"
    assign(2, 4)
    assert [holder.version for holder in history("relay") if holder.taken_back] == ["v0.3.0"]
    assert rollback("relay").version == "v0.2.0", "it was given the stage again"


def test_a_version_that_was_taken_out_of_the_registry_is_passed_over(registry: Path) -> None:
    assign(1, 2, 3)
    run("tag", "--annotate", "-m", "faulty", "relay@v0.2.0!", "relay@v0.2.0^{}", folder=registry)
    assert held() == ["v0.3.0", "v0.1.0"]
    assert rollback("relay").version == "v0.1.0"


def test_a_stage_that_nobody_holds_has_nothing_to_go_back_to(registry: Path) -> None:
    assert history("relay") == []
    with pytest.raises(RegistryError, match="no stage of relay 'champion'"):
        rollback("relay")


def test_where_there_is_no_registry_there_is_no_history(home: Path) -> None:
    assert history("relay") == []


def test_a_stage_that_somebody_else_assigned_meanwhile_stays(registry: Path) -> None:
    assign(1, 2)
    with pytest.raises(RegistryError, match=r"champion of relay is v0\.2\.0 by now, and not v0\.1\.0"):
        artifacts_registry.assign("relay", "v0.3.0", "champion", instead_of="v0.1.0")
    with pytest.raises(RegistryError, match=r"is v0\.2\.0 by now, and not nobody"):
        artifacts_registry.assign("relay", "v0.3.0", "champion", instead_of="")
    assert artifacts_registry.assign("relay", "v0.3.0", "champion", instead_of="v0.2.0").stages == ("champion",)
    assert held() == ["v0.3.0", "v0.2.0", "v0.1.0"]


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("", ""),
        ("a b c", "a b c"),
        ("a b a", "a"),
        ("a b c b", "a b"),
        ("a b !b", "a"),
        ("a b !a", "a b"),
        ("a !a b", "b"),
        ("a a b", "a b"),
    ],
)
def test_who_followed_whom(given: str, line: str) -> None:
    assigned = [(name.strip("!"), name.startswith("!")) for name in given.split()]
    assert artifacts_stages._line(assigned) == line.split()
