"""What runs on a worker: one rank of a stage in training, or one shard of a stage that is spread."""

import importlib
import json
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor

from infra import carrying, collectives, manifests
from infra.checkpoints import CheckpointStore
from infra.clusters import Cluster
from infra.engine import engine_factory
from infra.remote_checkpoints import GivenUp, RemoteCheckpoints
from infra.runs import StageFolder, StageRequest, work_from
from infra.settings import local_rank
from infra.stacks import Watch, left
from models.common.config import Config
from models.common.contract import MapConfig, Metrics, StageConfig, World
from models.common.errors import DataError, OrchardError
from models.common.loop import Progress, train

_EVENT_SECONDS = 0.5  # steps between two events are not reported one by one

# A fault in the input or the code, which another attempt would meet again. Anything else (a lost peer, a lost disk)
# is worth the restart that Ray Train makes.
FATAL = (OrchardError, TypeError, ValueError, AttributeError, LookupError, AssertionError, NotImplementedError)

_STANDS_STILL = 0.8  # of the time after which a worker is taken for hung: its stack is written before it is ended
_ASKS = 10  # how often between two checkpoints the ranks ask each other whether a machine is about to go


def train_rank(request_values: dict[str, Any], notice: Callable[[], bool] | None = None) -> None:
    """Trains one rank of a stage from its newest checkpoint to its end; rank 0 leaves the result.

    notice: whether a machine of the group is about to be taken away.
    """
    request = StageRequest.model_validate(request_values)
    stage_folder = carrying.stage_folder_of(request)
    rank = dist.get_rank() if dist.is_initialized() else 0
    try:
        _train_rank(carrying.brought(request), stage_folder, rank, notice)
    except GivenUp:
        raise
    except Exception as error:
        tell_failure(stage_folder, rank, error)
        raise
    finally:
        with suppress(OrchardError):
            stage_folder.flush()


class StageFailed(Exception):
    """What another attempt would meet again, in words, since not every error can be sent; rank -1 is the job itself."""

    def __init__(self, rank: int, kind: str, text: str, trace: str) -> None:
        super().__init__(rank, kind, text, trace)
        self.told = {"rank": rank, "kind": kind, "text": text, "trace": trace}

    @classmethod
    def of(cls, rank: int, error: BaseException) -> Self:
        return cls(rank, type(error).__name__, str(error), _trace(error))

    def __str__(self) -> str:
        return self.told["trace"]


def tell_failure(stage_folder: StageFolder, rank: int, error: BaseException) -> None:
    """Puts the error's trace among the events."""
    stage_folder.record("failed", rank=rank, trace=_trace(error))
    with suppress(OrchardError):
        stage_folder.flush()


