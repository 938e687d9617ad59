"""What a terminal shows of a run that goes on."""

import io
import time
from pathlib import Path

import pytest
from rich.console import Console

from flows.progress import following
from infra.progress import StageView
from infra.runs import RunFolder


def _step(seconds: float, step: int) -> dict:
    return {
        "time": 100.0 + seconds,
        "kind": "step",
        "step": step,
        "metrics": {"rate": 2.0, "loss": 0.5, "c": 3.0, "d": 4.0},
    }


def test_a_view_knows_rate_and_time_left() -> None:
    view = StageView("teacher")
    view.take({"time": 100.0, "kind": "started", "step": 0, "max_steps": 100, "workers": 1})
    assert view.pace() == ""
    view.take(_step(1, 10))
    view.take(_step(3, 30))
    assert view.pace() == "10 steps/s, at most 7 s left"
    assert view.text == "loss 0.5  rate 2  c 3", "the loss first, and no more than fit"
    view.take(_step(13, 31))
    assert view.pace() == "0.1 steps/s, at most 690 s left", "of the last seconds only"
    view.take({"time": 120.0, "kind": "finished", "step": 31})
    assert (view.over, view.done, view.total, view.pace()) == (True, 31, 31, "")


@pytest.mark.parametrize("terminal", [False, True])
def test_a_run_is_shown_from_where_it_stands(terminal: bool, home: Path) -> None:
    folder = RunFolder("one")
    stage = folder.stage("teacher")
    stage.folder.mkdir(parents=True)
    stage.record("log", text="of an earlier attempt")
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=terminal, width=120)
    with following(folder, console):
        stage.record("started", step=0, max_steps=40, workers=2)
        stage.record("step", step=20, metrics={"loss": 0.25})
        time.sleep(0.7)
        stage.record("step", step=39, metrics={"loss": 0.125})
        stage.record("finished", step=40)
    text = shown.getvalue()
    assert "teacher" in text
    assert "40/40" in text
    assert "an earlier attempt" not in text
