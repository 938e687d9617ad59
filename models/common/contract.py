"""The contract between a workload and the frame.

A workload is a config with stages in it. A `StageConfig` is trained: it builds a `Learner`, and the frame runs the
learner's steps on any number of workers, saves it, resumes it. A `MapConfig` is spread: the frame hands its shards to
whatever slots the cluster has, and collects the parts. Both read folders that earlier stages wrote and end in a
folder with a manifest. This module imports no torch, so that reading a config is quick.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from pydantic import NonNegativeInt, PositiveInt

from models.common.config import Config

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from models.common.contest import ContestStage

Metrics: TypeAlias = dict[str, float]


@dataclass(frozen=True)
class LearnerState:
    """Everything that makes the next step what it is.

    shared: the same on every rank; one copy is saved, and any number of workers loads it.
    own: what only this rank has (ZeRO partitions).
    of_others: where another number of workers saved it, what each of these had, in the order of ranks; `own` is empty.
    Values are what `torch.save` takes: tensors, numbers, strings, lists and dicts of them.
    """

    shared: dict[str, Any]
    own: dict[str, Any] = field(default_factory=dict)
    of_others: tuple[dict[str, Any], ...] = ()

    @classmethod
    def joined(cls, parts: dict[str, LearnerState], **shared: Any) -> LearnerState:
        """One state of several by name (engines), and of what else is shared."""
        return cls(
            shared={name: part.shared for name, part in parts.items()} | shared,
            own={name: part.own for name, part in parts.items() if part.own},
        )

    def part(self, name: str) -> LearnerState:
        """The state that was joined under this name."""
        of_others = tuple(own[name] for own in self.of_others if name in own)
        return LearnerState(self.shared[name], self.own.get(name, {}), of_others)


class Engine(Protocol):
    """A network and its optimizer on this worker: DeepSpeed's, or its plain-torch twin (`infra/engine.py`).

    Parameters that need no gradient when the engine is made are frozen: they are neither saved nor among the weights.
    """

    module: nn.Module

    def __call__(self, *inputs: Any) -> Any:
        """The module's forward pass; what a loss is computed from."""
        ...

    def backward(self, loss: Tensor, *, last: bool = True) -> None:
        """Adds the gradient of this rank's loss to those since the last step; the sum is averaged over ranks.

        last: no other loss follows before `step`. A batch that is too large at once goes in pieces, of which all but
        the last say False.
        """
        ...

    def step(self) -> float:
        """Clips, updates, clears the gradient; returns the gradient's norm before clipping."""
        ...

    def set_learning_rate(self, learning_rate: float) -> None: ...

    def state_dict(self) -> LearnerState: ...

    def load_state_dict(self, state: LearnerState) -> None: ...

    def optimizer_state(self, name: str) -> list[Tensor]:
        """What the optimizer holds under `name` for each trained parameter, in the order of `module.parameters()`.

        In full on every rank, and zeros before the first step; called on every rank. Read it, do not write to it.
        """
        ...

    def weights(self) -> dict[str, Tensor]:
        """The full trained weights on the CPU, by parameter name; called on every rank.

        In float32, or in float64 where the module holds them so.
        """
        ...


class EngineFactory(Protocol):
    def __call__(
        self,
        module: nn.Module,
        optimizer: Callable[[Any], torch.optim.Optimizer],
        *,
        clip_norm: float | None = None,
        full_precision: bool = False,
    ) -> Engine:
        """An engine for `module`; `optimizer` makes the optimizer from the module's parameters (or groups).

        full_precision: the module computes in its own precision and every rank can read its weights, whatever the
        cluster says: no bf16, and ZeRO 2 where the cluster has 3. For a learner that works out its own update from
        `module`. A float64 module is run so anyhow, and at ZeRO 0, as DeepSpeed's partitions are float32.
        """
        ...


@dataclass(frozen=True)
class WorkerGroup:
    """How a stage's workers share it, as far as memory goes."""

    workers: int
    zero_stage: int = 0  # 1 splits the optimizer over the workers, 2 the gradient too, 3 the weights too
    precision: Literal["fp32", "bf16"] = "fp32"


