"""Secrets are planted in the environment, and looked for in all that leaves it: what a job is told, files, objects.

The stage trains, travels through a real S3 server, is published and pulled; in Ray's place stands a recorder.
"""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from safetensors import safe_open

from flows.deployment_file import read_deployments
from infra import artifacts, carrying, launch, lineage, manifests, ray_client, worker
from infra.runs import RunFolder, StageFolder
from infra.settings import ROOT, ray_environment
from infra.shipping import code_folder
from infra.versions import assemble
from models.common.handles import Checkpoint, Evaluation
from models.common.report import Report
from tests.fixtures.s3 import S3Server
from tests.fixtures.stages import ALONE, rehearsal, request_for, tiny_stage

_PLANTED = {
    "PREFECT_API_AUTH_STRING": "user:planted-prefect-login",
    "PREFECT_SERVER_API_AUTH_STRING": "user:planted-prefect-server-login",
    "PREFECT_API_KEY": "planted-prefect-key",
    "PREFECT_SERVER_DATABASE_CONNECTION_URL": "postgresql+asyncpg://user:planted-database-word@host/prefect",
    "RAY_AUTH_TOKEN": "planted-ray-token",
    "RCLONE_AUTH_KEY": "planted-rclone-key,planted-rclone-secret",
    "AWS_SESSION_TOKEN": "planted-session-token",
}
_NOT_OF_JOBS = {"PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_KEY", "RAY_AUTH_TOKEN"}


class Recorder:
    """In the place of Ray's client: a job that is submitted runs here and now, as its command says."""

    def __init__(self, home: Path, patch: pytest.MonkeyPatch) -> None:
        self.home, self.patch = home, patch
        self.told: list[dict[str, Any]] = []

    def list_jobs(self) -> list[Any]:
        return []

    def get_address(self) -> str:
        return "recorder"

    def get_job_status(self, _job: str) -> Any:
        if not self.told:
            raise RuntimeError("there is none")
        return SimpleNamespace(value="SUCCEEDED", is_terminal=lambda: True)

    def submit_job(self, **told: Any) -> None:
        self.told.append(told)
        with self.patch.context() as there:
            there.setenv("ORCHARD_HOME", str(self.home))
            where = told["entrypoint"].split()[-1]
            worker.train_rank(carrying.read_request(where).model_dump(mode="json"))


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder(tmp_path / "home of a node", monkeypatch)
    monkeypatch.setattr(ray_client, "_open", lambda _address: recorder)
    node = SimpleNamespace(state="ALIVE", resources_total={"CPU": 2.0})
    monkeypatch.setattr("ray.util.state.list_nodes", lambda **_: [node])
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    return recorder


@pytest.fixture
def planted(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Words to look for: those of the environment, and the keys that the S3 server takes."""
    for name, value in _PLANTED.items():
        if name != "AWS_SESSION_TOKEN":  # rclone's server knows none
            monkeypatch.setenv(name, value)
    words = [word for value in _PLANTED.values() for word in value.replace(",", ":").split(":") if "planted-" in word]
    return [*words, s3.access_key, s3.secret_key]


def _found(words: list[str], folder: Path) -> list[str]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert files, folder
    return [f"{word} in {file}" for file in files for word in words if word.encode() in file.read_bytes()]


def test_no_secret_leaves_the_environment(
    planted: list[str],
    recorder: Recorder,
    s3: S3Server,
    home: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    config = tiny_stage("relay", "teacher").but(max_steps=2)
    run = RunFolder("planted")
    inputs = rehearsal(config, tmp_path / "inputs")
    storage = f"s3://{s3.bucket}/planted"
    request = request_for(config, inputs, run.stage("teacher").folder, ALONE, storage=storage)
    run.claim({"config": config.model_dump(mode="json")})
    launch.run_stage(request, ALONE, lambda _event: None)

    folder = _version(run, config, request.folder)
    artifacts.publish(folder, "relay", run_key=run.key, summary={"preset": "tiny", "seed": 1, "summary": "planted"})
    artifacts.pull("relay", tmp_path / "pulled")
    for weights in folder.rglob("weights*"):
        with safe_open(weights, framework="pt") as tensors:
            assert tensors.keys(), "what is published is safetensors"

    (told,) = recorder.told
    output = capfd.readouterr()
    strings = [json.dumps(told, default=str), request.model_dump_json(), caplog.text, output.out, output.err]
    assert [word for word in planted for text in strings if word in text] == []
    assert not {name for name in told["runtime_env"]["env_vars"] if name.startswith(("AWS_", "PREFECT_", "RAY_AUTH"))}
    places = (home, recorder.home, s3.data, tmp_path / "pulled", Path(told["runtime_env"]["working_dir"]))
    assert [found for place in places for found in _found(planted, place)] == []


def _version(run: RunFolder, config: Any, stage: Path) -> Path:
    result = StageFolder(stage).result
    judged = run.folder / "judged"
    with manifests.committed(judged) as draft:
        Report(workload="relay", title="t", summary="s", metrics={"right": 1.0}).write(draft)
    checkpoint = Checkpoint(name="teacher", folder=result, sha256=manifests.fingerprint(result))
    evaluation = Evaluation(name="judged", folder=judged, sha256=manifests.fingerprint(judged))
    history = {**lineage.code(), "hardware": lineage.hardware()}
    assemble(run.folder / "artifact", checkpoint, evaluation, config, history, {})
    return run.folder / "artifact"


def test_the_login_to_prefect_and_the_users_token_do_not_reach_jobs(planted: list[str], tmp_path: Path) -> None:
    """The Ray of this machine has a token of its own, and its jobs ask Prefect nothing."""
    assert planted
    assert not _NOT_OF_JOBS & ray_environment(tmp_path / "token").keys()
    assert "planted-database-word" not in str(ray_environment(tmp_path / "token"))


def test_no_secret_is_in_a_deployment(planted: list[str]) -> None:
    wanted = str(read_deployments(ROOT / "prefect.yaml"))
    assert "relay" in wanted
    assert [word for word in planted if word in wanted] == []


def test_code_that_is_shipped_has_nothing_that_git_ignores() -> None:
    folder = code_folder()
    names = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert "infra/job.py" in names
    assert {name.split("/")[0] for name in names} <= {"infra", "models", "manifest.json"}
    assert [name for name in names if os.path.basename(name) == ".env" or "__pycache__" in name] == []
