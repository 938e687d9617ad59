"""The one training loop: it resumes, steps, records, saves, and stops on a number that is not finite.

It cannot tell the workloads apart. What it needs from the outside comes as a `Recorder` and a `Saver`.
"""

import math
from dataclasses import dataclass, field
from typing import Any, Protocol

from models.common.contract import Learner, LearnerState, Metrics
from models.common.errors import TrainingError

CURVE_POINTS = 500  # a curve keeps about so many points, however long the training


class Recorder(Protocol):
    """Where progress goes."""

    def started(self, step: int) -> None: ...

    def stepped(self, step: int, metrics: Metrics) -> None: ...

    def finished(self, step: int) -> None: ...


@dataclass(frozen=True)
class Progress:
    """How far a stage has come, saved beside the learner's state."""

    step: int
    curve: dict[str, list[float]] = field(default_factory=dict)  # "step", and each metric at those steps


class Saver(Protocol):
    """Where checkpoints go; every rank calls it at the same steps."""

    def newest(self) -> tuple[Progress, LearnerState] | None: ...

    def save(self, progress: Progress, state: LearnerState) -> None: ...

    def wanted(self, step: int) -> bool:
        """Whether one is wanted after this step, out of turn; every rank gets the same answer."""
        ...


def train(learner: Learner, *, max_steps: int, save_every: int, recorder: Recorder, saver: Saver) -> Progress:
    """Steps the learner to its end, from the newest checkpoint if there is one; returns the final progress.

    A checkpoint that is due waits until the learner is sound, so that the newest one is always worth going back to.
    Raises TrainingError at a non-finite metric and where a guard of the learner stops it, naming the step and the last
    good checkpoint.
    """
    progress = Progress(step=0)
    if resumed := saver.newest():
        progress, state = resumed
        learner.load_state_dict(state)
    step, saved_step, due = progress.step, progress.step, False
    curve = {name: list(values) for name, values in progress.curve.items()}
    recorder.started(step)
    while step < max_steps and not learner.finished:
        step += 1
        try:
            metrics = {name: float(value) for name, value in learner.step().items()}
            _require_finite(metrics, step)
        except TrainingError as stopped:
            raise TrainingError(f"{stopped}\n{_kept(saved_step)}") from stopped
        recorder.stepped(step, metrics)
        if step % max(1, max_steps // CURVE_POINTS) == 0:
            _append(curve, {"step": float(step), **metrics})
        due = due or step % save_every == 0 or saver.wanted(step)
        if due and learner.sound:
            saver.save(Progress(step, curve), learner.state_dict())
            saved_step, due = step, False
    if saved_step < step:
        saver.save(Progress(step, curve), learner.state_dict())
    recorder.finished(step)
    return Progress(step, curve)


def _append(curve: dict[str, list[float]], point: dict[str, float]) -> None:
    for name, value in point.items():
        curve.setdefault(name, []).append(value)


def _require_finite(metrics: dict[str, Any], step: int) -> None:
    broken = sorted(name for name, value in metrics.items() if not math.isfinite(value))
    if broken:
        raise TrainingError(
            f"step {step}: {', '.join(f'{name} is {metrics[name]}' for name in broken)}\n"
            "try a smaller learning rate or a tighter gradient clip, under a new run key"
        )


def _kept(saved_step: int) -> str:
    return f"the checkpoint of step {saved_step} is good" if saved_step else "no checkpoint had been written yet"