@dataclass(frozen=True)
class World:
    """What the outside hands to a stage.

    inputs: folders that earlier stages wrote, by the name the flow gave them; their manifests are verified.
    start_from: folder of the stage whose weights this one continues, or None. Read it with `load_weights`.
    fingerprints: SHA-256 of each input's manifest by its name, and of "start_from" where there is one.
    mean, sum: of a scalar or tensor over all ranks, the same on each.
    gather: the rows of all ranks along dimension 0 in the order of ranks, the same on each; equally many from each.
    exchange: from this rank's rows of a matrix [rows, columns] to this rank's columns of all rows. Rows come in the
        order of ranks, equally many from each; columns are split as `torch.tensor_split` does.
    All four are called on every rank, return detached tensors, and are the identity where there is one rank.
    clock: seconds from some moment on, for what is measured and reported; nothing that is learnt may depend on it.
    """

    rank: int
    size: int
    device: torch.device
    seed: int
    inputs: Mapping[str, Path]
    start_from: Path | None
    fingerprints: Mapping[str, str]
    make_engine: EngineFactory
    mean: Callable[[Tensor], Tensor]
    sum: Callable[[Tensor], Tensor]
    gather: Callable[[Tensor], Tensor]
    exchange: Callable[[Tensor], Tensor]
    clock: Callable[[], float]

    def share(self, batch_size: int) -> slice:
        """This rank's rows of a global batch: every rank draws the same batch and takes its own part."""
        rows = batch_size // self.size
        return slice(self.rank * rows, (self.rank + 1) * rows)


class Learner(Protocol):
    """One stage being trained. It owns its step; the loop in `models/common/loop.py` owns all else."""

    finished: bool  # true ends the stage before `max_steps`; the same on every rank
    sound: bool  # false while a guard has doubts: a checkpoint that is due waits; the same on every rank

    def step(self) -> Metrics:
        """One update on the next global batch; metrics are means over ranks and include 'loss' where there is one."""
        ...

    def state_dict(self) -> LearnerState: ...

    def load_state_dict(self, state: LearnerState) -> None: ...

    def weights(self) -> dict[str, Tensor]:
        """What gets published, by name; called on every rank."""
        ...


@dataclass(frozen=True)
class Inputs:
    """The folders a stage reads: what the flow passes, and what `rehearse` makes up."""

    folders: dict[str, Path] = field(default_factory=dict)
    start_from: Path | None = None


class DataConfig(Config):
    """A dataset: `prepare` writes the same bytes for the same config on any machine."""

    seed: NonNegativeInt = 0

    def prepare(self, folder: Path) -> None:
        """Writes the dataset's files into an empty folder; the frame adds the manifest. No torch."""
        raise NotImplementedError

    def sources(self) -> tuple[Path, ...]:
        """The user's files that it is made of; where their bytes change, it is another dataset."""
        return ()


class StageConfig(Config):
    """A stage that is trained; defaults are the paper's, on their fields and nowhere else."""

    max_steps: PositiveInt
    batch_size: PositiveInt  # global: the number of workers divides it

    def build(self, world: World) -> Learner:
        """The learner at step 0. Import torch and the learner here, so that reading a config does not."""
        raise NotImplementedError

    def save_every_steps(self) -> int | None:
        """The most steps between two checkpoints, where the cluster's number is not small enough for this stage."""
        return None

    def bytes_per_worker(self, group: WorkerGroup) -> int:
        """Memory that a worker of the group needs beyond its code; 0 where it cannot be told ahead."""
        return 0

    def rehearse(self, folder: Path) -> Inputs:
        """Writes inputs just large enough to try this stage alone, as `tests/test_contract.py` does."""
        raise NotImplementedError


class MapConfig(Config):
    """A stage that is spread over slots, shard by shard: generation, evaluation, measurement."""

    def shards(self, inputs: Mapping[str, Path]) -> list[dict[str, Any]]:
        """Independent pieces of work as JSON objects, largest first; the same list on every call."""
        raise NotImplementedError

    def process(self, shard: dict[str, Any], world: World) -> Any:
        """The result of one shard, picklable. One slot works on it; `world.size` is 1."""
        raise NotImplementedError

    def collect(self, parts: list[Any], inputs: Mapping[str, Path], folder: Path) -> None:
        """Writes the stage's files into an empty folder from the results, in the order of `shards`."""
        raise NotImplementedError


class WorkloadConfig(Config):
    """All stages of one workload; a preset returns one."""

    name: str

    def trained_stages(self) -> dict[str, StageConfig]:
        """The stages to train, by field name."""
        return {field: value for field, value in self if isinstance(value, StageConfig)}

    def check_here(self) -> None:
        """Raises ConfigError for what only the machine that starts the run can tell, such as a module of the user's."""

    def versions(self) -> dict[str, str]:
        """The published versions that a run reads, as NAME@VERSION, by what they are for; none by default."""
        return {}

    def check_version(self, purpose: str, config: Mapping[str, Any]) -> None:
        """Raises ConfigError where a version of this config cannot serve the purpose."""
        raise NotImplementedError

    def contest(self) -> ContestStage:
        """The stage that scores a new version against the champion, for scheduled retraining."""
        raise NotImplementedError
