"""Stages as jobs of a real Ray: trained on two workers, killed, stopped, refused."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
import torch
from safetensors.torch import save_file

from infra import launch, manifests, ray_client, stopping
from infra.clusters import LAPTOP
from infra.json_lines import read_lines
from infra.runs import StageFolder, StageRequest
from infra.settings import ROOT
from models.busgen.config import BusgenConfig
from models.common import workloads
from models.common.contract import Inputs
from models.common.errors import Cancelled, ClusterError, DataError, TrainingError
from tests.fixtures.services import RayService
from tests.fixtures.stages import curve, rehearsal, request_for, tiny_stage, train_alone, train_together, weights
from tests.fixtures.workers import left_of_run, processes_of_run

TWO = LAPTOP.but(save_every_steps=50)
pytestmark = pytest.mark.usefixtures("ray")


def _run(request: StageRequest, on_event: Any = lambda event: None) -> None:
    launch.run_stage(request, LAPTOP.model_validate(request.cluster), on_event)


def test_a_stage_trains_on_two_workers_under_deepspeed(tmp_path: Path) -> None:
    config = tiny_stage("busgen", "classifier").but(max_steps=12)
    inputs = rehearsal(config, tmp_path / "inputs")
    request = request_for(config, inputs, tmp_path / "two" / "classifier", TWO)
    events: list[dict[str, Any]] = []
    _run(request, events.append)
    assert [event["workers"] for event in events if event["kind"] == "started"] == [2]
    alone = request_for(config, inputs, tmp_path / "alone" / "classifier")
    train_alone(alone)
    assert curve(request, "loss") == pytest.approx(curve(alone, "loss"), rel=1e-3, abs=1e-5)


def _worker_processes() -> list[psutil.Process]:
    """The worker group's processes, by the titles that Ray gives them; not those of other runs on this machine."""
    own = {process.pid for process in psutil.Process().children(recursive=True)}
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if process.pid in own and "RayTrainWorker" in " ".join(process.info["cmdline"] or [])
    ]


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_changes_no_bit_of_the_result(tmp_path: Path) -> None:
    config = tiny_stage("relay", "student").but(max_steps=600)
    inputs = rehearsal(config, tmp_path / "inputs")
    undisturbed = request_for(config, inputs, tmp_path / "undisturbed" / "student", TWO)
    train_together(undisturbed)
    disturbed = request_for(config, inputs, tmp_path / "disturbed" / "student", TWO)
    killed: list[int] = []
    starts: list[int] = []

    def kill_one(event: dict[str, Any]) -> None:
        if event["kind"] == "started":
            starts.append(event["step"])
        if event["kind"] == "step" and event["step"] > 60 and not killed:
            victim = _worker_processes()[-1]
            os.kill(victim.pid, signal.SIGKILL)
            killed.append(event["step"])

    _run(disturbed, kill_one)
    assert killed
    assert len(starts) == 2
    assert starts[1] >= 50, "went on from a checkpoint"
    one, two = weights(undisturbed), weights(disturbed)
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


def test_a_loss_that_is_not_finite_ends_the_stage_at_once(tmp_path: Path) -> None:
    config = tiny_stage("relay", "control")
    inputs = rehearsal(config, tmp_path / "inputs")
    trained = request_for(config.but(max_steps=2), inputs, tmp_path / "good" / "student")
    poisoned = tmp_path / "poisoned"
    poisoned.mkdir()
    save_file(
        {name: value * float("nan") for name, value in train_alone(trained).items()}, poisoned / "weights.safetensors"
    )
    manifests.write_manifest(poisoned)
    request = request_for(
        config, Inputs(folders=inputs.folders, start_from=poisoned), tmp_path / "nan" / "control", TWO
    )
    with pytest.raises(TrainingError, match=r"step 1: .*loss is nan\n.*\nno checkpoint had been written yet"):
        _run(request)
    events = read_lines(StageFolder(request.folder).events)
    assert not any(event["kind"] == "lost" for event in events)
    failed = [event for event in events if event["kind"] == "failed"]
    assert len(failed) <= TWO.workers, "each rank at most once: there was no second group"
    assert all("TrainingError" in event["trace"] for event in failed)