def keep_failure(stage_folder: StageFolder, failed: StageFailed) -> None:
    """Keeps it where the flow finds it; a store that stays silent leaves it to the job's log."""
    with suppress(OrchardError):
        stage_folder.fail(failed.told)


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def _train_rank(request: StageRequest, stage_folder: StageFolder, rank: int, notice: Callable[[], bool] | None) -> None:
    cluster = Cluster.model_validate(request.cluster)
    config = read_config(request)
    assert isinstance(config, StageConfig)
    world = make_world(request, cluster)
    learner = config.build(world)
    save_every = min(cluster.save_every_steps, config.save_every_steps() or cluster.save_every_steps)
    stacks = stage_folder.folder / "stacks"
    for who, stack in left(stacks).items():
        stage_folder.record("log", text=f"{who} stood still before it was ended:\n{stack}")
    store = _checkpoints(request, cluster, stage_folder, world, notice, ask_every=max(1, save_every // _ASKS))
    # After the store's ranks have met: none asks any more what an attempt before has left.
    watch = Watch(stacks / f"rank-{rank}.txt", _STANDS_STILL * cluster.hang_timeout_seconds)
    recorder = _Events(stage_folder, rank, config.max_steps, world.size, watch)
    try:
        progress = train(learner, max_steps=config.max_steps, save_every=save_every, recorder=recorder, saver=store)
    finally:
        watch.end()
    weights = learner.weights()  # on every rank: gathering them takes all
    store.require_current()
    if rank == 0:
        write_result(stage_folder, request, config, weights, progress)
        stage_folder.deliver()


def _checkpoints(
    request: StageRequest,
    cluster: Cluster,
    stage_folder: StageFolder,
    world: World,
    notice: Callable[[], bool] | None,
    ask_every: int,
) -> CheckpointStore:
    """Those of the stage: on a disk that all ranks see, or on each host's, with the store behind."""

    def warn(text: str) -> None:
        stage_folder.record("warning", text=text)

    if not isinstance(stage_folder, carrying.CarriedStageFolder):
        remote, leads = None, None
    else:
        remote = RemoteCheckpoints(
            stage_folder.objects,
            stage_folder.place,
            rank=world.rank,
            size=world.size,
            keep=cluster.keep_checkpoints,
            budget_seconds=cluster.storage_budget_seconds,
            tell=lambda text: stage_folder.record("log", text=text),
            warn=warn,
        )
        leads = local_rank() == 0
    return CheckpointStore(
        stage_folder.checkpoints,
        identity=request.identity(),
        keep=cluster.keep_checkpoints,
        warn=warn,
        remote=remote,
        leads=leads,
        notice=notice,
        ask_every=ask_every,
    )


def write_result(
    stage_folder: StageFolder, request: StageRequest, config: Config, weights: dict[str, Tensor], progress: Progress
) -> None:
    """Commits the trained stage's folder: weights, config, curves, and the fingerprints of what it was trained from."""
    with manifests.committed(stage_folder.result, {"identity": request.identity(), "stage": request.stage}) as draft:
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, draft / "weights.safetensors")
        (draft / "config.json").write_text(json.dumps(config.model_dump(mode="json"), indent=1, sort_keys=True) + "\n")
        (draft / "parents.json").write_text(json.dumps(request.input_sha256, indent=1, sort_keys=True) + "\n")
        curve = dict(progress.curve)
        curves = {"steps": [int(step) for step in curve.pop("step", [])], "metrics": curve}
        (draft / "curves.json").write_text(json.dumps(curves) + "\n")


def process_shard(request_values: dict[str, Any], shard: dict[str, Any]) -> Any:
    """The result of one shard of a stage that is spread over slots."""
    request = carrying.brought(StageRequest.model_validate(request_values))
    config = read_config(request)
    assert isinstance(config, MapConfig)
    # Alone in its slot, a shard that trains something has nobody to share with, and no group that DeepSpeed needs.
    world = make_world(request, Cluster.model_validate(request.cluster).but(engine="torch"))
    return config.process(shard, world)


def read_config(request: StageRequest) -> Config:
    """The stage's config, made by its own class; only classes of `models` are built. It may name the user's files."""
    work_from(request.started_in)
    module_name, _, class_name = request.config_class.partition(":")
    assert module_name.split(".")[0] == "models", f"{request.config_class} is no config of models"
    kind = getattr(importlib.import_module(module_name), class_name)
    return kind.model_validate(request.config)


def verify_inputs(request: StageRequest) -> None:
    """Raises DataError where a folder that the stage reads is not the one that the flow passed."""
    for name, folder in request.inputs.items():
        _verify_input(name, folder, request.input_sha256[name])
    if request.start_from:
        _verify_input("start_from", request.start_from, request.input_sha256["start_from"])


def _verify_input(name: str, folder: Path, sha256: str) -> None:
    try:
        manifests.verify(folder)
        found = manifests.fingerprint(folder)
    except manifests.ManifestError as damage:
        raise DataError(f"input '{name}': {damage}\ndelete {folder} and run again") from None
    if found != sha256:
        raise DataError(f"input '{name}' at {folder} changed since the run began\nrun again under a new --run-key")


def make_world(request: StageRequest, cluster: Cluster) -> World:
    """What the outside hands to the stage on this worker. Sets the thread count and the random seed."""
    torch.set_num_threads(cluster.cpus_per_worker)
    torch.manual_seed(request.seed)  # the same on every rank, so that weights begin alike
    rank, size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    device = _device(cluster)
    return World(
        rank=rank,
        size=size,
        device=device,
        seed=request.seed,
        inputs=request.inputs,
        start_from=request.start_from,
        fingerprints=request.input_sha256,
        make_engine=engine_factory(cluster, device),
        mean=collectives.mean,
        sum=collectives.total,
        gather=collectives.gather,
        exchange=collectives.exchange,
        clock=time.monotonic,
    )


def _device(cluster: Cluster) -> torch.device:
    if not cluster.gpus_per_worker:
        return torch.device("cpu")
    device = torch.device("cuda", local_rank() if torch.cuda.device_count() > 1 else 0)
    torch.cuda.set_device(device)
    return device


class _Events:
    """Progress as events in the stage's folder, by rank 0 alone, at most two a second."""

    def __init__(self, stage_folder: StageFolder, rank: int, max_steps: int, workers: int, watch: Watch) -> None:
        self.stage_folder = stage_folder
        self.watch = watch
        self.quiet = rank != 0
        self.max_steps = max_steps
        self.workers = workers
        self.last = float("-inf")

    def started(self, step: int) -> None:
        self.watch.beat()
        if not self.quiet:
            self.stage_folder.record("started", step=step, max_steps=self.max_steps, workers=self.workers)

    def stepped(self, step: int, metrics: Metrics) -> None:
        self.watch.beat()
        if not self.quiet and time.monotonic() - self.last >= _EVENT_SECONDS:
            self.last = time.monotonic()
            self.stage_folder.record("step", step=step, metrics=metrics)

    def finished(self, step: int) -> None:
        if not self.quiet:
            self.stage_folder.record("finished", step=step)
