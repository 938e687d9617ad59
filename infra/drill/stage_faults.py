"""The faults of who trains and where it saves: each disturbs a run of the scene's stage, and says what came of it."""

import time
from collections.abc import Callable

from infra import stopping
from infra.carrying import insist
from infra.drill.card import Drill, Row
from infra.drill.s3_proxy import Fault
from infra.drill.scene import INTERVAL, Scene, Trial, wait
from infra.objects import Objects
from infra.settings import settings
from models.common.errors import Cancelled, CheckpointError, ClusterError, ConfigError

_DRAIN_SECONDS = 15
_SILENT_SECONDS = 20
_REJOIN_SECONDS = 5
_COURSE = 0.2
_SLOW_BYTES = 1e5  # a second, where a checkpoint has half a megabyte
EQUAL = "resumed from the last commit; weights equal the undisturbed run's; at most one interval lost"


def worker_killed(scene: Scene) -> Row:
    trial = _at_a_moment(scene, "worker")
    before, began = trial.step(), time.time()
    scene.rank_on(scene.random.randrange(len(scene.cluster.workers))).kill()
    return _recovered(scene, trial, STAGE_DRILLS["worker"], before, began)


def host_killed(scene: Scene) -> Row:
    trial = _at_a_moment(scene, "host")
    before, began = trial.step(), time.time()
    worker = scene.random.choice(scene.cluster.workers)
    worker.kill()
    scene.cluster.wait_dead(worker, 60)
    noticed = time.time() - began
    worker.restart()
    return _recovered(scene, trial, STAGE_DRILLS["host"], before, began, noticed)


def host_gone(scene: Scene) -> Row:
    """With ZeRO, whose state is cut anew for each size: a host's own part is in the store only when it is gone."""
    trial = scene.trial("shrinks", min_workers=1, rejoin_seconds=_REJOIN_SECONDS, zero_stage=2)
    trial.wait_step(INTERVAL + scene.random.randrange(INTERVAL))  # early: a host takes a while to come back
    before, began = trial.step(), time.time()
    worker = scene.random.choice(scene.cluster.workers)
    worker.kill()
    wait(lambda: trial.resumed(began) or trial.is_over(), "a smaller group of workers")
    smaller = trial.resumed(began)
    _require(smaller is not None and smaller["workers"] == len(scene.cluster.workers) - 1, f"it began at {smaller}")
    assert smaller is not None
    wait(lambda: trial.seen("step", smaller["time"]) or trial.is_over(), "a step")
    back = time.time()
    worker.restart()
    wait(lambda: trial.resumed(back) or trial.is_over(), "a group of all workers")
    whole = trial.resumed(back)
    trial.wait_over()
    _require(whole is not None and whole["workers"] == len(scene.cluster.workers), f"it did not grow: {whole}")
    _same_course(scene, trial)
    lost = before - smaller["step"]
    _require(lost <= 2 * INTERVAL, f"{lost} steps were lost")
    losses = [event["time"] - began for event in trial.seen("lost", began)]
    return STAGE_DRILLS["shrinks"].seen(
        notice_seconds=min(losses, default=None),
        resume_seconds=trial.seen("step", smaller["time"])[0]["time"] - began,
        steps_lost=max(0, lost),
    )


def worker_stopped(scene: Scene) -> Row:
    trial = _at_a_moment(scene, "stopped")
    before, began = trial.step(), time.time()
    scene.rank_on(scene.random.randrange(len(scene.cluster.workers))).suspend()
    row = _recovered(scene, trial, STAGE_DRILLS["stopped"], before, began)
    _require(_told(trial, "stood still", began) is not None, "no stack of those who waited was kept")
    return row