def test_an_input_that_changed_is_refused(tmp_path: Path) -> None:
    config = tiny_stage("relay", "student")
    inputs = rehearsal(config, tmp_path / "inputs")
    request = request_for(config, inputs, tmp_path / "changed" / "student", TWO)
    next(inputs.folders["problems"].glob("*.npy")).write_bytes(b"other")
    with pytest.raises(DataError, match=r"input 'problems': .* its manifest says"):
        _run(request)


def test_what_a_shard_refuses_arrives_as_its_own_error(tmp_path: Path) -> None:
    busgen = workloads.preset("busgen", "tiny")
    assert isinstance(busgen, BusgenConfig)
    few_shot = rehearsal(tiny_stage("busgen", "adaptation"), tmp_path / "inputs")
    inputs = Inputs({"images": few_shot.folders["images"]})
    request = request_for(busgen.optimal_loss_stage, inputs, tmp_path / "shards" / "optimal_loss", TWO)
    with pytest.raises(DataError, match=r"has 0 images of split 'pretrain'\nfits: at least 2"):
        _run(request)


def test_more_workers_than_ray_has_are_refused_before_a_job_is_made(ray: RayService, tmp_path: Path) -> None:
    config = tiny_stage("relay", "student")
    many = LAPTOP.but(workers=64)
    request = request_for(config, rehearsal(config, tmp_path / "inputs"), tmp_path / "many" / "student", many)
    with pytest.raises(ClusterError, match=r"asks for 64 workers.*\n.*fits: 2 such workers"):
        launch.run_stage(request, many, lambda event: None)
    with pytest.raises(ClusterError, match="1 GPUs each"):
        launch.require_feasible(LAPTOP.but(gpus_per_worker=1))
    assert not request.folder.exists()


def test_a_stage_that_has_run_waits_for_nodes_that_were_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_stage("relay", "student").but(max_steps=4)
    request = request_for(config, rehearsal(config, tmp_path / "inputs"), tmp_path / "again" / "student", TWO)
    request.folder.mkdir(parents=True)
    StageFolder(request.folder).record("step", step=1, metrics={})
    found, asked = ray_client.nodes, []

    def lost_at_first(client: Any) -> list[dict[str, float]]:
        asked.append(client)
        return found(client) if len(asked) > 3 else []

    monkeypatch.setattr(ray_client, "nodes", lost_at_first)
    _run(request)
    told = [event["text"] for event in read_lines(StageFolder(request.folder).events) if event["kind"] == "log"]
    assert len(told) == 1
    assert "for nodes to come back: cluster 'laptop' asks for 2 workers" in told[0]
    assert "Ray has no nodes" in told[0]


def test_a_group_that_may_be_smaller_goes_on_with_the_workers_that_there_are(tmp_path: Path) -> None:
    config = tiny_stage("relay", "student").but(max_steps=4)
    four = LAPTOP.but(workers=4, min_workers=1, rejoin_seconds=2)
    request = request_for(config, rehearsal(config, tmp_path / "inputs"), tmp_path / "fewer" / "student", four)
    events: list[dict[str, Any]] = []
    _run(request, events.append)
    assert [event["workers"] for event in events if event["kind"] == "started"] == [2]
    told = [event["text"] for event in events if event["kind"] == "log"]
    assert told == [
        "waits up to 2 s for nodes of 4 workers to come back",
        "goes on with 2 of 4 workers; grows again when there is room",
    ]


def test_ray_answers_nothing_without_its_token(ray: RayService) -> None:
    for path in ("/api/jobs/", "/api/v0/nodes"):
        assert requests.get(ray.address + path, timeout=10).status_code == 401
    submitted = requests.post(f"{ray.address}/api/jobs/", json={"entrypoint": "true"}, timeout=10)
    assert submitted.status_code == 401
    assert ray_client.asks_for_token(ray.address)
    assert ray.token.stat().st_mode & 0o077 == 0


