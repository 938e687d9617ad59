"""The faults of where a stage saves: an S3 that is silent, gone, slow, full, forgetful, or hands back other bytes."""

import json
import time
from collections.abc import Callable
from typing import Any

from infra import stopping
from infra.drill.card import Drill, Row
from infra.drill.hosts import DISK, SCRATCH
from infra.drill.outcomes import (
    EQUAL,
    at_a_moment,
    catch,
    committed,
    place,
    recovered,
    require,
    require_same_weights,
    step_of,
    stop,
    store,
    told,
)
from infra.drill.s3_proxy import Fault
from infra.drill.scene import INTERVAL, Scene, Trial, wait
from infra.manifests import MANIFEST
from models.common.errors import ClusterError, ConfigError

_AWAY_SECONDS = 20
_LONG_SECONDS = 600
_SLOW_BYTES = 1e5  # a second, where a checkpoint has half a megabyte
_ONE_BEFORE = "the one before is used, loudly"
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
    again = trial.again()
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


def worker_killed_in_upload(scene: Scene) -> Row:
    """With a line that takes seconds for a checkpoint; what was half sent is nothing that anybody goes back to."""
    trial = at_a_moment(scene, "uploading")
    scene.cluster.s3.door.set(Fault("slow", bytes_per_second=_SLOW_BYTES))
    worker = scene.random.randrange(len(scene.cluster.workers))
    catch(lambda: any(scene.checkpoints_on(worker, trial).glob(".upload-*/*")), trial, "an upload")
    time.sleep(2 * scene.random.random())
    before, began = trial.step(), time.time()
    scene.rank_on(worker).kill()
    scene.cluster.s3.door.set(Fault())
    row = recovered(scene, trial, STORE_DRILLS["uploading"], before, began)
    left = [each.key for each in store().found(f"{place(trial)}/checkpoints/")]
    require(not left, f"the store still has {left[:3]}")
    return row


def checkpoint_damaged(scene: Scene) -> Row:
    def flip(newest: str) -> None:
        content = bytearray(store().get(f"{newest}/shared.pt") or b"")
        content[len(content) // 2] ^= 1
        store().put(f"{newest}/shared.pt", bytes(content))

    return _passed_over(scene, "damaged", flip)


def manifest_poisoned(scene: Scene) -> Row:
    """A manifest that would have a file written outside of its folder, or ask for more than there is room for."""
    names = scene.random.choice((["../../escaped"], ["/escaped"], [f"{number}/escaped" for number in range(200_000)]))

    def poison(newest: str) -> None:
        manifest = json.loads(store().get(f"{newest}/{MANIFEST}") or b"")
        manifest["files"] |= dict.fromkeys(names, next(iter(manifest["files"].values())))
        store().put(f"{newest}/{MANIFEST}", json.dumps(manifest).encode())

    row = _passed_over(scene, "poisoned", poison)
    for worker in scene.cluster.workers:
        found = next(worker.host.path(SCRATCH).rglob("escaped"), None)
        require(found is None, f"{worker.host.name} has {found}")
    return row


def record_damaged(scene: Scene) -> Row:
    """The record of the newest attempt says what it went on from; all that is committed says so too."""
    trial, newest = _stopped_with_two(scene, "record")
    attempts = [each.key for each in store().found(f"{place(trial)}/attempts/")]
    store().put(max(attempts), b"{")
    again, started, began = _begun_anew(scene, trial)
    require(started == step_of(newest), f"it began at {started}, and {step_of(newest)} was committed")
    return STORE_DRILLS["record"].seen(notice_seconds=told(again, "damaged", began), steps_lost=0)


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
    "damaged": Drill("a flipped byte in the newest checkpoint", _ONE_BEFORE, checkpoint_damaged, core=True),
    "poisoned": Drill(
        "a poisoned manifest of the newest checkpoint",
        f"refused before any write; {_ONE_BEFORE}",
        manifest_poisoned,
        core=False,
    ),
    "record": Drill(
        "a damaged pointer to the newest checkpoint", "told; rebuilt from what is committed", record_damaged, core=False
    ),
    "uploading": Drill("SIGKILL a train worker while it uploads", EQUAL, worker_killed_in_upload, core=False),
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


def _passed_over(scene: Scene, name: str, spoil: Callable[[str], None]) -> Row:
    """The row of a run whose newest checkpoint is spoilt, and which goes on from the one before."""
    trial, newest = _stopped_with_two(scene, name)
    spoil(newest)
    again, started, began = _begun_anew(scene, trial)
    require(0 < started < step_of(newest), f"it began at {started}")
    return STORE_DRILLS[name].seen(notice_seconds=told(again, "damaged", began), steps_lost=INTERVAL)


def _stopped_with_two(scene: Scene, name: str) -> tuple[Trial, str]:
    """A run that was stopped with two checkpoints in the store, which are nowhere else; and the newest."""
    trial = at_a_moment(scene, name)
    wait(lambda: len(committed(trial)) >= 2, "two checkpoints in the store")
    stop(trial)
    for worker in scene.cluster.workers:  # whose disks have them too
        worker.kill()
        worker.restart()
    return trial, max(committed(trial))


def _begun_anew(scene: Scene, trial: Trial) -> tuple[Trial, int, float]:
    """The same run, to its end; the step that it went on from, and when it was begun."""
    began = time.time()
    again = trial.again()
    again.wait_over()
    require_same_weights(scene, again)
    started = again.resumed(began)
    return again, started["step"] if started else -1, began
