"""Training while the store is silent, refuses, loses what it takes, or is all that is left of a host."""

import shutil
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.distributed_c10d import _set_pg_timeout

from infra import carrying, objects, remote_checkpoints, worker
from infra.checkpoints import CheckpointStore
from infra.drill.s3_proxy import Fault, S3Proxy
from infra.json_lines import read_lines
from infra.objects import Objects
from infra.runs import StageFolder
from models.common.contract import LearnerState, Metrics
from models.common.errors import ConfigError, StorageError
from models.common.loop import Progress, train
from tests.fixtures.groups import Group, places
from tests.fixtures.ranks import run_ranks
from tests.fixtures.s3 import free_port
from tests.fixtures.s3_door import Behind
from tests.fixtures.stages import ALONE, rehearsal, request_for, tiny_stage, train_alone, weights
from tests.fixtures.workers import wait_for


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_FIRST_PAUSE_SECONDS", "_LONGEST_PAUSE_SECONDS", "_LOOK_SECONDS"):
        monkeypatch.setattr(remote_checkpoints, name, 0.05)


class SlowCounter:
    """A learner that takes its time, and on whose state the number of its steps can be read."""

    finished = False
    sound = True

    def __init__(self, at: dict[int, Callable[[], None]] | None = None) -> None:
        self.at = at or {}
        self.count = 0

    def step(self) -> Metrics:
        self.count += 1
        self.at.get(self.count, lambda: None)()
        time.sleep(0.005)
        return {"loss": 1.0}

    def state_dict(self) -> LearnerState:
        return LearnerState({"count": self.count})

    def load_state_dict(self, state: LearnerState) -> None:
        self.count = state.shared["count"]

    def weights(self) -> dict[str, torch.Tensor]:
        return {}


class Unseen:
    def started(self, step: int) -> None: ...

    def stepped(self, step: int, metrics: Metrics) -> None: ...

    def finished(self, step: int) -> None: ...


def _train(group: Group, learner: SlowCounter, steps: int) -> Progress:
    return train(learner, max_steps=steps, save_every=10, recorder=Unseen(), saver=group.checkpoints)


def test_training_goes_on_through_an_outage_and_uploads_again_after_it(
    store: Objects, door: S3Proxy, behind: Behind, tmp_path: Path
) -> None:
    group = Group(store, tmp_path)
    local: list[list[Path]] = []

    def look() -> None:
        wait_for(lambda: bool(group.warned), 30, "nobody noticed the outage")
        local.append(group.checkpoints.saved())

    def heal() -> None:
        door.set(Fault())
        group.wait()  # the one that was on its way is an old one by now

    events = {
        25: lambda: door.set(Fault("error", status=503)),
        95: look,
        100: heal,
    }
    assert _train(group, SlowCounter(events), 200).step == 200
    group.wait()
    assert door.counts().faulted["error"] > 0
    assert [path.name for path in local[0]] == ["step-0000000090", "step-0000000080"]
    assert "does not answer; training goes on for up to 60 s" in group.warned[0]
    assert len(group.warned) == 1
    assert any("answers again" in text for text in group.told)
    found = Group(store, tmp_path / "another host").checkpoints.newest()
    assert found
    assert found[0].step > 100


def test_beyond_the_budget_training_stops_and_goes_on_from_the_local_ones(
    store: Objects, door: S3Proxy, tmp_path: Path
) -> None:
    group = Group(store, tmp_path, budget_seconds=0.4)
    began = time.monotonic()
    with pytest.raises(StorageError, match="has not answered for 0 s"):
        _train(group, SlowCounter({25: lambda: door.set(Fault("error"))}), 10_000)
    assert time.monotonic() - began < 10
    newest = group.checkpoints.saved()[0].name
    assert newest > "step-0000000030"
    door.set(Fault())
    found = Group(store, tmp_path).checkpoints.newest()
    assert found
    assert f"step-{found[0].step:010d}" == newest


def test_refused_keys_stop_training_at_its_next_save(store: Objects, door: S3Proxy, tmp_path: Path) -> None:
    learner = SlowCounter({25: lambda: door.set(Fault("error", status=403))})
    with pytest.raises(ConfigError, match="see AWS_ACCESS_KEY_ID"):
        _train(Group(store, tmp_path), learner, 10_000)
    assert learner.count < 200


def test_a_store_that_loses_what_it_takes_has_no_checkpoint(
    store: Objects, door: S3Proxy, behind: Behind, tmp_path: Path
) -> None:
    group = Group(store, tmp_path, budget_seconds=0.3)
    door.set(Fault("lose"))
    group.save(5)
    with pytest.raises(StorageError, match="has nothing"):
        group.save(10)
    assert places(behind) == []
    assert Group(store, tmp_path).newest() == 5


def test_a_group_that_begins_while_the_store_is_silent_takes_the_local_ones_and_uploads_later(
    store: Objects, door: S3Proxy, behind: Behind, tmp_path: Path
) -> None:
    Group(store, tmp_path).save(5, 10)
    door.set(Fault("error"))
    second = Group(store, tmp_path)
    assert second.newest() == 10
    door.set(Fault())
    second.save(15)
    assert len(behind.keys("stage/attempts/")) == 2
    assert places(behind) == ["10", "15"]