def test_a_process_that_begins_with_a_stop_finds_the_token_of_this_machines_ray(ray: RayService) -> None:
    """As the hook of a cancelled run does: it has no setting of Ray's, and has imported nothing of Ray."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    code = "from infra import stopping; print(stopping.stop_run('never-began').left)"
    environment = mine | {"ORCHARD_HOME": str(ray.token.parent.parent), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "()"


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "http://no-such-host.invalid:8265", "127.0.0.1:6379"])
def test_an_address_that_cannot_be_used_is_refused_soon(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    began = time.monotonic()
    with pytest.raises(ClusterError, match="RAY_ADDRESS"):
        launch.require_feasible(LAPTOP)
    assert time.monotonic() - began < 30


def test_a_head_that_takes_a_question_and_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one whose host is cut off: its connections stay open, and nothing comes back."""
    monkeypatch.setattr(ray_client, "_QUESTION_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("RAY_ADDRESS", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(ClusterError, match="cannot be reached: ReadTimeout"):
            launch.require_feasible(LAPTOP)


def test_a_stopped_run_ends_with_its_processes_gone_and_goes_on_at_once_as_a_job_of_its_own(tmp_path: Path) -> None:
    config = tiny_stage("relay", "teacher").but(max_steps=600)
    request = request_for(config, rehearsal(config, tmp_path / "inputs"), tmp_path / "called-off" / "teacher", TWO)
    stopped: list[stopping.Stopped] = []
    thread = threading.Thread(target=lambda: stopped.append(stopping.stop_run("called-off")))

    def stop(event: dict[str, Any]) -> None:
        if event["kind"] == "step" and not thread.ident:
            thread.start()

    with pytest.raises(Cancelled, match="checkpoints are kept"):
        _run(request, stop)
    thread.join()
    assert left_of_run("called-off") == []
    assert stopped[0].jobs == ("called-off.teacher",)
    assert stopped[0].workers >= 3, "driver, two workers"
    assert stopped[0].left == ()
    assert stopping.stop_run("called-off").but(seconds=0) == stopping.Stopped(jobs=(), workers=0, left=(), seconds=0)

    events: list[dict[str, Any]] = []
    _run(request, events.append)
    assert [event["name"] for event in events if event["kind"] == "job"] == ["called-off.teacher.2"]
    assert events[-1]["kind"] == "finished"


def test_who_lets_go_of_a_job_leaves_it_running_and_may_come_back(tmp_path: Path) -> None:
    config = workloads.preset("relay", "tiny").trained_stages()["teacher"].but(max_steps=1_000_000)
    request = request_for(config, rehearsal(config, tmp_path / "inputs"), tmp_path / "let-go" / "teacher", TWO)
    events: list[dict[str, Any]] = []

    def let_go() -> None:
        if any(event["kind"] == "started" for event in events):
            raise Cancelled("enough")

    with pytest.raises(Cancelled, match="enough"):
        launch.run_stage(request, TWO, events.append, let_go)
    assert processes_of_run("let-go")
    assert "waits until slots of 2 workers are free" in _told_in_vain(tmp_path)
    events.clear()
    thread = threading.Thread(target=stopping.stop_run, args=("let-go",))

    def stop_once() -> None:
        if not thread.ident:
            thread.start()

    with pytest.raises(Cancelled, match="checkpoints are kept"):
        launch.run_stage(request, TWO, events.append, stop_once)
    thread.join()
    assert "attached to the running job let-go.teacher" in [event.get("text") for event in events]


def _told_in_vain(folder: Path) -> str:
    """The first that a stage tells which finds no free slot; it is stopped then."""
    config = tiny_stage("relay", "student")
    request = request_for(config, rehearsal(config, folder / "of-student"), folder / "in-vain" / "student", TWO)
    told: list[str] = []

    def stop(event: dict[str, Any]) -> None:
        if event["kind"] in ("log", "started"):
            told.append(event.get("text", "it has begun"))
            stopping.stop_run("in-vain")

    with pytest.raises(Cancelled):
        _run(request, stop)
    return told[0]


def test_where_no_ray_runs_nothing_is_left_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS")
    assert stopping.stop_run("any").left == ()
