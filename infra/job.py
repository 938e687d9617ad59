"""What a Ray job runs: a worker group that trains a stage, or a stage's shards spread over slots."""

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from infra.clusters import Cluster
from infra.runs import StageFolder, StageRequest
from models.common.contract import MapConfig, StageConfig
from models.common.errors import OrchardError

_GROUP_FAILURES = 3  # a worker group that does not come up; Ray Train would try for ever
_POLL_SECONDS = 0.5


def main(request_file: Path) -> int:
    """Runs the stage of a request file; the result folder is there when this returns 0."""
    from infra import worker

    request = StageRequest.model_validate_json(request_file.read_text())
    stage_folder = StageFolder(request.folder)
    stage_folder.failure.unlink(missing_ok=True)
    try:
        worker.verify_inputs(request)
        config = worker.read_config(request)
        if isinstance(config, StageConfig):
            _train(request, stage_folder)
        else:
            assert isinstance(config, MapConfig)
            _spread(request, config, stage_folder)
    except Exception as error:
        if not stage_folder.failure.exists():  # else a worker has already told what happened
            worker.note_failure(stage_folder, rank=-1, error=error)
        if isinstance(error, OrchardError):
            print(error, file=sys.stderr)
            return 1
        raise
    return 0


def _train(request: StageRequest, stage_folder: StageFolder) -> None:
    """A Ray Train worker group over the cluster's slots; lost workers are replaced, and resume from a checkpoint."""
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from infra import worker

    cluster = Cluster.model_validate(request.cluster)
    ray.init(address="auto", log_to_driver=True)
    _leave_at_fatal_failure(stage_folder)
    trainer = _lean(TorchTrainer)(
        worker.train_rank,
        train_loop_config=request.model_dump(mode="json"),
        scaling_config=ScalingConfig(
            num_workers=cluster.workers,
            use_gpu=cluster.gpus_per_worker > 0,
            resources_per_worker=_resources(cluster),
        ),
        run_config=RunConfig(
            name="ray-train",
            storage_path=str(request.folder),
            failure_config=FailureConfig(max_failures=cluster.max_failures, controller_failure_limit=_GROUP_FAILURES),
        ),
        torch_config=TorchConfig(backend=cluster.backend, timeout_s=cluster.hang_timeout_seconds),
    )
    trainer.fit()


def _lean(trainer: type[Any]) -> type[Any]:
    """The trainer without two helper actors that start a process each before the first step, and do nothing here.

    No Ray dataset is read, and the placement group ends with the job, so that neither needs a manager.
    """
    not_needed = {"DatasetsCallback", "PlacementGroupCleanerCallback"}

    class LeanTrainer(trainer):
        def _create_default_callbacks(self) -> list[Any]:
            return [each for each in super()._create_default_callbacks() if type(each).__name__ not in not_needed]

    return LeanTrainer


def _leave_at_fatal_failure(stage_folder: StageFolder) -> None:
    """Ends this process once a worker met what another attempt would meet again; Ray then ends the job's workers.

    Ray Train itself restarts a group after any exception, and a rank that waits for a failed one would only notice
    at the end of its timeout.
    """

    def watch() -> None:
        while not stage_folder.failure.exists():
            time.sleep(_POLL_SECONDS)
        print(json.loads(stage_folder.failure.read_text())["trace"], file=sys.stderr, flush=True)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _spread(request: StageRequest, config: MapConfig, stage_folder: StageFolder) -> None:
    """Works off the shards in as many slots as the cluster has, and collects the parts in the order of the shards."""
    import ray

    from infra import manifests, worker

    cluster = Cluster.model_validate(request.cluster)
    ray.init(address="auto", log_to_driver=True)
    shards = config.shards(request.inputs)
    stage_folder.record("shards", done=0, total=len(shards))
    resources = _resources(cluster)
    process = ray.remote(num_cpus=resources["CPU"], num_gpus=resources.get("GPU", 0), max_retries=cluster.max_failures)(
        worker.process_shard
    )
    values = ray.put(request.model_dump(mode="json"))
    waiting = list(enumerate(shards))[::-1]
    running: dict[Any, int] = {}
    parts: list[Any] = [None] * len(shards)
    while waiting or running:
        while waiting and len(running) < cluster.workers:
            index, shard = waiting.pop()
            running[process.remote(values, shard)] = index
        done, _ = ray.wait(list(running), num_returns=1)
        parts[running.pop(done[0])] = ray.get(done[0])
        stage_folder.record("shards", done=len(shards) - len(waiting) - len(running), total=len(shards))
    about = {"identity": request.identity(), "stage": request.stage}
    with manifests.committed(stage_folder.result, about) as draft:
        config.collect(parts, request.inputs, draft)
    stage_folder.record("finished", step=len(shards))


def _resources(cluster: Cluster) -> dict[str, float]:
    gpus = {"GPU": float(cluster.gpus_per_worker)} if cluster.gpus_per_worker else {}
    return {"CPU": float(cluster.cpus_per_worker), **gpus}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
