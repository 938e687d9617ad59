"""What a Ray job runs: a worker group that trains a stage, or a stage's shards spread over slots."""

import os
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from infra import carrying
from infra.clusters import Cluster
from infra.runs import StageFolder, StageRequest
from infra.settings import take_environment
from models.common.contract import MapConfig, StageConfig
from models.common.errors import OrchardError, TrainingError

_GROUP_FAILURES = 3  # a worker group that does not come up; Ray Train would try for ever
_POLL_SECONDS = 1.0


def main(where: str) -> int:
    """Runs the stage of the request that is there; its result is there when this returns 0."""
    from infra import worker

    request = carrying.read_request(where)
    stage_folder = carrying.stage_folder_of(request)
    try:
        config = worker.read_config(request)
        if not request.storage or isinstance(config, MapConfig):  # else those who train bring them, and verify
            request = carrying.brought(request)
            worker.verify_inputs(request)
        if isinstance(config, StageConfig):
            _train(request, stage_folder)
        else:
            assert isinstance(config, MapConfig)
            _spread(request, config, stage_folder)
    except Exception as error:
        if not stage_folder.failed():  # else a worker has already told what happened
            worker.note_failure(stage_folder, rank=-1, error=error)
        if isinstance(error, OrchardError):
            print(error, file=sys.stderr)
            return 1
        raise
    return 0


def _train(request: StageRequest, stage_folder: StageFolder) -> None:
    """A Ray Train worker group over the cluster's slots; lost workers are replaced, and resume from a checkpoint."""
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig, UserCallback
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    cluster = Cluster.model_validate(request.cluster)
    ray.init(address="auto", log_to_driver=True)
    _leave_at_fatal_failure(stage_folder)
    trainer = _lean(TorchTrainer)(
        _train_rank,
        train_loop_config=request.model_dump(mode="json"),
        scaling_config=ScalingConfig(
            num_workers=cluster.workers,
            use_gpu=cluster.gpus_per_worker > 0,
            resources_per_worker=_resources(cluster),
        ),
        run_config=RunConfig(
            name="ray-train",
            storage_path=str(stage_folder.folder),
            failure_config=FailureConfig(max_failures=cluster.max_failures, controller_failure_limit=_GROUP_FAILURES),
            callbacks=[_telling_losses(UserCallback)(request)],
        ),
        torch_config=_on_network_of_nodes(TorchConfig)(backend=cluster.backend, timeout_s=cluster.hang_timeout_seconds),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        raise TrainingError(
            f"{cluster.max_failures} lost groups of workers were replaced, and another one was lost\n"
            f"{_first_line(error)}\n"
            "its checkpoints are kept: see why in the job's log, then run again with the same --run-key"
        ) from error


def _train_rank(request_values: dict[str, Any]) -> None:
    """What each worker of the group runs."""
    from ray.train import get_preemption_info

    from infra import worker

    worker.train_rank(request_values, notice=lambda: get_preemption_info() is not None)


def _lean(trainer: type[Any]) -> type[Any]:
    """The trainer without three helper actors that start a process each before the first step, and do nothing here.

    No Ray dataset is read, the placement group ends with the job, and the group's size is fixed: a Ray that can grow
    sees the placement group that waits. The coordinator of such requests would even outlive the job.
    """
    from ray.train.v2._internal.execution.scaling_policy.fixed import FixedScalingPolicy

    not_needed = {"DatasetsCallback", "PlacementGroupCleanerCallback"}

    class FixedSize(FixedScalingPolicy):
        def after_controller_start(self, train_run_context: Any) -> None:
            pass

        def _maybe_send_resource_request(self) -> None:
            pass

    class LeanTrainer(trainer):
        def _create_default_callbacks(self) -> list[Any]:
            return [each for each in super()._create_default_callbacks() if type(each).__name__ not in not_needed]

        def _initialize_and_run_controller(self, **parts: Any) -> Any:
            policy = FixedSize(self.scaling_config)
            return super()._initialize_and_run_controller(**{**parts, "scaling_policy": policy})

    return LeanTrainer


def _telling_losses(user_callback: type[Any]) -> type[Any]:
    """What puts a lost group of workers among the stage's events, with the reason: the run page shows it."""

    class TellingLosses(user_callback):
        def __init__(self, request: StageRequest) -> None:
            self.request = request

        def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
            reasons = [f"rank {rank}: {_first_line(error)}" for rank, error in sorted(worker_exceptions.items())]
            stage_folder = carrying.stage_folder_of(self.request)
            stage_folder.record("lost", text=f"a group of workers was lost: {'; '.join(reasons)}")
            stage_folder.flush()

    return TellingLosses


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _on_network_of_nodes(torch_config: type[Any]) -> type[Any]:
    """The group's config with workers that speak to each other over the network on which their nodes know each other.

    gloo and NCCL would guess an interface; gloo guesses loopback where a host's name resolves to it.
    """

    class Backend(torch_config().backend_cls):
        def on_start(self, worker_group: Any, backend_config: Any) -> None:
            worker_group.execute(use_interface_of_node)
            super().on_start(worker_group, backend_config)

    class OnNetworkOfNodes(torch_config):
        @property
        def backend_cls(self) -> type[Any]:
            return Backend

    return OnNetworkOfNodes


def use_interface_of_node() -> None:
    """Names the interface that has the address by which Ray knows this node."""
    import psutil
    import ray

    address = ray.util.get_node_ip_address()
    of_interface = {
        name: {each.address.partition("%")[0] for each in has} for name, has in psutil.net_if_addrs().items()
    }
    of_node = [name for name, addresses in of_interface.items() if address in addresses]
    if of_node:
        take_environment({"GLOO_SOCKET_IFNAME": of_node[0], "NCCL_SOCKET_IFNAME": of_node[0]})


def _leave_at_fatal_failure(stage_folder: StageFolder) -> None:
    """Ends this process once a worker met what another attempt would meet again; Ray then ends the job's workers.

    Ray Train itself restarts a group after any exception, and a rank that waits for a failed one would only notice
    at the end of its timeout.
    """

    def watch() -> None:
        told = None
        while not told:
            time.sleep(_POLL_SECONDS)
            with suppress(OrchardError, ValueError):  # a store that is asked again soon
                told = stage_folder.failed()
        print(told["trace"], file=sys.stderr, flush=True)
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
    stage_folder.deliver()


def _resources(cluster: Cluster) -> dict[str, float]:
    gpus = {"GPU": float(cluster.gpus_per_worker)} if cluster.gpus_per_worker else {}
    return {"CPU": float(cluster.cpus_per_worker), **gpus}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
