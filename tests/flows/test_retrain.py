"""Scheduled retraining on real parts: a first champion, an unchanged one, one that stays, and everything broken."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra import artifacts
from models.common.contest import Contest
from models.common.promotion import bounds
from tests.fixtures.commands import orchard, started
from tests.fixtures.prefect_rest import ask
from tests.fixtures.workers import wait_for

TINY = ("retrain", "nqs", "--preset", "tiny")
WORSE = ("--set", "training.max_steps=5", "--set", "gates.most_relative_error=10")
_SKIP_SECONDS = 20  # on a busy machine; it starts no Ray
_PATIENCE_SECONDS = 600  # of a pipeline on a busy machine


class Server:
    """What the Prefect server tells of retrainings."""

    def __init__(self, api: str) -> None:
        self.api = api

    def ask(self, path: str, **body: Any) -> Any:
        return ask(f"{self.api}/{path}", **body)

    def newest(self) -> dict[str, Any]:
        """The retraining's flow run that began last."""
        of_retrain = {"name": {"any_": ["retrain"]}}
        runs = self.ask("flow_runs/filter", flows=of_retrain, sort="START_TIME_DESC", limit=1)
        return runs[0] if runs else {"id": "", "state_name": "", "state_type": "", "state": {"message": ""}}

    def page(self) -> str:
        """What the newest retraining shows."""
        of_run = {"flow_runs": {"id": {"any_": [self.newest()["id"]]}}}
        return "\n".join(
            each["data"]
            for each in self.ask("artifacts/filter", **of_run)
            if each["type"] == "markdown" and each["key"] == "retrain-nqs"
        )


def retrained(*arguments: str) -> dict[str, Any]:
    """What a retraining that ended well has decided."""
    done = orchard(*TINY, *arguments, "--json", seconds=_PATIENCE_SECONDS)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def versions() -> dict[str, tuple[str, ...]]:
    """The stages of each version."""
    return {version.version: version.stages for version in artifacts.versions("nqs")}


def decided(home: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (home / "retraining" / "nqs.jsonl").read_text().splitlines()]


@pytest.fixture
def approving() -> Iterator[Callable[[Server], str]]:
    """Starts a retraining that asks, answers yes on its page, and returns what it printed."""
    running = []

    def approve(server: Server) -> str:
        before = server.newest()["id"]
        process = started(*TINY, "--approval")
        running.append(process)
        wait_for(
            lambda: server.newest()["id"] != before and server.newest()["state_type"] == "PAUSED", _PATIENCE_SECONDS
        )
        answer = {"promote": True, "name": "Ada", "comment": "as it should be"}
        taken = server.ask(f"flow_runs/{server.newest()['id']}/resume", run_input=answer)
        assert taken["status"] == "ACCEPT"
        printed, _ = process.communicate(timeout=_PATIENCE_SECONDS)
        assert process.returncode == 0, printed
        return printed

    yield approve
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("ray")
def test_the_champion_is_the_best_that_was_surely_better(
    prefect: str, home: Path, approving: Callable[[Server], str]
) -> None:
    server = Server(prefect)
    # Nobody answers: published, and not promoted.
    waited = retrained("--approval", "--approval-hours", "0.001")
    assert (waited["decision"]["case"], waited["carried_out"]) == ("not answered", True)
    assert versions() == {"v0.1.0": ()}
    assert (server.newest()["state_type"], server.newest()["state_name"]) == ("COMPLETED", "Kept")

    # Asked again, the same candidate is not trained again; somebody answers.
    stages = (home / "runs" / waited["run_key"] / "timeline.jsonl").read_text()
    assert "approved by Ada: as it should be" in approving(server)
    assert (home / "runs" / waited["run_key"] / "timeline.jsonl").read_text() == stages
    assert versions() == {"v0.1.0": ("champion",)}
    assert (server.newest()["state_type"], server.newest()["state_name"]) == ("COMPLETED", "Promoted")
    lineage = json.loads((home / "runs" / waited["run_key"] / "artifact" / "lineage.json").read_text())
    assert lineage["retrain"] == {"champion": "", "changed": []}

    # Unchanged: skipped, with its reason.
    skipped = retrained()
    assert skipped["decision"]["action"] == "skip"
    assert (server.newest()["state_type"], server.newest()["state_name"]) == ("COMPLETED", "Skipped")
    assert server.newest()["total_run_time"] < _SKIP_SECONDS
    assert "nothing has changed since nqs@v0.1.0" in server.newest()["state"]["message"]
    assert "nothing has changed since nqs@v0.1.0" in server.page()
    assert versions() == {"v0.1.0": ("champion",)}

    # Changed, and not better: published, and the champion stays.
    kept = retrained(*WORSE)
    assert kept["decision"]["case"] == "worse"
    assert versions() == {"v0.2.0": (), "v0.1.0": ("champion",)}
    contest = Contest.model_validate(kept["decision"]["contest"])
    assert contest.candidate.value > contest.champion.value, "energies: lower is better"
    assert bounds(contest.gain)[1] < 0
    assert json.loads((home / "runs" / kept["run_key"] / "decision.json").read_text()) == kept
    lineage = json.loads((home / "runs" / kept["run_key"] / "artifact" / "lineage.json").read_text())
    assert lineage["retrain"]["champion"] == "nqs@v0.1.0"
    assert any("training.max_steps 60 -> 5" in line for line in lineage["retrain"]["changed"])
    page = server.page()
    for told in ("the champion stays", f"{contest.gain.value:.6g}", "95 % lower bound", "training.max_steps 60 -> 5"):
        assert told in page

    # Its contest fails, as its bytes here are not what was published.
    for left in ("decision.json", "contest"):
        place = home / "runs" / kept["run_key"] / left
        place.rename(home / left)
    (home / "artifacts" / "nqs" / "v0.2.0" / "weights.safetensors").write_bytes(b"altered")
    failed = orchard(*TINY, *WORSE, seconds=_PATIENCE_SECONDS)
    assert failed.returncode != 0
    assert "nqs@v0.1.0 is champion, as before" in failed.stderr
    assert decided(home)[-1]["decision"]["case"] == "contest failed"
    assert server.newest()["state_type"] == "FAILED"

    # Its gates fail: nothing is published.
    strict = ("--set", "training.max_steps=6", "--set", "gates.most_relative_error=1e-9")
    gated = orchard(*TINY, *strict, seconds=_PATIENCE_SECONDS)
    assert gated.returncode != 0
    assert "GateFailed" in gated.stderr
    assert decided(home)[-1]["decision"]["case"] == "candidate failed"
    assert versions() == {"v0.2.0": (), "v0.1.0": ("champion",)}

    # The champion is not what was published: nothing is started.
    runs = sorted((home / "runs").iterdir())
    (home / "artifacts" / "nqs" / "v0.1.0" / "weights.safetensors").write_bytes(b"altered")
    damaged = orchard(*TINY, "--set", "training.max_steps=7")
    assert damaged.returncode == 2, damaged.stderr
    assert "its manifest says" in damaged.stderr
    assert decided(home)[-1]["decision"]["case"] == "champion damaged"
    assert versions() == {"v0.2.0": (), "v0.1.0": ("champion",)}
    assert sorted((home / "runs").iterdir()) == runs


def test_approval_without_a_server_is_refused(home: Path) -> None:
    done = orchard(*TINY, "--approval")
    assert done.returncode == 2
    assert "approval needs a Prefect server" in done.stderr
    assert not (home / "runs").exists()
