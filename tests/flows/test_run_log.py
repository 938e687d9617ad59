"""What `orchard logs` reads from a run's folder."""

import json
from pathlib import Path

import pytest

from flows.finding import Found
from flows.run_log import FolderLog, log_of
from infra.runs import Asked, RunFolder
from models.common.errors import ConfigError
from tests.fixtures.commands import orchard


def _record(folder: RunFolder, stage: str, *events: dict) -> None:
    file = folder.stage(stage).events
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as stream:
        stream.writelines(json.dumps(event) + "\n" for event in events)


def _step(time: float, step: int) -> dict:
    return {"time": time, "kind": "step", "step": step, "metrics": {"loss": 0.5}}


@pytest.fixture
def run(home: Path) -> RunFolder:
    """A run whose two stages trained side by side."""
    folder = RunFolder("one")
    _record(folder, "teacher", {"time": 100.0, "kind": "started", "step": 0, "max_steps": 40, "workers": 1})
    _record(folder, "student", {"time": 101.0, "kind": "started", "step": 0, "max_steps": 9, "workers": 1})
    _record(folder, "teacher", *(_step(100.0 + second, second) for second in range(1, 26)))
    _record(folder, "student", {"time": 104.0, "kind": "log", "text": "from rank 0"})
    _record(folder, "teacher", {"time": 127.0, "kind": "failed", "rank": 1, "trace": "Traceback\nValueError: no"})
    return folder


def test_lines_of_all_stages_come_in_the_order_of_time_and_once(run: RunFolder) -> None:
    log = FolderLog(run)
    lines = log.new_lines()
    assert [line.time for line in lines] == sorted(line.time for line in lines)
    assert {line.stage for line in lines} == {"teacher", "student"}
    steps = [line.time for line in lines if line.stage == "teacher" and line.level == "info"]
    assert steps == [100.0, 110.0, 120.0], "steps are told every ten seconds"
    assert log.new_lines() == []
    _record(run, "student", {"time": 130.0, "kind": "finished", "step": 9})
    assert [(line.stage, line.text) for line in log.new_lines()] == [("student", "9/9 finished")]


def test_errors_stand_among_them(run: RunFolder) -> None:
    with pytest.raises(ConfigError), run.timed("train", "teacher"):
        raise ConfigError("3 walkers do not divide\ntry 4")
    lines = FolderLog(run).new_lines()
    errors = [line.text for line in lines if line.level == "error"]
    assert "ValueError: no" in errors[0]
    assert errors[1] == "ConfigError: 3 walkers do not divide\ntry 4"
    assert "train took" in lines[-1].text


def test_one_stage_is_read_alone_and_another_is_refused_with_those_there_are(run: RunFolder) -> None:
    found = Found("one", run, None)
    assert {line.stage for line in log_of(found, "student").new_lines()} == {"student"}
    with pytest.raises(ConfigError, match="did you mean 'teacher'"):
        log_of(found, "techer")


def test_a_run_of_this_machine_is_read_without_the_server_that_is_named(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.note_start(Asked(workload="relay", preset="tiny", cluster="laptop", seed=0, overrides={}, pid=1))
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    done = orchard("logs", "one", "--stage", "student")
    assert done.returncode == 0, done.stderr
    assert "student: from rank 0" in done.stdout
    status = orchard("status")
    assert status.returncode == 0, status.stderr
    assert "does not answer" in status.stderr
    assert "Services" in status.stdout
    assert orchard("cancel", "one").returncode == 2
