"""The faults of where a stage saves: an S3 that is silent, gone, slow, full, forgetful, or hands back other bytes."""

import time
from collections.abc import Callable
from typing import Any

from infra import stopping
from infra.carrying import insist
from infra.drill.card import Drill, Row
from infra.drill.hosts import DISK
from infra.drill.outcomes import at_a_moment, require, require_same_weights, told, wait_stopped
from infra.drill.s3_proxy import Fault
from infra.drill.scene import INTERVAL, Scene, Trial, wait
from infra.objects import Objects
from infra.settings import settings
from models.common.errors import ClusterError, ConfigError

_AWAY_SECONDS = 20
_LONG_SECONDS = 600
_SLOW_BYTES = 1e5  # a second, where a checkpoint has half a megabyte
_GOES_ON = "training continues on local checkpoints"


def store_silent(scene: Scene) -> Row:
    return _store_away(scene, "silent", *_out_of_service(scene))


def store_silent_for_long(scene: Scene) -> Row:
    """The training ends meanwhile; its result waits for the store."""
    return _store_away(scene, "silent-long", *_out_of_service(scene), seconds=_LONG_SECONDS)


def store_cut_off(scene: Scene) -> Row:
    host = scene.cluster.s3.host
    return _store_away(scene, "gone", host.cut, host.heal)


def store_full(scene: Scene) -> Row:
    host = scene.cluster.s3.host
    return _store_away(scene, "s3-full", lambda: host.fill(DISK), lambda: host.drain(DISK))


def store_slow(scene: Scene) -> Row:
    trial = at_a_moment(scene, "crawls")
    began = time.time()
    scene.cluster.s3.door.set(Fault("slow", bytes_per_second=_SLOW_BYTES))
    trial.wait_over(600)
    scene.cluster.s3.door.set(Fault())
    require(trial.resumed(began) is None, "it began anew")
    require_same_weights(scene, trial)
    return STORE_DRILLS["crawls"].seen(steps_lost=0)


def keys_expired(scene: Scene) -> Row:
    trial = at_a_moment(scene, "expired")
    began = time.time()
    scene.cluster.s3.door.set(Fault("error", status=403))
    try:
        trial.wait_over(120)
        raise ClusterError("it went on with keys that nobody takes")
    except ConfigError as refused:
        require("AWS_ACCESS_KEY_ID" in str(refused), f"no hint in: {refused}")
    noticed = time.time() - began
    stopping.stop_run(trial.request.run_key)  # the workers may not have met the store since
    scene.cluster.s3.door.set(Fault())
    again = Trial(trial.request, trial.shape).begin()
    again.wait_over()
    require_same_weights(scene, again)
    return STORE_DRILLS["expired"].seen(notice_seconds=noticed)


def objects_lost(scene: Scene) -> Row:
    trial = at_a_moment(scene, "lost")
    began = time.time()
    scene.cluster.s3.door.set(Fault("lose", key=".pt", count=2))
    trial.wait_over()
    require_same_weights(scene, trial)
    return STORE_DRILLS["lost"].seen(notice_seconds=told(trial, "took", began), steps_lost=0)


def checkpoint_damaged(scene: Scene) -> Row:
    trial = at_a_moment(scene, "damaged")
    wait(lambda: len(_committed(trial)) >= 2, "two checkpoints in the store")
    stopping.stop_run(trial.request.run_key)
    wait_stopped(trial)
    newest = max(_committed(trial))
    objects = _objects()
    content = bytearray(objects.get(f"{newest}/shared.pt") or b"")
    content[len(content) // 2] ^= 1
    objects.put(f"{newest}/shared.pt", bytes(content))
    for worker in scene.cluster.workers:  # whose disks have the checkpoint too
        worker.kill()
        worker.restart()
    began = time.time()
    again = Trial(trial.request, trial.shape).begin()
    again.wait_over()
    started = again.resumed(began)
    require(started is not None and 0 < started["step"] < _step_of(newest), f"it began at {started}")
    require_same_weights(scene, again)
    return STORE_DRILLS["damaged"].seen(notice_seconds=told(again, "damaged", began), steps_lost=INTERVAL)


STORE_DRILLS = {
    "silent": Drill(f"S3: 503 for {_AWAY_SECONDS} s", _GOES_ON, store_silent, core=True),
    "silent-long": Drill(
        f"S3: 503 for {_LONG_SECONDS // 60} minutes",
        f"{_GOES_ON}; the result comes when S3 is back",
        store_silent_for_long,
        core=False,
    ),
    "gone": Drill(f"S3's host is cut off for {_AWAY_SECONDS} s", _GOES_ON, store_cut_off, core=False),
    "s3-full": Drill(f"S3's disk is full for {_AWAY_SECONDS} s", _GOES_ON, store_full, core=False),
    "crawls": Drill("S3: 100 kB/s", "slower uploads; training continues", store_slow, core=False),
    "expired": Drill("S3: expired keys", "fails fast with a hint; goes on with good keys", keys_expired, core=False),
    "lost": Drill("S3: success without an object", "checks after upload notice", objects_lost, core=False),
    "damaged": Drill(
        "a flipped byte in the newest checkpoint", "the one before is used, loudly", checkpoint_damaged, core=True
    ),
}


def _out_of_service(scene: Scene) -> tuple[Callable[[], None], Callable[[], None]]:
    """What makes the store answer 503 to everybody, and what mends it."""
    door = scene.cluster.s3.door
    return lambda: door.set(Fault("error", status=503)), lambda: door.set(Fault())


def _store_away(
    scene: Scene, name: str, leave: Callable[[], Any], come_back: Callable[[], Any], seconds: float = _AWAY_SECONDS
) -> Row:
    """The row of a run that trains on while the store is away."""
    trial = at_a_moment(scene, name, storage_budget_seconds=int(seconds) + 100)
    began = time.time()
    leave()
    time.sleep(seconds)
    healed = time.time()
    come_back()
    trial.wait_over()
    require_same_weights(scene, trial)
    require(trial.resumed(began) is None, "it began anew")
    # Events go through the store too: what happened meanwhile is told afterwards.
    meanwhile = [event["step"] for event in trial.seen("step", began) if event["time"] < healed]
    require(len(meanwhile) > 1, "training stood still")
    return STORE_DRILLS[name].seen(notice_seconds=told(trial, "does not answer", began), steps_lost=0)


def _objects() -> Objects:
    storage = settings().storage
    assert storage is not None
    return Objects(storage, settings().s3_endpoint)


def _committed(trial: Trial) -> list[str]:
    """The places of the run's checkpoints that have their mark."""
    place = f"runs/{trial.request.run_key}/{trial.request.stage}/checkpoints/"
    keys = insist(lambda: [each.key for each in _objects().found(place)])
    return [key.removesuffix("/manifest.json") for key in keys if key.endswith("/manifest.json")]


def _step_of(place: str) -> int:
    return int(place.rpartition("/")[2].partition("-")[0])
