"""Services: what they leave behind is found and ended, and a failed one says why."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from infra.local import state
from infra.local.service import Program, Service, end_leftovers
from models.common.errors import ClusterError

SLEEP = "import time; time.sleep(600)"
PARENT = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}]); {SLEEP}"


def never() -> bool:
    return False


def program(code: str, answers: Callable[[float], bool] = lambda _: True, stop_seconds: float = 5.0) -> Program:
    return Program(
        "it", (sys.executable, "-c", code), {"PATH": ""}, answers, start_seconds=30, stop_seconds=stop_seconds
    )


def processes_of(service: Service) -> list[psutil.Process]:
    """The service's process and its child."""
    assert service.process is not None
    root = psutil.Process(service.process.pid)
    while not root.children():
        time.sleep(0.05)
    return [root, *root.children()]


def test_a_service_is_ended_with_what_it_started(home: Path):
    service = Service(program(PARENT))
    service.start()
    family = processes_of(service)
    service.stop()
    assert [each for each in family if each.is_running()] == []
    assert list(state.folder(home).glob("*.process")) == []


def test_a_service_that_ends_while_it_is_waited_for_shows_the_end_of_its_log():
    service = Service(program("print('the database is locked'); raise SystemExit(3)", lambda _: False))
    service.start()
    with pytest.raises(ClusterError, match=r"the it ended with code 3\nthe database is locked\nthe whole log is"):
        service.wait(never)


def test_what_a_killed_orchard_up_left_is_found_and_ended(home: Path):
    code = (
        "from tests.infra.local.test_service import *\n"
        "service = Service(program(PARENT)); service.start(); processes_of(service); import os; os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], timeout=60)
    (file,) = state.folder(home).glob("*.process")
    left = psutil.Process(int(file.read_text().split('pid": ')[1].split(",")[0]))
    family = [left, *left.children()]
    assert len(family) == 2
    assert end_leftovers() == ["it"]
    assert [each for each in family if each.is_running()] == []
    assert end_leftovers() == []


def test_a_service_that_dies_young_is_started_again_later_each_time():
    service = Service(program("pass"))
    service.start()
    pauses = [service.pause() for _ in range(7)]
    assert pauses == [1, 3, 7, 15, 30, 30, 30]
