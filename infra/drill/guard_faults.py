"""The faults of a training itself: on machines that are well its numbers go wrong, and a guard stops it."""

import os
from collections.abc import Mapping
from typing import Any

from infra.drill.card import Drill, Row
from infra.drill.outcomes import committed, require
from infra.drill.scene import Scene, Stage
from models.common.errors import ClusterError, TrainingError

_STOPPED = "stopped by the guard, once; the reason told; the last healthy checkpoint kept"


def loss_not_finite(scene: Scene) -> Row:
    """It begins with weights of which one is NaN: there is no healthy checkpoint to keep."""
    stage = _stage(scene, "busgen", "adaptation", {})
    assert stage.inputs.start_from
    with (stage.inputs.start_from / "weights.safetensors").open("r+b") as weights:
        weights.seek(-4, os.SEEK_END)
        weights.write(b"\xff" * 4)
    return _stopped(scene, "nan", stage, "is nan", kept=False)


def kl_too_large(scene: Scene) -> Row:
    """PPO that may hardly leave its reference, and does."""
    changes = {"iterations": 60, "guards.most_kl": 0.02, "guards.patience": 1}
    return _stopped(scene, "kl", _stage(scene, "rto", "ppo", changes), "nats a response from the reference")


def energy_too_low(scene: Scene) -> Row:
    """A mean of few samples lies below the exact energy now and then: here that is not put down to its error."""
    changes = {"max_steps": 600, "guard.below_bound": 1e-9, "guard.window": 8}
    return _stopped(scene, "energy", _stage(scene, "nqs", "training", changes), "which no state can do")


def _stage(scene: Scene, workload: str, name: str, changes: Mapping[str, Any]) -> Stage:
    return Stage.rehearsed(workload, name, scene.inputs / f"{scene.number}-{name}", changes)


def _stopped(scene: Scene, name: str, stage: Stage, words: str, *, kept: bool = True) -> Row:
    """The row of a run that its guard stops with these words."""
    trial = scene.trial(name, stage, save_every_steps=1)
    try:
        trial.wait_over()
        raise ClusterError("nothing stopped it")
    except TrainingError as stopped:
        require(words in str(stopped), f"another reason: {stopped}")
    require(len(trial.seen("started")) == 1, "it was tried again")
    require(any(words in event["trace"] for event in trial.seen("failed")), "the run page does not tell the reason")
    require(bool(committed(trial)) == kept, f"the store has {committed(trial)}")
    return GUARD_DRILLS[name].seen()


GUARD_DRILLS = {
    "nan": Drill("a loss that is not finite", _STOPPED, loss_not_finite, core=False),
    "kl": Drill("a blow-up of the KL divergence", _STOPPED, kl_too_large, core=False),
    "energy": Drill("an energy below the exact one", _STOPPED, energy_too_low, core=False),
}
