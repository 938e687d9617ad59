"""`data.dvc` pins the bytes of the laptop dataset, wherever it is written again."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_a_dataset_written_again_is_the_one_that_is_pinned(checkout: Path) -> None:
    data = checkout / "data" / "relay-laptop"
    assert "deleted" in _status(checkout)
    written = orchard("data", "prepare", "relay", "--preset", "laptop", "--out", str(data))
    assert written.returncode == 0, written.stderr
    assert "up to date" in _status(checkout)
    victim = next(data.glob("*.npy"))
    content = bytearray(victim.read_bytes())
    content[-1] ^= 1
    victim.write_bytes(content)
    assert "modified" in _status(checkout)
