"""How a run of the scene's stage is watched through a fault, and what it is held against afterwards."""

from collections.abc import Callable
from typing import Any

from infra import stopping
from infra.carrying import insist
from infra.drill.card import Drill, Row
from infra.drill.scene import INTERVAL, Scene, Trial, wait
from infra.objects import Objects
from infra.settings import settings
from models.common.errors import Cancelled, ClusterError

_COURSE = 0.2
EQUAL = "resumed from the last commit; weights equal the undisturbed run's; at most one interval lost"


def at_a_moment(scene: Scene, name: str, **changes: Any) -> Trial:
    """A run of the stage at a random step after its first checkpoint; `changes` are of its cluster."""
    trial = scene.trial(name, **changes)
    trial.wait_step(scene.moment())
    require(not trial.is_over(), f"it ended before: {trial.error}")
    return trial


def recovered(scene: Scene, trial: Trial, drill: Drill, before: int, began: float, noticed: float | None = None) -> Row:
    """The row of a run that goes on by itself: when, from where, and with what result."""
    wait(lambda: trial.resumed(began) or trial.is_over(), "a new group of workers")
    wait(lambda: trial.seen("step", (trial.resumed(began) or {"time": 0.0})["time"]) or trial.is_over(), "a step")
    trial.wait_over()
    started = trial.resumed(began)
    assert started is not None, "it ended without a new group of workers"
    lost = before - started["step"]
    require(lost <= 2 * INTERVAL, f"{lost} steps were lost")
    require_same_weights(scene, trial)
    first_step = trial.seen("step", started["time"])[0]["time"]
    losses = [event["time"] - began for event in trial.seen("lost", began)]
    return drill.seen(
        notice_seconds=noticed if noticed is not None else min(losses, default=None),
        resume_seconds=first_step - began,
        steps_lost=max(0, lost),
    )


def require_same_weights(scene: Scene, trial: Trial) -> None:
    require(trial.result() == scene.undisturbed, "the weights are not those of the undisturbed run")


def require_same_course(scene: Scene, trial: Trial) -> None:
    """The losses of another number of workers differ in the order of their sums, which grows from step to step."""
    far = max(abs(mine - theirs) / theirs for mine, theirs in zip(trial.losses(), scene.losses, strict=True))
    require(far < _COURSE, f"a loss is {100 * far:.0f} % from that of the undisturbed run")


def require(held: bool, otherwise: str) -> None:
    if not held:
        raise ClusterError(otherwise)


def stop(trial: Trial) -> None:
    """Cancels it; returns when it has ended."""
    stopping.stop_run(trial.request.run_key)
    try:
        trial.wait_over()
    except Cancelled:
        return


def catch(true: Callable[[], bool], trial: Trial, what: str) -> None:
    """Returns at once when there is what does not last; raises ClusterError where the run ends before."""
    wait(lambda: true() or trial.is_over(), what, look_seconds=0.0005)
    require(not trial.is_over(), f"it ended before {what}")


def store() -> Objects:
    """Where the cluster's stages save."""
    storage = settings().storage
    assert storage is not None
    return Objects(storage, settings().s3_endpoint)


def place(trial: Trial) -> str:
    """Where in the store the run has what it keeps."""
    return f"runs/{trial.request.run_key}/{trial.request.stage}"


def committed(trial: Trial) -> list[str]:
    """The places of the run's checkpoints that have their mark."""
    keys = insist(lambda: [each.key for each in store().found(f"{place(trial)}/checkpoints/")])
    return [key.removesuffix("/manifest.json") for key in keys if key.endswith("/manifest.json")]


def step_of(checkpoint: str) -> int:
    return int(checkpoint.rpartition("/")[2].partition("-")[0])


def told(trial: Trial, words: str, since: float) -> float | None:
    """How long after the fault an event said so."""
    found = [event for event in trial.events if words in event.get("text", "") and event["time"] >= since]
    return found[0]["time"] - since if found else None