def _two_hosts(rank: int, url: str, endpoint: str, dead: str, folder: str) -> list[Any]:
    """What rank sees: each has a folder, as ranks of two hosts have, and a part of the state that is its own."""
    remote_checkpoints._FIRST_PAUSE_SECONDS = remote_checkpoints._LOOK_SECONDS = 0.05
    objects._ATTEMPTS = 1
    host, seen = Path(folder) / f"host-{rank}", []

    def group(address: str, budget_seconds: float = 60) -> Group:
        return Group(Objects(url, address), host, rank=rank, size=2, budget_seconds=budget_seconds)

    def newest(of: Group) -> Any:
        found = of.checkpoints.newest()
        return found and (found[0].step, found[1].own)

    def lose_host(number: int) -> None:
        if rank == number:
            shutil.rmtree(host)

    group(endpoint).save(5, 10, own={"of": rank})
    lose_host(1)
    second = group(endpoint)
    seen.append(newest(second))
    second.save(15, own={"of": rank})
    seen.append(newest(group(dead)))
    lose_host(0)
    waiting = group(dead, budget_seconds=0.5)
    try:
        newest(waiting)
    except StorageError as silent:
        seen.append(str(silent).splitlines()[0].partition(",")[0])
    seen.append(newest(group(endpoint)))
    return seen


def test_of_two_hosts_either_may_be_lost_or_the_store(
    store: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    seen = run_ranks(_two_hosts, 2, store.bucket.url, store.bucket.endpoint, dead, str(tmp_path))
    silent = "the store has not answered for 0 s"
    assert seen == [[(10, {"of": rank}), (15, {"of": rank}), silent, (15, {"of": rank})] for rank in (0, 1)]
    for host in ("host-1", "new"):  # a host's disk has its own rank's part only
        found = Group(store, tmp_path / host).checkpoints.newest()
        assert found
        assert found[0].step == 15
        assert (found[1].own, found[1].of_others) == ({}, ({"of": 0}, {"of": 1}))


def _patient_ranks(rank: int, url: str, endpoint: str, folder: str) -> list[Any]:
    """Two ranks that wait two seconds for each other, and for the store until the test has it answer again."""
    remote_checkpoints._FIRST_PAUSE_SECONDS, remote_checkpoints._MEET_SECONDS = 0.05, 0.2
    objects._ATTEMPTS = 1
    marks = Path(folder)

    def group() -> Group:
        return Group(Objects(url, endpoint), marks / f"host-{rank}", rank=rank, size=2)

    def until(mark: str) -> None:
        (marks / f"{mark}-{rank}").touch()
        wait_for((marks / mark).exists, 30)

    first = group()
    first.save(5, own={"of": rank})
    _set_pg_timeout(timedelta(seconds=2))
    until("silent")
    first.checkpoints.require_current()  # as where the result is there
    answered = (marks / "answers").exists()
    until("silent-again")
    shutil.rmtree(marks / f"host-{rank}")
    found = group().checkpoints.newest()  # as where a group begins with nothing but the store
    assert found
    return [answered, found[0].step, found[1].own]


def test_ranks_wait_for_a_silent_store_for_longer_than_for_each_other(
    store: Objects, door: S3Proxy, tmp_path: Path
) -> None:
    def outages() -> None:
        for silent, answers in (("silent", "answers"), ("silent-again", "answers-again")):
            wait_for(lambda mark=silent: all((tmp_path / f"{mark}-{rank}").exists() for rank in (0, 1)), 60)
            door.set(Fault("error"))
            (tmp_path / silent).touch()
            time.sleep(5)
            (tmp_path / answers).touch()
            door.set(Fault())

    thread = threading.Thread(target=outages)
    thread.start()
    seen = run_ranks(_patient_ranks, 2, store.bucket.url, store.bucket.endpoint, str(tmp_path))
    thread.join()
    assert seen == [[True, 5, {"of": rank}] for rank in (0, 1)]


class _HostLost(BaseException):
    """What no code of ours expects."""


def test_a_stage_that_goes_on_on_another_host_ends_with_the_same_weights(
    store: Objects, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_stage("relay", "student").but(max_steps=12)
    cluster = ALONE.but(save_every_steps=4)
    inputs = rehearsal(config, tmp_path / "inputs")
    undisturbed = request_for(config, inputs, tmp_path / "undisturbed" / "student", cluster)
    train_alone(undisturbed)
    request = request_for(config, inputs, tmp_path / "moved" / "student", cluster, storage=store.bucket.url)
    carrier = carrying.carrier_of(request)
    carrier.hand_over(request)
    save = CheckpointStore.save

    def lost_after(self: CheckpointStore, progress: Progress, state: LearnerState) -> None:
        save(self, progress, state)
        while self.remote and self.remote.busy:
            time.sleep(0.01)
        if progress.step == 8:
            raise _HostLost

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointStore, "save", lost_after)
        with pytest.raises(_HostLost):
            worker.train_rank(request.model_dump(mode="json"))
    monkeypatch.setenv("ORCHARD_HOME", str(tmp_path / "another host"))
    worker.train_rank(request.model_dump(mode="json"))
    carrier.finish()
    started = [event["step"] for event in read_lines(StageFolder(request.folder).events) if event["kind"] == "started"]
    assert started == [0, 8]
    expected, found = weights(undisturbed), weights(request)
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    assert not [each.key for each in store.found("runs/moved/student/checkpoints/")]
