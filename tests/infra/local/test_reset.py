"""A reset deletes an ORCHARD_HOME, and refuses everything else."""

from pathlib import Path

import pytest

from infra.local.reset import require_resettable
from infra.settings import ROOT
from models.common.errors import ConfigError
from tests.fixtures.commands import orchard


def test_a_reset_deletes_all_of_it_after_asking(home: Path):
    (home / "runs" / "one").mkdir(parents=True)
    asked = orchard("down", "--reset")
    assert asked.returncode != 0
    assert home.exists(), "nobody said yes"
    done = orchard("down", "--reset", "--yes")
    assert done.returncode == 0, done.stderr
    assert "nothing was running" in done.stdout
    assert not home.exists()


@pytest.mark.parametrize("folder", [ROOT, ROOT.parent, Path.home(), Path("/")])
def test_a_folder_that_holds_other_things_is_not_deleted(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ORCHARD_HOME", str(folder))
    with pytest.raises(ConfigError, match="fits: a folder"):
        require_resettable()


def test_a_folder_that_orchard_did_not_make_is_not_deleted(home: Path):
    (home / "photographs").mkdir(parents=True)
    with pytest.raises(ConfigError, match="which holds photographs"):
        require_resettable()
