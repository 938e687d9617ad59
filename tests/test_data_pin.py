"""`data.dvc` pins the bytes of the laptop datasets, wherever they are written again."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.fixtures.commands import ROOT, orchard


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with what DVC needs of this one, and no git around it."""
    folder = tmp_path / "checkout"
    (folder / ".dvc").mkdir(parents=True)
    (folder / ".dvc" / "config").write_text((ROOT / ".dvc" / "config").read_text() + "    no_scm = true\n")
    shutil.copy(ROOT / "data.dvc", folder)
    return folder


def _status(checkout: Path) -> str:
    command = [sys.executable, "-m", "dvc", "status", "data.dvc"]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True, timeout=120).stdout


def test_datasets_written_again_are_those_that_are_pinned(checkout: Path) -> None:
    pinned = [Path(out["path"]) for out in yaml.safe_load((checkout / "data.dvc").read_text())["outs"]]
    assert {path.name for path in pinned} >= {"relay-laptop", "rto-laptop"}
    for path in pinned:
        assert re.search(rf"deleted:\s+{path}", _status(checkout))
        workload, preset = path.name.split("-")
        written = orchard("data", "prepare", workload, "--preset", preset, "--out", str(checkout / path))
        assert written.returncode == 0, written.stderr
    assert "up to date" in _status(checkout)
    for path in pinned:
        victim = next((checkout / path).glob("*.npy"))
        content = bytearray(victim.read_bytes())
        content[-1] ^= 1
        victim.write_bytes(content)
        assert re.search(rf"modified:\s+{path}", _status(checkout))
