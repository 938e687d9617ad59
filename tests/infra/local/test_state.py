"""What `orchard up` tells of itself: true while it lives, and its secrets its owner's."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local import state
from infra.local.state import Services
from infra.processes import Identity
from infra.settings import settings
from models.common.errors import ClusterError


def services_of(pid: int) -> Services:
    identity = Identity.of(pid)
    return Services("http://127.0.0.1:4200", "http://127.0.0.1:8265", None, None, identity.pid, identity.created)


def test_services_are_known_while_their_process_lives(home: Path):
    assert state.running(home) is None
    mine = services_of(os.getpid())
    state.tell(home, mine)
    assert state.running(home) == mine
    assert settings().prefect_api == "http://127.0.0.1:4200/api"
    assert settings().prefect_auth_string == state.auth_string(home)
    state.tell(home, dataclasses.replace(mine, created=mine.created - 1))
    assert state.running(home) is None, "another process has its number now"
    assert settings().prefect_api is None


def test_a_named_server_comes_before_the_one_of_orchard_up(home: Path, monkeypatch: pytest.MonkeyPatch):
    state.tell(home, services_of(os.getpid()))
    monkeypatch.setenv("PREFECT_API_URL", "http://elsewhere:4200/api")
    assert settings().prefect_api == "http://elsewhere:4200/api"
    assert settings().prefect_auth_string is None, "the login of this machine goes nowhere else"


def test_asking_leaves_no_trace(home: Path):
    settings()
    assert state.running(home) is None
    assert not home.exists()


def test_the_login_is_made_once_and_its_owners_alone(home: Path):
    assert state.auth_string(home) == state.auth_string(home)
    assert state.auth_string(home).startswith("orchard:")
    assert len(state.auth_string(home)) > 30
    assert (home / "up" / "auth").stat().st_mode & 0o077 == 0


def test_a_second_orchard_up_is_refused_with_the_number_of_the_first(home: Path):
    code = (
        "import sys\nfrom infra.local import state\nfrom infra.settings import settings\n"
        "with state.only_one(settings().home): print('held', flush=True); sys.stdin.read()"
    )
    first = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert first.stdout.readline() == "held\n"
    assert state.holder(home) == first.pid
    with pytest.raises(ClusterError, match=f"runs already, as process {first.pid}"), state.only_one(home):
        pass
    first.kill()
    first.wait()
    assert state.holder(home) is None
    with state.only_one(home):
        pass
