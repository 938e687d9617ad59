"""Ray Train's worker group over the cluster's slots: lost workers are replaced, and resume from a checkpoint.

Where the cluster allows fewer workers, a group goes on with those that are left, and grows when others come back.
"""

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil
import ray
from ray._private.state import available_resources_per_node
from ray.train import FailureConfig, RunConfig, ScalingConfig, UserCallback, get_context, get_preemption_info
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.failure_handling.default import DefaultFailurePolicy
from ray.train.v2._internal.execution.failure_handling.failure_policy import FailureDecision
from ray.train.v2._internal.execution.scaling_policy import NoopDecision, ResizeDecision, ScalingDecision
from ray.train.v2._internal.execution.scaling_policy.fixed import FixedScalingPolicy
from ray.train.v2._internal.execution.worker_group import WorkerGroup
from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError

from infra import carrying, worker
from infra.clusters import Cluster
from infra.runs import StageFolder, StageRequest
from infra.settings import take_environment
from models.common.errors import StorageError, TrainingError

_GROUP_FAILURES = 3  # a worker group that does not come up; Ray Train would try for ever
_ANSWER_SECONDS = 1.0
_LOOK_SECONDS = 2.0
_STEADY_SECONDS = 5.0  # for which there is room for more workers before a group that trains is stopped for them

_Backend: type[Any] = TorchConfig().backend_cls


def train(request: StageRequest, stage_folder: StageFolder, batch_size: int) -> None:
    """Trains the stage in a group of workers, and in another one where that is lost.

    batch_size: the stage's, which has to divide over the workers of a group.

    Raises TrainingError where more groups are lost than the cluster allows, and StageFailed where another group would
    meet what a worker met.
    """
    cluster = Cluster.model_validate(request.cluster)
    ray.init(address="auto", log_to_driver=True)
    trainer = LeanTrainer(
        _train_rank,
        train_loop_config=request.model_dump(mode="json"),
        scaling_config=ScalingConfig(
            num_workers=cluster.workers,
            use_gpu=cluster.gpus_per_worker > 0,
            resources_per_worker=cluster.resources_per_worker(),
        ),
        run_config=RunConfig(
            name="ray-train",
            storage_path=str(stage_folder.folder),
            failure_config=FailureConfig(max_failures=cluster.max_failures, controller_failure_limit=_GROUP_FAILURES),
            callbacks=[TellingLosses(request)],
        ),
        torch_config=OnNetworkOfNodes(backend=cluster.backend, timeout_s=cluster.hang_timeout_seconds),
    )
    trainer.size_of = lambda config: GroupSize(config, request, batch_size)
    try:
        trainer.fit()
    except TrainingFailedError as error:
        failures = _failures(error)
        if fatal := _fatal(failures):
            raise fatal[0] from None
        raise TrainingError(
            f"{cluster.max_failures} lost groups of workers were replaced, and another one was lost\n"
            f"{_reasons(failures) or error}\n"
            "its checkpoints are kept: see why in the job's log, then run again with the same --run-key"
        ) from error


def _train_rank(request_values: dict[str, Any]) -> None:
    """What each worker of the group runs."""
    try:
        worker.train_rank(request_values, notice=lambda: get_preemption_info() is not None)
    except worker.FATAL as error:
        raise worker.StageFailed.of(get_context().get_world_rank(), error) from None


class GroupSize(FixedScalingPolicy):
    """How many workers a group has: all, or where the cluster allows it as many as there are places for.

    A group that cannot be whole waits for nodes to come back, for as long as the cluster says.
    """

    def __init__(self, scaling_config: ScalingConfig, request: StageRequest, batch_size: int) -> None:
        super().__init__(scaling_config)
        self.request = request
        self.cluster = Cluster.model_validate(request.cluster)
        self.batch_size = batch_size
        self._short_since: float | None = None
        self._room_since: float | None = None
        self._looked = float("-inf")

    def after_controller_start(self, train_run_context: Any) -> None:
        """Asks no autoscaler's coordinator: it would outlive the job; a Ray that grows sees the waiting group."""

    def _maybe_send_resource_request(self) -> None:
        """See above."""

    def make_decision_for_non_running_worker_group(self) -> ScalingDecision:
        whole = self.cluster.workers
        size = whole if self.cluster.min_workers is None else self._fitting(_places(self.cluster))
        if size == whole:
            self._short_since = None
            if _places(self.cluster, available_resources_per_node()) < whole:
                self._tell(f"waits until slots of {whole} workers are free")
            return self._of(whole)
        now = time.monotonic()
        if self._short_since is None:
            self._short_since = now
            self._tell(f"waits up to {self.cluster.rejoin_seconds} s for nodes of {whole} workers to come back")
        if size is None or now - self._short_since < self.cluster.rejoin_seconds:
            return NoopDecision()
        self._short_since = None
        self._tell(f"goes on with {size} of {whole} workers; grows again when there is room")
        return self._of(size)

    def make_decision_for_running_worker_group(self, worker_group_state: Any, worker_group_status: Any) -> Any:
        size, now = worker_group_state.num_workers, time.monotonic()
        if size == self.cluster.workers or now - self._looked < _LOOK_SECONDS:
            return NoopDecision()
        self._looked = now
        larger = self._fitting(size + _places(self.cluster, available_resources_per_node()))
        if larger is None or larger <= size:
            self._room_since = None
            return NoopDecision()
        self._room_since = self._room_since or now
        if now - self._room_since < _STEADY_SECONDS:
            return NoopDecision()
        self._room_since = None
        self._tell(f"there is room for {larger} workers again, {size} have trained")
        return self._of(larger)

    def _fitting(self, places: int) -> int | None:
        return self.cluster.group_size(places, self.batch_size)

    def _of(self, size: int) -> ResizeDecision:
        return ResizeDecision(num_workers=size, resources_per_worker=self.cluster.resources_per_worker())

    def _tell(self, text: str) -> None:
        _record(self.request, "log", text)


