"""The faults of who trains: each disturbs a run of the scene's stage, and says what came of it."""

import time

from infra.drill.card import Drill, Row
from infra.drill.memory import starved
from infra.drill.outcomes import (
    EQUAL,
    at_a_moment,
    catch,
    recovered,
    require,
    require_same_course,
    require_same_weights,
    stop,
    told,
)
from infra.drill.scene import INTERVAL, Scene, wait
from models.common.errors import CheckpointError, ClusterError

_DRAIN_SECONDS = 15
_REJOIN_SECONDS = 5


def worker_killed(scene: Scene) -> Row:
    trial = at_a_moment(scene, "worker")
    before, began = trial.step(), time.time()
    scene.rank_on(scene.random.randrange(len(scene.cluster.workers))).kill()
    return recovered(scene, trial, STAGE_DRILLS["worker"], before, began)


def worker_starved(scene: Scene) -> Row:
    trial = at_a_moment(scene, "oom")
    before, began = trial.step(), time.time()
    worker = scene.rank_on(scene.random.randrange(len(scene.cluster.workers)))
    with starved(worker):
        wait(lambda: not worker.is_running(), "the kernel to end the worker")
    return recovered(scene, trial, STAGE_DRILLS["oom"], before, began)


def host_killed(scene: Scene) -> Row:
    trial = at_a_moment(scene, "host")
    before, began = trial.step(), time.time()
    worker = scene.random.choice(scene.cluster.workers)
    worker.kill()
    scene.cluster.wait_dead(worker, 60)
    noticed = time.time() - began
    worker.restart()
    return recovered(scene, trial, STAGE_DRILLS["host"], before, began, noticed)


def host_gone(scene: Scene) -> Row:
    """With ZeRO, whose state is cut anew for each size: a host's own part is in the store only when it is gone."""
    trial = scene.trial("shrinks", min_workers=1, rejoin_seconds=_REJOIN_SECONDS, zero_stage=2)
    trial.wait_step(INTERVAL + scene.random.randrange(INTERVAL))  # early: a host takes a while to come back
    before, began = trial.step(), time.time()
    worker = scene.random.choice(scene.cluster.workers)
    worker.kill()
    wait(lambda: trial.resumed(began) or trial.is_over(), "a smaller group of workers")
    smaller = trial.resumed(began)
    require(smaller is not None and smaller["workers"] == len(scene.cluster.workers) - 1, f"it began at {smaller}")
    assert smaller is not None
    wait(lambda: trial.seen("step", smaller["time"]) or trial.is_over(), "a step")
    back = time.time()
    worker.restart()
    wait(lambda: trial.resumed(back) or trial.is_over(), "a group of all workers")
    whole = trial.resumed(back)
    trial.wait_over()
    require(whole is not None and whole["workers"] == len(scene.cluster.workers), f"it did not grow: {whole}")
    require_same_course(scene, trial)
    lost = before - smaller["step"]
    require(lost <= 2 * INTERVAL, f"{lost} steps were lost")
    losses = [event["time"] - began for event in trial.seen("lost", began)]
    return STAGE_DRILLS["shrinks"].seen(
        notice_seconds=min(losses, default=None),
        resume_seconds=trial.seen("step", smaller["time"])[0]["time"] - began,
        steps_lost=max(0, lost),
    )


def worker_stopped(scene: Scene) -> Row:
    trial = at_a_moment(scene, "stopped")
    before, began = trial.step(), time.time()
    scene.rank_on(scene.random.randrange(len(scene.cluster.workers))).suspend()
    row = recovered(scene, trial, STAGE_DRILLS["stopped"], before, began)
    require(told(trial, "stood still", began) is not None, "no stack of those who waited was kept")
    return row


def host_cut_off(scene: Scene) -> Row:
    trial = at_a_moment(scene, "cut")
    before, began = trial.step(), time.time()
    worker = scene.random.choice(scene.cluster.workers)
    worker.host.cut()
    noticed = scene.cluster.wait_dead(worker, 90)
    wait(lambda: trial.seen("lost", began) or trial.seen("failed", began), "a visible reason", 60)
    worker.host.heal()
    wait(lambda: not worker.answers(), "the node that was given up to leave", 60)
    worker.restart()
    return recovered(scene, trial, STAGE_DRILLS["cut"], before, began, noticed)


def link_slowed(scene: Scene) -> Row:
    trial = at_a_moment(scene, "slow")
    before, began = trial.step(), time.time()
    worker = scene.random.choice(scene.cluster.workers)
    worker.host.slow(delay_ms=250, loss_percent=5)
    time.sleep(45)
    crawled = trial.step() - before
    worker.host.heal()
    require(crawled > 0, "training stood still")
    trial.wait_over()
    require(trial.resumed(began) is None, "a worker was taken for dead")
    require_same_weights(scene, trial)
    return STAGE_DRILLS["slow"].seen(steps_lost=0)


