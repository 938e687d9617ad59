"""A stage trained inside another one, with a folder such as the frame writes for it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from models.common.contract import LearnerState, Metrics, StageConfig, World
from models.common.errors import TrainingError
from models.common.loop import Progress, train


@dataclass
class _Curves:
    """Keeps every step's metrics."""

    metrics: dict[str, list[float]] = field(default_factory=dict)

    def started(self, step: int) -> None:
        pass

    def stepped(self, step: int, metrics: Metrics) -> None:
        for name, value in metrics.items():
            self.metrics.setdefault(name, []).append(value)

    def finished(self, step: int) -> None:
        pass


class _NoCheckpoints:
    """A training that is begun anew where it is broken off."""

    def newest(self) -> tuple[Progress, LearnerState] | None:
        return None

    def save(self, progress: Progress, state: LearnerState) -> None:
        pass

    def wanted(self, step: int) -> bool:
        return False


@dataclass(frozen=True)
class Trained:
    """The folder of a stage trained in process, its metrics step by step, and why it ended early, if it did."""

    folder: Path
    metrics: dict[str, list[float]]
    stopped: str = ""


def train_in_process(
    stage: StageConfig, world: World, folder: Path, inputs: dict[str, Path], start_from: Path | None = None
) -> Trained:
    """Trains a stage alone and writes its folder: weights, config, and the fingerprints of what it was made from.

    A training that a guard stops is a result too: its folder holds the weights that it was stopped with.
    """
    fingerprints = {name: fingerprint(place) for name, place in inputs.items()}
    if start_from is not None:
        fingerprints["start_from"] = fingerprint(start_from)
    torch.manual_seed(world.seed)  # as the frame does before it builds a learner
    learner = stage.build(replace(world, inputs=inputs, start_from=start_from, fingerprints=fingerprints))
    curves, stopped = _Curves(), ""
    try:
        train(learner, max_steps=stage.max_steps, save_every=stage.max_steps, recorder=curves, saver=_NoCheckpoints())
    except TrainingError as error:
        if not curves.metrics:
            raise
        stopped = str(error).splitlines()[0]
    folder.mkdir(parents=True)
    save_file({name: value.contiguous() for name, value in learner.weights().items()}, folder / "weights.safetensors")
    _write(folder / "config.json", stage.model_dump(mode="json"))
    _write(folder / "parents.json", fingerprints)
    return Trained(folder, curves.metrics, stopped)


def fingerprint(folder: Path) -> str:
    """SHA-256 over the names and bytes of a folder's files."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(file.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _write(file: Path, values: Any) -> None:
    file.write_text(json.dumps(values, indent=1, sort_keys=True) + "\n")