def _places(cluster: Cluster, free: dict[str, dict[str, float]] | None = None) -> int:
    """For how many workers the nodes have room in all; or, with what each has free by its id, have room now.

    A node that has just been lost is known to be so only after a while: it is asked.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    resources = {node["NodeID"]: node["Resources"] if free is None else free.get(node["NodeID"], {}) for node in nodes}
    return sum(cluster.workers_on(resources[node["NodeID"]]) for node in nodes if _answers(node))


def _answers(node: dict[str, Any]) -> bool:
    with suppress(OSError):
        address = node["NodeManagerAddress"], node["NodeManagerPort"]
        socket.create_connection(address, timeout=_ANSWER_SECONDS).close()
        return True
    return False


class EndsAtFatal(DefaultFailurePolicy):
    """Another group is worth it for a lost peer or a lost disk, not for what it would meet again."""

    def make_decision(self, training_failed_error: TrainingFailedError) -> FailureDecision:
        if _fatal(_failures(training_failed_error)):
            return FailureDecision.RAISE
        return super().make_decision(training_failed_error)


def _failures(error: TrainingFailedError) -> dict[int, Exception]:
    """What each rank raised, or why it is not there any more; nothing where it is the group that did not come up."""
    return error.worker_failures if isinstance(error, WorkerGroupError) else {}


def _fatal(failures: dict[int, Exception]) -> list[worker.StageFailed]:
    """Those that another group would meet again."""
    return [each for _, each in sorted(failures.items()) if isinstance(each, worker.StageFailed)]


def _reasons(failures: dict[int, Exception]) -> str:
    return "; ".join(f"rank {rank}: {_first_line(error)}" for rank, error in sorted(failures.items()))


class LeanTrainer(TorchTrainer):
    """The trainer without actors that start a process each before the first step, and are not needed here.

    The job's own process controls the group. No Ray dataset is read, and the placement group ends with the job.
    """

    size_of: Callable[[ScalingConfig], FixedScalingPolicy]
    _NOT_NEEDED = ("DatasetsCallback", "PlacementGroupCleanerCallback")

    def _create_default_callbacks(self) -> list[Any]:
        return [each for each in super()._create_default_callbacks() if type(each).__name__ not in self._NOT_NEEDED]

    def _initialize_and_run_controller(self, **parts: Any) -> Any:
        parts["scaling_policy"] = self.size_of(self.scaling_config)
        parts["failure_policy"] = EndsAtFatal(parts["failure_policy"].failure_config)
        controller = _Controller(**parts)
        asyncio.run(controller.run())
        return controller.get_result()


class _Group(WorkerGroup):
    """Workers who are told of no actor that controls them; they would ask it for checkpoints, which they keep here."""

    def _init_train_context_on_workers(
        self, workers: list[Any], sync_actor: Any, train_context_args: dict[str, list[Any]]
    ) -> None:
        contexts = [
            each.actor.init_train_context.remote(
                train_run_context=self._train_run_context,
                distributed_context=each.distributed_context,
                synchronization_actor=sync_actor,
                storage_context=self._storage_context,
                worker_callbacks=self._worker_callbacks_to_propagate,
                controller_actor=None,
                **{name: values[place] for name, values in train_context_args.items()},
            )
            for place, each in enumerate(workers)
        ]
        ray.get(contexts)
        self._decorate_worker_log_file_paths(workers)


class _Controller(TrainController):
    worker_group_cls = _Group


class TellingLosses(UserCallback):
    """Puts a lost group of workers among the stage's events, with the reason: the run page shows it."""

    def __init__(self, request: StageRequest) -> None:
        self.request = request

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        if not _fatal(worker_exceptions):  # else the group was not lost
            _record(self.request, "lost", f"a group of workers was lost: {_reasons(worker_exceptions)}")


def _record(request: StageRequest, kind: str, text: str) -> None:
    """Puts it among the stage's events at once; where the store does not answer, when it does again."""
    stage_folder = carrying.stage_folder_of(request)
    stage_folder.record(kind, text=text)
    with suppress(StorageError):
        stage_folder.flush()


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


class _BackendOnNetwork(_Backend):
    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        worker_group.execute(use_interface_of_node)
        super().on_start(worker_group, backend_config)

    def on_shutdown(self, worker_group: Any, backend_config: Any) -> None:
        """The workers' processes end next. One that still trains, as where a host's deadline has passed, would take a
        process group that vanishes for an error of the stage, which another attempt would meet again."""


class OnNetworkOfNodes(TorchConfig):
    """The group's config with workers that speak to each other over the network on which their nodes know each other.

    gloo and NCCL would guess an interface; gloo guesses loopback where a host's name resolves to it.
    """

    @property
    def backend_cls(self) -> type[Any]:
        return _BackendOnNetwork


def use_interface_of_node() -> None:
    """Names the interface that has the address by which Ray knows this node."""
    address = ray.util.get_node_ip_address()
    of_interface = {
        name: {each.address.partition("%")[0] for each in has} for name, has in psutil.net_if_addrs().items()
    }
    of_node = [name for name, addresses in of_interface.items() if address in addresses]
    if of_node:
        take_environment({"GLOO_SOCKET_IFNAME": of_node[0], "NCCL_SOCKET_IFNAME": of_node[0]})
