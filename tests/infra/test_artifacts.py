"""A version is published once, whole, and read bit for bit: by Orchard, and by DVC and gto without it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra import artifacts
from models.common.errors import RegistryError
from tests.fixtures.registry import an_artifact, contents, published, publisher
from tests.fixtures.s3 import S3Server


@pytest.fixture(params=["folder", "s3"])
def registry(request: pytest.FixtureRequest, home: Path) -> Path:
    """A registry whose bytes are in a folder, and one whose bytes are on S3."""
    if request.param == "s3":
        request.getfixturevalue("s3")
    return home / "registry.git"


def shell(*command: str, folder: Path) -> str:
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(folder / "site")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_pulled_is_what_was_published(registry: Path, tmp_path: Path) -> None:
    folder = an_artifact(tmp_path / "run")
    version = published(folder)
    pulled = artifacts.pull("relay", tmp_path / "pulled")
    assert (version.version, pulled.version, pulled.commit) == ("v0.1.0", "v0.1.0", version.commit)
    assert contents(tmp_path / "pulled") == contents(folder)
    assert artifacts.verify(tmp_path / "pulled")["lineage"] == {"seed": 7}


def test_dvc_alone_gets_a_version_and_a_stage(registry: Path, tmp_path: Path) -> None:
    first, second = an_artifact(tmp_path / "first", 1), an_artifact(tmp_path / "second", 2)
    published(first, "run-1")
    published(second, "run-2")
    artifacts.promote("relay", "v0.1.0")
    get = [sys.executable, "-m", "dvc", "artifacts", "get", str(registry), "relay"]
    shell(*get, "--rev", "v0.2.0", "-o", "by-version", folder=tmp_path)
    shell(*get, "--stage", "champion", "-o", "by-stage", folder=tmp_path)
    shell(*get, "-o", "latest", folder=tmp_path)
    assert contents(tmp_path / "by-version") == contents(second)
    assert contents(tmp_path / "by-stage") == contents(first)
    assert contents(tmp_path / "latest") == contents(second)


def test_gto_alone_shows_versions_and_stages(home: Path, tmp_path: Path) -> None:
    published(an_artifact(tmp_path / "run"))
    artifacts.promote("relay", "v0.1.0")
    program = str(Path(sys.executable).parent / "gto")
    shown = shell(program, "show", "--repo", str(home / "registry.git"), "relay", folder=tmp_path)
    assert "v0.1.0" in shown
    assert "champion" in shown


def test_versions_tell_what_was_published(home: Path, tmp_path: Path) -> None:
    assert artifacts.versions() == []
    published(an_artifact(tmp_path / "run", 1), "run-1")
    published(an_artifact(tmp_path / "other", 2), "run-1", name="rto")
    assert {version.name for version in artifacts.versions()} == {"relay", "rto"}
    (version,) = artifacts.versions("relay")
    assert (version.version, version.run_key, version.stages) == ("v0.1.0", "run-1", ())
    assert (version.preset, version.seed, version.summary) == ("tiny", 7, "twice as fast")
    assert artifacts.pull("relay").folder == home / "artifacts" / "relay" / "v0.1.0"
    assert artifacts.pull("rto").folder == home / "artifacts" / "rto" / "v0.1.0"


def test_a_stage_moves_at_once_however_often(home: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        published(an_artifact(tmp_path / str(number), number), f"run-{number}")
    for number in range(12):  # more than nine: tags do not sort by their number
        version = f"v0.{1 + number % 2}.0"
        artifacts.promote("relay", version)
        assert artifacts.pull("relay#champion").version == version
    get = [sys.executable, "-m", "dvc", "artifacts", "get", str(home / "registry.git"), "relay", "--stage", "champion"]
    shell(*get, "-o", "by-stage", folder=tmp_path)
    assert contents(tmp_path / "by-stage") == contents(tmp_path / "2")
    assert [version.stages for version in artifacts.versions()] == [("champion",), ()]


def test_a_run_is_published_once(home: Path, tmp_path: Path) -> None:
    first = published(an_artifact(tmp_path / "run"))
    assert published(an_artifact(tmp_path / "same")).commit == first.commit
    assert len(artifacts.versions()) == 1
    with pytest.raises(RegistryError, match=r"run-1 is published as relay@v0\.1\.0"):
        published(an_artifact(tmp_path / "changed", 9))


PHASES = [
    ("dvc._dvc", "before"),
    ("dvc._dvc", "after"),
    ("dvc.check_object", "before"),
    ("registry._commit", "after"),
    ("registry._tag", "after"),
    ("registry._push", "before"),
    ("registry._push", "after"),
]


@pytest.mark.parametrize(("function", "moment"), PHASES)
def test_a_publisher_killed_in_any_phase_leaves_one_version_when_repeated(
    function: str, moment: str, home: Path, tmp_path: Path
) -> None:
    folder = an_artifact(tmp_path / "run")
    child = publisher(folder, "run-1", dies=function, moment=moment)
    child.communicate(timeout=60)
    assert child.returncode == -9
    assert published(folder).version == "v0.1.0"
    assert [version.version for version in artifacts.versions()] == ["v0.1.0"]
    assert contents(artifacts.pull("relay").folder) == contents(folder)


def test_eight_publishers_at_once_all_succeed(home: Path, tmp_path: Path) -> None:
    folders = [an_artifact(tmp_path / f"run-{number}", number) for number in range(8)]
    children = [publisher(folder, folder.name) for folder in folders]
    for child in children:
        said, _ = child.communicate(timeout=120)
        assert child.returncode == 0, said
    assert [version.version for version in artifacts.versions()] == [f"v0.{minor}.0" for minor in range(8, 0, -1)]
    for version in artifacts.versions():
        pulled = artifacts.pull(f"relay@{version.version}")
        assert contents(pulled.folder) == contents(tmp_path / str(version.run_key))


def test_publishers_of_one_run_at_once_share_its_version(home: Path, tmp_path: Path) -> None:
    folder = an_artifact(tmp_path / "run")
    children = [publisher(folder, "run-1") for _ in range(3)]
    assert [child.wait(timeout=120) for child in children] == [0, 0, 0]
    assert len(artifacts.versions()) == 1


def test_a_second_pull_verifies_and_leaves_the_folder(home: Path, tmp_path: Path) -> None:
    published(an_artifact(tmp_path / "run"))
    folder = artifacts.pull("relay").folder
    before = (folder / "weights.safetensors").stat().st_mtime_ns
    assert artifacts.pull("relay").folder == folder
    assert (folder / "weights.safetensors").stat().st_mtime_ns == before
    (folder / "weights.safetensors").write_bytes(b"altered")
    with pytest.raises(RegistryError, match="has 7 bytes"):
        artifacts.pull("relay")


def test_no_secret_is_written_anywhere(s3: S3Server, home: Path, tmp_path: Path) -> None:
    published(an_artifact(tmp_path / "run"))
    history = shell(
        "git", "--git-dir", str(home / "registry.git"), "log", "--all", "--patch", "--root", folder=tmp_path
    )
    assert "endpointurl" in history
    kept = [file.read_text(errors="replace") for file in home.rglob("*") if file.is_file()]
    for text in [history, *kept]:
        assert s3.access_key not in text
        assert s3.secret_key not in text


def test_what_the_user_set_for_git_and_dvc_plays_no_part(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, hooks, dvc = tmp_path / "user", tmp_path / "hooks", tmp_path / "user" / ".config" / "dvc"
    monkeypatch.setenv("HOME", str(user))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(user / ".config"))
    hooks.mkdir()
    dvc.mkdir(parents=True)
    for name in ("pre-commit", "commit-msg", "pre-push", "pre-receive", "update", "reference-transaction"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/hook-ran\nexit 1\n")
        (hooks / name).chmod(0o755)
    (user / ".gitconfig").write_text(
        f"[user]\n\tname = Real Person\n\temail = real@person\n[core]\n\thooksPath = {hooks}\n"
        "[commit]\n\tgpgSign = true\n[tag]\n\tgpgSign = true\n[init]\n\tdefaultBranch = other\n"
    )
    (dvc / "config").write_text("[core]\n    remote = elsewhere\n['remote \"orchard\"']\n    read_only = nonsense\n")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))  # as inside a git hook
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Real Person")
    folder = an_artifact(tmp_path / "run")
    published(folder)
    artifacts.promote("relay", "v0.1.0")
    assert contents(artifacts.pull("relay#champion").folder) == contents(folder)
    monkeypatch.delenv("GIT_DIR")
    said = shell("git", "--git-dir", str(home / "registry.git"), "log", "--format=%an %cn %d", folder=tmp_path)
    assert said.startswith("Orchard Orchard  (HEAD -> main")
    assert not (tmp_path / "hook-ran").exists()


def test_a_home_that_was_moved_goes_on(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published(an_artifact(tmp_path / "first", 1), "run-1")
    home.rename(tmp_path / "moved")
    monkeypatch.setenv("ORCHARD_HOME", str(tmp_path / "moved"))
    assert contents(artifacts.pull("relay").folder) == contents(tmp_path / "first")
    assert published(an_artifact(tmp_path / "second", 2), "run-2").version == "v0.2.0"
    get = [sys.executable, "-m", "dvc", "artifacts", "get", str(tmp_path / "moved" / "registry.git"), "relay"]
    shell(*get, "--rev", "v0.2.0", "-o", "new", folder=tmp_path)
    assert contents(tmp_path / "new") == contents(tmp_path / "second")


def test_reading_tags_does_not_touch_the_handlers_of_others(home: Path, tmp_path: Path) -> None:
    """gto configures logging when it is imported; Prefect's handler, flushed with logging's lock held, never ends."""
    published(an_artifact(tmp_path / "a"))
    code = (
        "import logging, sys\n"
        "class Watched(logging.Handler):\n"
        "    def flush(self): sys.exit('flushed')\n"
        "logging.getLogger('other').addHandler(Watched())\n"
        "from infra import artifacts\n"
        "assert artifacts.versions(), 'no version was read'\n"
        "assert 'gto' in sys.modules\n"
        "logging.getLogger('other').handlers.clear()\n"
        "import os; os._exit(0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
