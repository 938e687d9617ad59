"""What lies unused on a machine for weeks goes; what any process uses stays."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import leftovers
from infra.settings import ROOT
from models.common.errors import ConfigError

_HOLDS = """
import sys, time
from pathlib import Path
from infra import leftovers
leftovers.use(Path(sys.argv[1]))
print("used", flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def _nothing_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "_in_use", {})


@pytest.fixture
def by_another_process(tmp_path: Path) -> Iterator[Path]:
    """A folder that another process, which has just begun, uses."""
    folder = _left(tmp_path / "inputs" / "of-another", days_ago=0)
    holder = subprocess.Popen([sys.executable, "-c", _HOLDS, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert holder.stdout
    assert holder.stdout.readline() == "used\n"
    yield folder
    holder.kill()
    holder.communicate()


def _left(folder: Path, days_ago: float) -> Path:
    """A folder that was used so many days ago, and is not any more."""
    folder.mkdir(parents=True)
    (folder / "numbers").write_text("1 2 3")
    mark = folder.parent / f".{folder.name}.used"
    mark.touch()
    _age(mark, days_ago)
    return folder


def _age(mark: Path, days: float) -> None:
    then = time.time() - days * 24 * 3600
    os.utime(mark, (then, then))


def test_what_nobody_has_used_for_a_month_goes(tmp_path: Path) -> None:
    old, young = _left(tmp_path / "inputs" / "old", 31), _left(tmp_path / "inputs" / "young", 29)
    never = tmp_path / "inputs" / "never-marked"
    never.mkdir()
    leftovers.use(tmp_path / "inputs" / "new")
    assert not old.exists()
    assert (young / "numbers").read_text() == "1 2 3"
    assert never.is_dir()
    assert sorted(path.name for path in (tmp_path / "inputs").iterdir() if not path.name.startswith(".")) == [
        "never-marked",
        "young",
    ]


def test_the_days_are_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _left(tmp_path / "work" / "a-run", 3)
    leftovers.use(tmp_path / "work" / "b-run")
    assert folder.is_dir()
    monkeypatch.setenv("ORCHARD_RETENTION_DAYS", "2")
    leftovers.use(tmp_path / "work" / "c-run")
    assert not folder.exists()


def test_what_a_process_still_uses_stays_however_old(tmp_path: Path, by_another_process: Path) -> None:
    _age(by_another_process.parent / f".{by_another_process.name}.used", 100)
    leftovers.use(tmp_path / "inputs" / "mine")
    assert (by_another_process / "numbers").exists()


def test_what_is_used_again_is_young_again(tmp_path: Path) -> None:
    folder = _left(tmp_path / "inputs" / "old", 31)
    leftovers.use(folder)
    leftovers.use(tmp_path / "inputs" / "other")
    assert folder.is_dir()


@pytest.mark.parametrize("days", ["a while", "0", "-3", "inf", "nan"])
def test_other_than_days_are_refused(days: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHARD_RETENTION_DAYS", days)
    with pytest.raises(
        ConfigError, match=rf"ORCHARD_RETENTION_DAYS is '{days}'\nfits: a number of days, .*\nset it to"
    ):
        leftovers.kept_days()
