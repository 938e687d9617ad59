"""Every test has a state folder of its own, and finds no address, credential or setting of the user's."""

import os
from pathlib import Path
from typing import Any

import pytest

os.environ["RAY_AUTH_MODE"] = "token"  # Ray reads it once a process, when it is first imported, whichever test does
import ray  # noqa: F401

pytest_plugins = [
    "tests.fixtures.services",
    "tests.fixtures.s3",
    "tests.fixtures.s3_door",
    "tests.fixtures.workers",
    "tests.fixtures.browser",
    "tests.fixtures.report_site",
    "tests.fixtures.up",
]

# Tests that share services, each group in one process of the test run.
_SERVICES = {
    "flows": ("tests/flows/", "tests/infra/local/", "tests/test_example.py"),
    "hosts": (
        "tests/browser/",
        "tests/cluster/",
        "tests/infra/test_launch.py",
        "tests/security/",
    ),
}

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


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests that share services follow each other in one of the test run's processes; the other ones compute.

    Those of a file do too: what a file's tests share is made once.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ServicesTogether(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            services = (name for name, where in _SERVICES.items() if nodeid.startswith(where))
            return next(services, super()._split_scope(nodeid))

    return ServicesTogether(config, log)