def driver_killed(scene: Scene) -> Row:
    trial = at_a_moment(scene, "driver")
    before, began = trial.step(), time.time()
    scene.driver().kill()
    return recovered(scene, trial, STAGE_DRILLS["driver"], before, began)


def head_killed(scene: Scene) -> Row:
    trial = at_a_moment(scene, "head")
    before, began = trial.step(), time.time()
    scene.cluster.head.kill()
    scene.cluster.head.restart()
    for worker in scene.cluster.workers:
        worker.restart()
    return recovered(scene, trial, STAGE_DRILLS["head"], before, began)


def disk_full(scene: Scene) -> Row:
    trial = at_a_moment(scene, "full")
    began = time.time()
    host = scene.random.choice(scene.cluster.workers).host
    host.fill()
    try:
        trial.wait_over()
        raise ClusterError("it went on without a place for checkpoints")
    except CheckpointError as refused:
        require("is full" in str(refused), f"no reason in: {refused}")
    noticed = time.time() - began
    host.drain()
    freed = time.time()
    again = trial.again()
    return recovered(scene, again, STAGE_DRILLS["full"], trial.step(), freed, noticed)


def host_drained(scene: Scene) -> Row:
    trial = scene.trial("drained", max_failures=0)  # a loss that were charged would end it
    trial.wait_step(INTERVAL + scene.random.randrange(INTERVAL))  # early: it trains on until the deadline
    began = time.time()
    worker = scene.random.choice(scene.cluster.workers)
    scene.cluster.head.drain(worker, seconds=_DRAIN_SECONDS)
    deadline = time.time() + _DRAIN_SECONDS  # Ray takes a host that is gone before it for one that was lost
    wait(lambda: told(trial, "about to be taken away", began) or trial.is_over(), "a checkpoint out of turn")
    noticed = told(trial, "about to be taken away", began)
    time.sleep(max(0.0, deadline - time.time()))
    worker.kill()
    before = trial.step()
    worker.restart()
    row = recovered(scene, trial, STAGE_DRILLS["drain"], before, began, noticed)
    require(noticed is not None and noticed < _DRAIN_SECONDS, "no checkpoint before the deadline")
    return row


def started_twice(scene: Scene) -> Row:
    trial = at_a_moment(scene, "twice")
    second = trial.again()
    trial.wait_over()
    second.wait_over()
    require(len(trial.seen("started")) == 1, "two groups of workers have trained")
    require_same_weights(scene, second)
    return STAGE_DRILLS["twice"].seen(steps_lost=0)


def worker_killed_in_save(scene: Scene) -> Row:
    trial = at_a_moment(scene, "saving")
    worker = scene.random.randrange(len(scene.cluster.workers))
    rank, checkpoints = scene.rank_on(worker), scene.checkpoints_on(worker, trial)
    catch(lambda: any(checkpoints.glob(".step-*")), trial, "a save")
    rank.kill()
    before, began = trial.step(), time.time()
    return recovered(scene, trial, STAGE_DRILLS["saving"], before, began)


def other_precision(scene: Scene) -> Row:
    trial = at_a_moment(scene, "precision", zero_stage=1)
    stop(trial)
    try:
        trial.again(precision="bf16").wait_over()
        raise ClusterError("it went on in another precision")
    except CheckpointError as refused:
        require("precision" in str(refused), f"no reason in: {refused}")
    again = trial.again()
    again.wait_over()
    require_same_course(scene, again)
    return STAGE_DRILLS["precision"].seen()


def other_world_size(scene: Scene) -> Row:
    trial = at_a_moment(scene, "smaller")
    stop(trial)
    began = time.time()
    alone = trial.again(workers=1)
    alone.wait_over()
    started = alone.resumed(began)
    require(started is not None and started["step"] >= INTERVAL, f"it began at {started}")
    alone.result()
    return STAGE_DRILLS["smaller"].seen()


STAGE_DRILLS = {
    "worker": Drill("SIGKILL a train worker", EQUAL, worker_killed, core=True),
    "oom": Drill("a train worker runs out of memory", EQUAL, worker_starved, core=False),
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
    "full": Drill("a worker's disk is full", "a clear error; goes on once there is room", disk_full, core=False),
    "twice": Drill("the same run started twice", "the second one attaches", started_twice, core=True),
    "saving": Drill("SIGKILL a train worker while it saves", EQUAL, worker_killed_in_save, core=False),
    "precision": Drill("resume with another precision", "refused; as it was it goes on", other_precision, core=False),
    "smaller": Drill("resume with another world size", "converted", other_world_size, core=False),
}