def host_cut_off(scene: Scene) -> Row:
    trial = _at_a_moment(scene, "cut")
    before, began = trial.step(), time.time()
    worker = scene.random.choice(scene.cluster.workers)
    worker.host.cut()
    noticed = scene.cluster.wait_dead(worker, 90)
    wait(lambda: trial.seen("lost", began) or trial.seen("failed", began), "a visible reason", 60)
    worker.host.heal()
    wait(lambda: not worker.answers(), "the node that was given up to leave", 60)
    worker.restart()
    return _recovered(scene, trial, STAGE_DRILLS["cut"], before, began, noticed)


def link_slowed(scene: Scene) -> Row:
    trial = _at_a_moment(scene, "slow")
    before, began = trial.step(), time.time()
    worker = scene.random.choice(scene.cluster.workers)
    worker.host.slow(delay_ms=250, loss_percent=5)
    time.sleep(45)
    crawled = trial.step() - before
    worker.host.heal()
    _require(crawled > 0, "training stood still")
    trial.wait_over()
    _require(trial.resumed(began) is None, "a worker was taken for dead")
    _same_weights(scene, trial)
    return STAGE_DRILLS["slow"].seen(steps_lost=0)


def driver_killed(scene: Scene) -> Row:
    trial = _at_a_moment(scene, "driver")
    before, began = trial.step(), time.time()
    scene.driver().kill()
    return _recovered(scene, trial, STAGE_DRILLS["driver"], before, began)


def head_killed(scene: Scene) -> Row:
    trial = _at_a_moment(scene, "head")
    before, began = trial.step(), time.time()
    scene.cluster.head.kill()
    scene.cluster.head.restart()
    for worker in scene.cluster.workers:
        worker.restart()
    return _recovered(scene, trial, STAGE_DRILLS["head"], before, began)


def store_silent(scene: Scene) -> Row:
    door = scene.cluster.s3.door
    return _store_away(scene, "silent", lambda: door.set(Fault("error", status=503)), lambda: door.set(Fault()))


def store_cut_off(scene: Scene) -> Row:
    host = scene.cluster.s3.host
    return _store_away(scene, "gone", host.cut, host.heal)


def store_slow(scene: Scene) -> Row:
    trial = _at_a_moment(scene, "crawls")
    began = time.time()
    scene.cluster.s3.door.set(Fault("slow", bytes_per_second=_SLOW_BYTES))
    trial.wait_over(600)
    scene.cluster.s3.door.set(Fault())
    _require(trial.resumed(began) is None, "it began anew")
    _same_weights(scene, trial)
    return STAGE_DRILLS["crawls"].seen(steps_lost=0)


def _store_away(scene: Scene, name: str, leave: Callable[[], None], come_back: Callable[[], None]) -> Row:
    """The row of a run that trains on while the store is away."""
    trial = _at_a_moment(scene, name)
    began = time.time()
    leave()
    time.sleep(_SILENT_SECONDS)
    healed = time.time()
    come_back()
    trial.wait_over()
    _same_weights(scene, trial)
    _require(trial.resumed(began) is None, "it began anew")
    # Events go through the store too: what happened meanwhile is told afterwards.
    meanwhile = [event["step"] for event in trial.seen("step", began) if event["time"] < healed]
    _require(len(meanwhile) > 1, "training stood still")
    return STAGE_DRILLS[name].seen(notice_seconds=_told(trial, "does not answer", began), steps_lost=0)


def keys_expired(scene: Scene) -> Row:
    trial = _at_a_moment(scene, "expired")
    began = time.time()
    scene.cluster.s3.door.set(Fault("error", status=403))
    try:
        trial.wait_over(120)
        raise ClusterError("it went on with keys that nobody takes")
    except ConfigError as refused:
        _require("AWS_ACCESS_KEY_ID" in str(refused), f"no hint in: {refused}")
    noticed = time.time() - began
    stopping.stop_run(trial.request.run_key)  # the workers may not have met the store since
    scene.cluster.s3.door.set(Fault())
    again = Trial(trial.request, trial.shape).begin()
    again.wait_over()
    _same_weights(scene, again)
    return STAGE_DRILLS["expired"].seen(notice_seconds=noticed)


