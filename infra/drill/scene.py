"""The ground of every fault: a cluster on hosts, a small stage that trains on it, and what it gives in peace."""

import json
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil

from infra import launch, manifests
from infra.clusters import LAPTOP, Cluster
from infra.drill.cluster import DrillCluster
from infra.drill.hosts import ORCHARD_HOME
from infra.drill.s3_proxy import Fault
from infra.runs import StageFolder, StageRequest
from infra.settings import settings, take_environment
from models.common import workloads
from models.common.contract import Inputs, StageConfig
from models.common.errors import ClusterError

STEPS, INTERVAL = 1600, 100
_PRESET = "tiny"
_SEED = 11
_ATTEMPTS = 3  # as a task makes them: two retries
_LOOK_SECONDS = 0.1
_PATIENCE_SECONDS = 240.0


@dataclass(frozen=True)
class Stage:
    """What is trained: a stage of a workload, and what it reads."""

    name: str
    config: StageConfig
    inputs: Inputs

    @classmethod
    def rehearsed(cls, workload: str, name: str, folder: Path, changes: Mapping[str, Any]) -> Self:
        """The stage of the workload's smallest preset, with `changes` of its config, on inputs that it makes up."""
        config = workloads.preset(workload, _PRESET).trained_stages()[name].with_overrides(changes)
        folder.mkdir(parents=True)
        return cls(name, config, config.rehearse(folder))

    def sha256(self) -> dict[str, str]:
        """The fingerprint of each input, which has its manifest from here on."""
        start = {"start_from": self.inputs.start_from} if self.inputs.start_from else {}
        folders = {**self.inputs.folders, **start}
        for made_up in folders.values():
            if not (made_up / manifests.MANIFEST).exists():
                manifests.write_manifest(made_up)
        return {name: manifests.fingerprint(folder) for name, folder in folders.items()}


@dataclass
class Trial:
    """A stage under way, as a flow follows it: what happened so far, and what came of it."""

    request: StageRequest
    shape: Cluster
    events: list[dict[str, Any]] = field(default_factory=list)
    error: Exception | None = None
    thread: threading.Thread = field(init=False)

    def begin(self) -> "Trial":
        self.thread = threading.Thread(target=self._follow, daemon=True)
        self.thread.start()
        return self

    def again(self, **changes: Any) -> "Trial":
        """The same run, begun once more; `changes` are of its cluster."""
        shape = self.shape.but(**changes)
        return Trial(self.request.but(cluster=shape.model_dump(mode="json")), shape).begin()

    def _follow(self) -> None:
        for attempt in range(_ATTEMPTS):
            try:
                launch.run_stage(self.request, self.shape, self.events.append)
                self.error = None
            except ClusterError as lost:  # worth another attempt, as the task's retry sees it
                self.error = lost
                if attempt + 1 < _ATTEMPTS:
                    time.sleep(5)
                    continue
            except Exception as error:  # noqa: BLE001 the card tells it
                self.error = error
            return

    def seen(self, kind: str, since: float = 0.0) -> list[dict[str, Any]]:
        return [event for event in self.events if event["kind"] == kind and event["time"] >= since]

    def step(self) -> int:
        """The last step that anybody was told of."""
        return max((event["step"] for event in self.seen("step")), default=0)

    def wait_step(self, step: int) -> None:
        wait(lambda: self.step() >= step or self.is_over(), f"step {step}, it is at {self.step()}")

    def is_over(self) -> bool:
        return not self.thread.is_alive()

    def wait_over(self, seconds: float = _PATIENCE_SECONDS) -> None:
        wait(self.is_over, f"the end, it is at step {self.step()}", seconds)
        if self.error:
            raise self.error

    def result(self) -> str:
        """SHA-256 of the weights that it left."""
        folder = StageFolder(self.request.folder)
        folder.finished()
        return manifests.sha256_of(folder.result / "weights.safetensors")

    def losses(self) -> list[float]:
        """Those of its steps, as its result has them."""
        return json.loads((StageFolder(self.request.folder).result / "curves.json").read_text())["metrics"]["loss"]

    def resumed(self, since: float) -> dict[str, Any] | None:
        """The first beginning of a group of workers after a fault."""
        return next(iter(self.seen("started", since)), None)


