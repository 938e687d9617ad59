"""Machine shapes, typed, pure data: how many workers, of what, and how they keep what they have done."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from models.common.config import Config, unknown
from models.common.contract import StageConfig
from models.common.errors import ConfigError


class Cluster(Config):
    """Where stages run. The science does not depend on it: any preset runs on any cluster, or is refused at once."""

    name: str
    workers: PositiveInt = Field(description="workers of a stage that has the cluster to itself")
    min_workers: PositiveInt | None = Field(
        default=None, description="fewest that a group goes on with when nodes are lost; None: it waits for them all"
    )
    rejoin_seconds: PositiveInt = Field(default=120, description="how long lost nodes are waited for")
    cpus_per_worker: PositiveInt = Field(
        default=1, description="threads of a worker, and the cores asked of Ray for it"
    )
    gpus_per_worker: NonNegativeInt = Field(default=0, le=1, description="GPUs of a worker; 0 trains on processors")
    memory_gib_per_worker: float | None = Field(
        default=None, gt=0.0, description="of a worker's device; None: this machine's memory, shared by its workers"
    )
    zero_stage: Literal[0, 1, 2, 3] = Field(default=0, description="how DeepSpeed spreads state over the workers")
    precision: Literal["fp32", "bf16"] = "fp32"
    engine: Literal["deepspeed", "torch"] = Field(default="deepspeed", description="torch: the twin without DeepSpeed")
    storage: Path | None = Field(
        default=None, description="runs and datasets, on a disk that all nodes see; None: ORCHARD_HOME"
    )
    save_every_steps: PositiveInt = Field(
        default=200, description="steps between checkpoints: what a fault costs at most"
    )
    keep_checkpoints: int = Field(default=2, ge=2, description="newest checkpoints kept; a damaged one needs the other")
    max_failures: NonNegativeInt = Field(default=3, description="lost worker groups that are restarted")
    storage_budget_seconds: PositiveInt = Field(
        default=3600, description="how long training goes on, with checkpoints on local disks, while S3 does not answer"
    )
    hang_timeout_seconds: PositiveInt = Field(default=300, description="silence among workers taken for a hang")

    @model_validator(mode="after")
    def _bf16_has_a_float32_master(self) -> Self:
        """In bf16 the float32 weights that are updated are DeepSpeed's, which it keeps from ZeRO stage 1 on."""
        if self.precision == "bf16" and self.engine == "deepspeed" and self.zero_stage == 0:
            raise ValueError("precision bf16 under DeepSpeed needs zero_stage 1, 2 or 3")
        return self

    @model_validator(mode="after")
    def _fewest_are_no_more_than_all(self) -> Self:
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(
                f"min_workers is {self.min_workers}, of {self.workers} workers; fits: at most {self.workers}"
            )
        return self

    @property
    def least_workers(self) -> int:
        """With fewer, a stage does not train."""
        return self.min_workers or self.workers

    @property
    def backend(self) -> Literal["gloo", "nccl"]:
        """What the workers speak to each other with."""
        return "nccl" if self.gpus_per_worker else "gloo"

    def share(self, parts: int) -> Self:
        """The shape of one of `parts` stages that run side by side; a stage always has one worker."""
        least = None if self.min_workers is None else max(1, self.min_workers // parts)
        return self.but(workers=max(1, self.workers // parts), min_workers=least)

    def resources_per_worker(self) -> dict[str, float]:
        """By Ray's names."""
        gpus = {"GPU": float(self.gpus_per_worker)} if self.gpus_per_worker else {}
        return {"CPU": float(self.cpus_per_worker), **gpus}

    def workers_on(self, resources: dict[str, float]) -> int:
        """How many workers a node with these resources has room for."""
        return int(min(resources.get(name, 0) // each for name, each in self.resources_per_worker().items()))

    def group_size(self, places: int, batch_size: int) -> int | None:
        """The largest group for so many places over which the batch divides; None where that is too small."""
        sizes = range(min(places, self.workers), self.least_workers - 1, -1)
        return next((size for size in sizes if batch_size % size == 0), None)

    def check(self, stage: StageConfig, name: str) -> None:
        """Raises ConfigError where the stage's global batch does not divide over this cluster's workers."""
        if stage.batch_size % self.workers:
            up = stage.batch_size + self.workers - stage.batch_size % self.workers
            raise ConfigError(
                f"{name}: a batch of {stage.batch_size} does not divide over {self.workers} workers of {self.name}\n"
                f"fits: a multiple of {self.workers}\ntry: --set {name}.batch_size={up}"
            )


LAPTOP = Cluster(name="laptop", workers=2)
ONE_GPU = Cluster(
    name="one-gpu",
    workers=1,
    cpus_per_worker=4,
    gpus_per_worker=1,
    memory_gib_per_worker=80,
    precision="bf16",
    zero_stage=1,
)
NODE_8 = ONE_GPU.but(name="node-8", workers=8, cpus_per_worker=8)
CLUSTER = NODE_8.but(name="cluster", workers=32, min_workers=8, zero_stage=2, max_failures=10)

_ALL = {cluster.name: cluster for cluster in (LAPTOP, ONE_GPU, NODE_8, CLUSTER)}


def names() -> list[str]:
    return list(_ALL)


def named(name: str) -> Cluster:
    """The cluster of this name; raises ConfigError, naming the nearest, where there is none."""
    if name not in _ALL:
        raise ConfigError(unknown("cluster", name, names()))
    return _ALL[name]