def objects_lost(scene: Scene) -> Row:
    trial = _at_a_moment(scene, "lost")
    began = time.time()
    scene.cluster.s3.door.set(Fault("lose", key=".pt", count=2))
    trial.wait_over()
    _same_weights(scene, trial)
    return STAGE_DRILLS["lost"].seen(notice_seconds=_told(trial, "took", began), steps_lost=0)


def disk_full(scene: Scene) -> Row:
    trial = _at_a_moment(scene, "full")
    began = time.time()
    host = scene.random.choice(scene.cluster.workers).host
    host.fill()
    try:
        trial.wait_over()
        raise ClusterError("it went on without a place for checkpoints")
    except CheckpointError as refused:
        _require("is full" in str(refused), f"no reason in: {refused}")
    noticed = time.time() - began
    host.drain()
    freed = time.time()
    again = Trial(trial.request, trial.shape).begin()
    return _recovered(scene, again, STAGE_DRILLS["full"], trial.step(), freed, noticed)


def checkpoint_damaged(scene: Scene) -> Row:
    trial = _at_a_moment(scene, "damaged")
    wait(lambda: len(_committed(trial)) >= 2, "two checkpoints in the store")
    stopping.stop_run(trial.request.run_key)
    _over(trial)
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
    _require(started is not None and 0 < started["step"] < _step_of(newest), f"it began at {started}")
    _same_weights(scene, again)
    return STAGE_DRILLS["damaged"].seen(notice_seconds=_told(again, "damaged", began), steps_lost=INTERVAL)


def host_drained(scene: Scene) -> Row:
    trial = scene.trial("drained", max_failures=0)  # a loss that were charged would end it
    trial.wait_step(INTERVAL + scene.random.randrange(INTERVAL))  # early: it trains on until the deadline
    began = time.time()
    worker = scene.random.choice(scene.cluster.workers)
    scene.cluster.head.drain(worker, seconds=_DRAIN_SECONDS)
    wait(lambda: _told(trial, "about to be taken away", began) or trial.is_over(), "a checkpoint out of turn")
    noticed = _told(trial, "about to be taken away", began)
    time.sleep(max(0.0, began + _DRAIN_SECONDS - time.time()))
    worker.kill()
    before = trial.step()
    worker.restart()
    row = _recovered(scene, trial, STAGE_DRILLS["drain"], before, began, noticed)
    _require(noticed is not None and noticed < _DRAIN_SECONDS, "no checkpoint before the deadline")
    return row


def started_twice(scene: Scene) -> Row:
    trial = _at_a_moment(scene, "twice")
    second = Trial(trial.request, trial.shape).begin()
    trial.wait_over()
    second.wait_over()
    _require(len(trial.seen("started")) == 1, "two groups of workers have trained")
    _same_weights(scene, second)
    return STAGE_DRILLS["twice"].seen(steps_lost=0)


def other_world_size(scene: Scene) -> Row:
    trial = _at_a_moment(scene, "smaller")
    stopping.stop_run(trial.request.run_key)
    _over(trial)
    began = time.time()
    shape = trial.shape.but(workers=1)
    alone = Trial(trial.request.but(cluster=shape.model_dump(mode="json")), shape).begin()
    alone.wait_over()
    started = alone.resumed(began)
    _require(started is not None and started["step"] >= INTERVAL, f"it began at {started}")
    alone.result()
    return STAGE_DRILLS["smaller"].seen()


