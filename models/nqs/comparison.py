"""Optimizers beside each other from the same start, and how the cost of a step grows with its size."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from models.common.contract import World
from models.common.errors import TrainingError
from models.nqs import costs
from models.nqs.config import CompareConfig
from models.nqs.costs import Cost
from models.nqs.optimizer_config import OptimizerConfig

CURVES_FILE, COSTS_FILE = "optimizers.json", "costs.json"


@dataclass(frozen=True)
class Descent:
    """One training: its energies step by step, when each step ended, and why it stopped early if it did."""

    optimizer: str
    seed: int
    energies: list[float]
    seconds: list[float]
    stopped: str = ""


def shards(config: CompareConfig) -> list[dict[str, Any]]:
    """Each optimizer with each seed, and each size whose cost is measured."""
    trainings = [
        {"kind": "optimizer", "optimizer": optimizer, "seed": seed}
        for seed in range(config.seeds)
        for optimizer in config.optimizers
    ]
    return trainings + ([{"kind": "cost", "size": size} for size in costs.sizes()] if config.cost_repeats else [])


def process(config: CompareConfig, shard: dict[str, Any], world: World) -> Descent | Cost:
    """One training, or one size's cost."""
    if shard["kind"] == "cost":
        return costs.measure(config, costs.Size(**shard["size"]), world)
    return descend(config, shard["optimizer"], shard["seed"], world)


def descend(config: CompareConfig, optimizer: str, seed: int, world: World) -> Descent:
    """A short training by one optimizer; one seed gives every optimizer the same weights and walkers to start with."""
    from models.nqs.vmc import VmcLearner

    training = config.training.but(
        max_steps=config.steps,
        batch_size=config.batch_size,
        optimizer=variant(config, optimizer).model_dump(),
    )
    torch.manual_seed(seed)
    learner = VmcLearner(training, replace(world, seed=seed, start_from=None))
    energies, seconds = [], []
    since = world.clock()
    try:
        for _ in range(config.steps):
            energies.append(learner.step()["loss"])
            seconds.append(world.clock() - since)
    except TrainingError as error:
        return Descent(optimizer, seed, energies, seconds, stopped=str(error).splitlines()[0])
    return Descent(optimizer, seed, energies, seconds)


def variant(config: CompareConfig, kind: str) -> OptimizerConfig:
    """The training's optimizer, or another kind with the same damping, length and schedule; Adam has its own rate."""
    own = config.training.optimizer
    if kind == own.kind:
        return own
    if kind == "adam":
        return own.but(kind=kind, momentum=None, metric_decay=None, learning_rate=config.adam_learning_rate)
    return own.but(kind=kind, momentum=None, metric_decay=None)


def collect(config: CompareConfig, parts: list[Any], folder: Path) -> None:
    """Writes the curves and the costs as JSON."""
    descents = [vars(part) for part in parts if isinstance(part, Descent)]
    measured = [part.as_json() for part in parts if isinstance(part, Cost)]
    (folder / CURVES_FILE).write_text(json.dumps(descents) + "\n")
    (folder / COSTS_FILE).write_text(json.dumps(measured, indent=1) + "\n")