class Scene:
    """A cluster in good health with a run of the stage that nothing disturbed, against which every other is held."""

    def __init__(self, cluster: DrillCluster, folder: Path, seed: int) -> None:
        self.cluster = cluster
        self.folder = folder
        self.random = random.Random(seed)
        self.number = 0
        take_environment({**cluster.client_environment(), "ORCHARD_HOME": str(folder / "home")})
        self.inputs = folder / "inputs"
        self.stage = Stage.rehearsed("relay", "teacher", self.inputs / "of-all", {"max_steps": STEPS})
        self.shape = LAPTOP.but(
            workers=cluster.shape.workers,
            save_every_steps=INTERVAL,
            hang_timeout_seconds=20,
            storage_budget_seconds=120,
        )
        self.undisturbed = ""
        self.losses: list[float] = []
        self.seconds = 0.0  # of training, undisturbed

    def measure(self) -> None:
        """Runs the stage in peace."""
        peace = self.trial("peace")
        peace.wait_over()
        self.undisturbed, self.losses = peace.result(), peace.losses()
        first, last = peace.seen("started")[0], peace.seen("finished")[0]
        self.seconds = last["time"] - first["time"]

    def trial(self, name: str, stage: Stage | None = None, **changes: Any) -> Trial:
        """Begins to train the stage anew, or another; `changes` are of its cluster."""
        self.number += 1
        key = f"drill-{self.number}-{name}"
        shape = self.shape.but(**changes)
        return Trial(self.request(key, stage or self.stage, shape), shape).begin()

    def request(self, key: str, stage: Stage, shape: Cluster) -> StageRequest:
        return StageRequest(
            run_key=key,
            stage=stage.name,
            config_class=f"{type(stage.config).__module__}:{type(stage.config).__name__}",
            config=stage.config.model_dump(mode="json"),
            cluster=shape.model_dump(mode="json"),
            seed=_SEED,
            inputs=stage.inputs.folders,
            start_from=stage.inputs.start_from,
            input_sha256=stage.sha256(),
            folder=settings().home / "runs" / key / stage.name,
            storage=settings().storage,
        )

    def moment(self) -> int:
        """A random step of training, after the first checkpoint and well before the end."""
        return self.random.randint(INTERVAL + 20, STEPS // 2)

    def rank_on(self, number: int) -> psutil.Process:
        """The process that trains on one of the workers' hosts."""
        processes = self.cluster.workers[number].host.processes()
        [found] = [each for each in processes if "RayTrainWorker" in " ".join(_command(each))]
        return found

    def checkpoints_on(self, number: int, trial: Trial) -> Path:
        """Where one of the workers' hosts has the run's checkpoints, as the machine reaches it."""
        home = self.cluster.workers[number].host.path(ORCHARD_HOME)
        return StageFolder(home / "work" / trial.request.run_key / trial.request.stage).checkpoints

    def driver(self) -> psutil.Process:
        """The process of the job on the head's host."""
        found = [each for each in self.cluster.head.host.processes() if "infra.job" in _command(each)]
        return max(found, key=lambda each: each.create_time())

    def heal(self) -> None:
        """All hosts up, all links whole, S3 well: whatever the last fault left."""
        for node in self.cluster.nodes:
            if node.host.alive():
                node.host.heal()
        self.cluster.s3.door.set(Fault())
        if not self.cluster.head.answers():
            self.cluster.head.restart()
        for worker in self.cluster.workers:
            if not worker.answers():
                worker.restart()


def wait(
    true: Callable[[], Any], what: str, seconds: float = _PATIENCE_SECONDS, look_seconds: float = _LOOK_SECONDS
) -> float:
    """How long it took; raises ClusterError where it does not come true."""
    began = time.monotonic()
    while not true():
        if time.monotonic() - began > seconds:
            raise ClusterError(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(look_seconds)
    return time.monotonic() - began


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