STAGE_DRILLS = {
    "worker": Drill("SIGKILL a train worker", EQUAL, worker_killed, core=True),
    "host": Drill("SIGKILL a whole host", EQUAL, host_killed, core=True),
    "shrinks": Drill(
        "a host is lost for good, and another comes later",
        "goes on with the rest, then with all; the losses of the undisturbed run",
        host_gone,
        core=False,
    ),
    "stopped": Drill("SIGSTOP a worker", f"noticed within the configured bound; {EQUAL}", worker_stopped, core=True),
    "cut": Drill(
        "a host cut off silently; it comes back later", "waits with a visible reason; goes on", host_cut_off, core=False
    ),
    "slow": Drill(
        "250 ms delay and 5 % loss on a link", "slower, never wrong, no false death", link_slowed, core=False
    ),
    "driver": Drill("SIGKILL the Ray job's driver", EQUAL, driver_killed, core=True),
    "head": Drill("SIGKILL of the Ray head", "restarts from S3 on a new head", head_killed, core=False),
    "drain": Drill("drain with a deadline", "checkpoint before the deadline, not charged", host_drained, core=False),
    "silent": Drill("S3: 503 for 20 s", "training continues on local checkpoints", store_silent, core=True),
    "gone": Drill(
        "S3's host is cut off for 20 s", "training continues on local checkpoints", store_cut_off, core=False
    ),
    "crawls": Drill("S3: 100 kB/s", "slower uploads; training continues", store_slow, core=False),
    "expired": Drill("S3: expired keys", "fails fast with a hint; goes on with good keys", keys_expired, core=False),
    "lost": Drill("S3: success without an object", "checks after upload notice", objects_lost, core=False),
    "full": Drill("a worker's disk is full", "a clear error; goes on once there is room", disk_full, core=False),
    "damaged": Drill(
        "a flipped byte in the newest checkpoint", "the one before is used, loudly", checkpoint_damaged, core=True
    ),
    "twice": Drill("the same run started twice", "the second one attaches", started_twice, core=True),
    "smaller": Drill("resume with another world size", "converted", other_world_size, core=False),
}


def _at_a_moment(scene: Scene, name: str) -> Trial:
    """A run of the stage at a random step after its first checkpoint."""
    trial = scene.trial(name)
    trial.wait_step(scene.moment())
    _require(not trial.is_over(), f"it ended before: {trial.error}")
    return trial


def _recovered(
    scene: Scene, trial: Trial, drill: Drill, before: int, began: float, noticed: float | None = None
) -> Row:
    """The row of a run that goes on by itself: when, from where, and with what result."""
    wait(lambda: trial.resumed(began) or trial.is_over(), "a new group of workers")
    wait(lambda: trial.seen("step", (trial.resumed(began) or {"time": 0.0})["time"]) or trial.is_over(), "a step")
    trial.wait_over()
    started = trial.resumed(began)
    assert started is not None, "it ended without a new group of workers"
    lost = before - started["step"]
    _require(lost <= 2 * INTERVAL, f"{lost} steps were lost")
    _same_weights(scene, trial)
    first_step = trial.seen("step", started["time"])[0]["time"]
    losses = [event["time"] - began for event in trial.seen("lost", began)]
    return drill.seen(
        notice_seconds=noticed if noticed is not None else min(losses, default=None),
        resume_seconds=first_step - began,
        steps_lost=max(0, lost),
    )


def _same_weights(scene: Scene, trial: Trial) -> None:
    _require(trial.result() == scene.undisturbed, "the weights are not those of the undisturbed run")


def _same_course(scene: Scene, trial: Trial) -> None:
    """The losses of another number of workers differ in the order of their sums, which grows from step to step."""
    far = max(abs(mine - theirs) / theirs for mine, theirs in zip(trial.losses(), scene.losses, strict=True))
    _require(far < _COURSE, f"a loss is {100 * far:.0f} % from that of the undisturbed run")


def _require(held: bool, otherwise: str) -> None:
    if not held:
        raise ClusterError(otherwise)


def _over(trial: Trial) -> None:
    try:
        trial.wait_over()
    except Cancelled:
        return


def _told(trial: Trial, words: str, since: float) -> float | None:
    """How long after the fault an event said so."""
    told = [event for event in trial.events if words in event.get("text", "") and event["time"] >= since]
    return told[0]["time"] - since if told else None


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
