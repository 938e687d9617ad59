"""A run's folder: claimed once, timed by interval arithmetic, its first error kept."""

import importlib
import json
import sys
import time
from pathlib import Path

import pytest

from infra.json_lines import read_lines
from infra.runs import RunFolder, StageRequest, work_from
from models.common.errors import Cancelled, CheckpointError, ConfigError, DataError


@pytest.mark.parametrize("key", ["", "../up", "A", "a/b", "-a", "a" * 64, "a b"])
def test_a_key_that_is_no_folder_name_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match="is no run key"):
        RunFolder(key)


def test_a_key_belongs_to_the_config_it_began_with() -> None:
    folder = RunFolder("one")
    asked = {"workload": "relay", "seed": 0, "config": {"teacher": {"max_steps": 5, "sizes": (1, 2)}}}
    folder.claim(asked)
    folder.claim(asked)
    with pytest.raises(CheckpointError, match=r"config\.teacher\.max_steps: began with 5, asked for now: 6\n"):
        folder.claim({**asked, "config": {"teacher": {"max_steps": 6, "sizes": (1, 2)}}})


def _timeline(folder: RunFolder, *spans: tuple[str, str, float, float]) -> None:
    folder.folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"kind": kind, "stage": stage, "start": a, "end": b}) for kind, stage, a, b in spans]
    (folder.folder / "timeline.jsonl").write_text("\n".join(lines) + "\n")


def test_seconds_side_by_side_count_once_and_overhead_is_what_is_left() -> None:
    folder = RunFolder("one")
    began = time.time() - 100
    _timeline(
        folder,
        ("train", "long ago", began - 900, began - 800),
        ("prepare", "data", began + 2, began + 5),
        ("train", "teacher", began + 5, began + 45),
        ("train", "student", began + 10, began + 50),
        ("evaluate", "evaluation", began + 60, began + 70),
    )
    stage = folder.stage("teacher")
    stage.folder.mkdir()
    events = [{"time": began + 6, "kind": "started", "step": 0}, {"time": began + 20, "kind": "step", "step": 1}]
    stage.events.write_text("".join(json.dumps(event) + "\n" for event in events))
    seconds = folder.seconds(since=began)
    assert seconds["prepare"] == pytest.approx(3, abs=0.01)
    assert seconds["train"] == pytest.approx(45, abs=0.01)
    assert seconds["evaluate"] == pytest.approx(10, abs=0.01)
    assert seconds["generate"] == seconds["publish"] == 0
    assert seconds["until_first_step"] == pytest.approx(45, abs=0.01), "student never stepped: 10 to 50, and 5 to 20"
    assert seconds["total"] == pytest.approx(100, abs=1)
    assert seconds["overhead"] == pytest.approx(seconds["total"] - 58, abs=0.02)


def test_a_line_that_is_still_being_written_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    assert read_lines(file) == []
    file.write_text('{"a": 1}\n{"a": 2}\n{"a"')
    assert read_lines(file) == [{"a": 1}, {"a": 2}]


def test_the_first_error_since_the_start_is_the_one_that_ended_the_run() -> None:
    folder = RunFolder("one")
    with pytest.raises(DataError), folder.timed("prepare", "data"):
        raise DataError("of an earlier attempt")
    since = time.time()
    assert folder.first_error(since) is None
    with pytest.raises(KeyError), folder.timed("train", "teacher"):
        raise KeyError("not ours")
    with pytest.raises(CheckpointError), folder.timed("train", "teacher"):
        raise CheckpointError("first")
    with pytest.raises(DataError), folder.timed("train", "student"):
        raise DataError("second")
    error = folder.first_error(since)
    assert isinstance(error, CheckpointError)
    assert str(error) == "first"


def test_a_cancelled_run_begins_no_stage_until_it_is_started_again() -> None:
    folder = RunFolder("one")
    began = time.time()
    folder.refuse_if_cancelled(began)
    folder.cancel()
    with pytest.raises(Cancelled, match="goes on"):
        folder.refuse_if_cancelled(began)
    folder.refuse_if_cancelled(time.time())


def _request(place: Path, **changes: object) -> StageRequest:
    values: dict[str, object] = {
        "run_key": "one", "stage": "teacher", "config_class": "models.x:Y", "config": {"max_steps": 5},
        "cluster": {"workers": 2}, "seed": 0, "inputs": {"problems": place}, "input_sha256": {"problems": "ab"},
        "folder": place,
    }  # fmt: skip
    return StageRequest.model_validate({**values, **changes})


def test_identity_is_the_science_and_not_the_machine(tmp_path: Path) -> None:
    identity = _request(tmp_path).identity()
    assert (
        identity
        == _request(
            tmp_path, cluster={"workers": 1}, run_key="two", folder=tmp_path / "x", started_in=tmp_path
        ).identity()
    )
    for change in ({"seed": 1}, {"config": {"max_steps": 6}}, {"input_sha256": {"problems": "cd"}}):
        assert _request(tmp_path, **change).identity() != identity


def test_a_worker_finds_relative_paths_and_modules_where_the_run_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "rewards_of_this_project.py").write_text("BEST = 3\n")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    work_from(folder)
    assert importlib.import_module("rewards_of_this_project").BEST == 3
    assert Path("rewards_of_this_project.py").is_file()
    assert sys.path[-1] == str(folder), "after all others"
    work_from(tmp_path / "gone")
    assert Path.cwd() == folder
