"""The whole pipeline from the command line, on real parts: from nothing to a version; stopped."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra.json_lines import read_lines
from tests.fixtures.commands import orchard, orchard_json, started
from tests.fixtures.workers import wait_for

pytestmark = pytest.mark.slow
TINY = ("run", "relay", "--preset", "tiny")
MODELS = ("teacher", "student_before", "control", "student")


def _versions() -> list[dict[str, Any]]:
    return [json.loads(line) for line in orchard("list", "relay", "--json").stdout.splitlines()]


def _processes_of(home: Path) -> list[str]:
    """Commands of running processes that speak of this state folder."""
    commands = (" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"]))
    return [command for command in commands if str(home) in command]


def test_from_nothing_to_a_version_that_anyone_can_pull(home: Path, tmp_path: Path) -> None:
    result = orchard_json(*TINY, "--seed", "3", "--run-key", "first")
    assert (result["workload"], result["preset"], result["seed"], result["run_key"]) == ("relay", "tiny", 3, "first")
    assert (result["artifact"], result["version"]) == ("relay", "v0.1.0")
    metrics = result["metrics"]["tasks"]["arithmetic"]
    assert metrics["train_lengths"] == [1, 2]
    assert metrics["beyond_lengths"] == [3]
    for model in MODELS:
        assert set(metrics[model]["answer_accuracy"]) == set(metrics[model]["chain_exact_match"]) == set("1234")
    seconds = result["seconds"]
    kinds = ("prepare", "train", "generate", "evaluate", "publish", "overhead")
    assert sum(seconds[kind] for kind in kinds) >= seconds["total"] - 0.1
    assert 0 < seconds["until_first_step"] < seconds["train"]
    assert all(gate["passed"] for gate in result["gates"].values())
    assert _processes_of(home) == [], "nothing is left running"

    page = Path(result["report"]).read_text()
    assert re.findall(r"""(?:src|href)=["']?(?!#|data:)[^"'> ]+""", page) == [], "no outside address"
    assert "https://" not in page
    assert page.count("<svg") >= 2
    assert "lock SHA-256" in page

    again = orchard(*TINY, "--seed", "3", "--run-key", "first")
    assert again.returncode == 0, again.stderr
    assert "orchard pull relay@v0.1.0" in again.stdout, "the same run is the same version"
    other = orchard(*TINY, "--seed", "4", "--run-key", "first")
    assert other.returncode == 2
    assert "seed: began with 3, asked for now: 4" in other.stderr

    assert orchard("promote", "relay@v0.1.0").returncode == 0
    for spec in ("relay", "relay@v0.1.0", "relay#champion"):
        out = tmp_path / re.sub(r"\W", "-", spec)
        assert orchard("pull", spec, "--out", str(out)).returncode == 0
        assert orchard("verify", str(out)).returncode == 0
        assert (out / "report.html").read_text() == page
    plain = [sys.executable, "-m", "dvc", "artifacts", "get", f"file://{home}/registry.git", "relay"]
    subprocess.run([*plain, "--rev", "v0.1.0", "-o", str(tmp_path / "plain")], check=True, cwd=tmp_path)
    assert (tmp_path / "plain" / "manifest.json").read_bytes() == (out / "manifest.json").read_bytes()
    missing = orchard("pull", "relay@v0.2.0")
    assert missing.returncode == 2
    assert "v0.1.0" in missing.stderr


@pytest.mark.usefixtures("ray", "prefect")
def test_a_stopped_run_keeps_what_it_has_and_goes_on(home: Path) -> None:
    slow = ("--set", "teacher.max_steps=100000", "--run-key", "stopped")
    flow = started(*TINY, *slow)
    teacher = home / "runs" / "stopped" / "teacher"
    wait_for(lambda: (teacher / "checkpoints").exists() and any((teacher / "checkpoints").glob("step-*")), 240)
    began = time.monotonic()
    flow.send_signal(signal.SIGINT)
    output, _ = flow.communicate(timeout=90)
    assert flow.returncode == 130, output
    assert time.monotonic() - began < 60
    assert "it goes on with --run-key stopped" in output
    assert "Traceback" not in output
    assert any((teacher / "checkpoints").glob("step-*"))
    steps = len(read_lines(teacher / "events.jsonl"))
    time.sleep(2)
    assert len(read_lines(teacher / "events.jsonl")) == steps, "its training has ended"
    assert _versions() == []
