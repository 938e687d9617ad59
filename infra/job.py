"""What a Ray job runs: a worker group that trains a stage, or a stage's shards spread over slots."""

import sys
from typing import Any

from infra import carrying, manifests, worker
from infra.clusters import Cluster
from infra.runs import StageFolder, StageRequest
from models.common.contract import MapConfig, StageConfig


def main(where: str) -> int:
    """Runs the stage of the request that is there; its result is there when this returns 0."""
    request = carrying.read_request(where)
    stage_folder = carrying.stage_folder_of(request)
    try:
        config = worker.read_config(request)
        if not request.storage or isinstance(config, MapConfig):  # else those who train bring them, and verify
            request = carrying.brought(request)
            worker.verify_inputs(request)
        if isinstance(config, StageConfig):
            from infra import worker_group  # seconds of import, which a spread does without

            worker_group.train(request, stage_folder, config.batch_size)
        else:
            assert isinstance(config, MapConfig)
            _spread(request, config, stage_folder)
    except worker.StageFailed as failed:
        return _end(stage_folder, failed)
    except Exception as error:
        worker.tell_failure(stage_folder, -1, error)
        if isinstance(error, worker.FATAL):
            return _end(stage_folder, worker.StageFailed.of(-1, error))
        raise
    return 0


def _end(stage_folder: StageFolder, failed: worker.StageFailed) -> int:
    worker.keep_failure(stage_folder, failed)
    print(failed, file=sys.stderr)
    return 1


def _spread(request: StageRequest, config: MapConfig, stage_folder: StageFolder) -> None:
    """Works off the shards in as many slots as the cluster has, and collects the parts in the order of the shards."""
    import ray
    from ray.exceptions import RayTaskError

    cluster = Cluster.model_validate(request.cluster)
    ray.init(address="auto", log_to_driver=True)
    shards = config.shards(request.inputs)
    stage_folder.record("shards", done=0, total=len(shards))
    resources = cluster.resources_per_worker()
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
        try:
            parts[running.pop(done[0])] = ray.get(done[0])
        except RayTaskError as failed:
            raise failed.cause from failed
        stage_folder.record("shards", done=len(shards) - len(waiting) - len(running), total=len(shards))
    about = {"identity": request.identity(), "stage": request.stage}
    with manifests.committed(stage_folder.result, about) as draft:
        config.collect(parts, request.inputs, draft)
    stage_folder.record("finished", step=len(shards))
    stage_folder.deliver()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
