"""Every test has a state folder of its own, and finds no address, credential or setting of the user's."""

import os
from pathlib import Path

import pytest

pytest_plugins = ["tests.fixtures.services", "tests.fixtures.s3"]

_USERS = ("ORCHARD_", "RAY_", "PREFECT_", "AWS_", "DVC_")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This test's ORCHARD_HOME."""
    for name in os.environ:
        if name.startswith(_USERS):
            monkeypatch.delenv(name)
    folder = tmp_path / "orchard-home"
    monkeypatch.setenv("ORCHARD_HOME", str(folder))
    return folder
