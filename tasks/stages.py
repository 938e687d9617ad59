"""How a task runs a stage on the cluster and shows it on the run page."""

from typing import Any

from prefect import get_run_logger

from infra import launch
from infra.runs import Kind, StageRequest
from infra.settings import settings
from models.common.config import Config
from models.common.errors import ClusterError
from models.common.handles import Handle
from tasks.run_page import StagePage, page_of
from tasks.runs import Run
from tasks.slots import slots_of


def is_worth_a_retry(task: Any, task_run: Any, state: Any) -> bool:
    """Whether another attempt may help: where Ray was lost. What the stage itself refused, it will refuse again."""
    return isinstance(state.result(raise_on_failure=False), ClusterError)


def run_stage(
    run: Run, kind: Kind, stage: str, config: Config, inputs: dict[str, Handle], start_from: Handle | None = None
) -> Handle:
    """The stage's result: computed as a Ray job, or taken from an earlier attempt of the same run."""
    folder = run.folder.stage(stage)
    if (sha256 := folder.finished()) is None:
        with slots_of(run.key, run.slots).taken(run.cluster.workers), run.folder.timed(kind, stage):
            page = StagePage(page_of(run.folder), stage)
            request = _request(run, stage, config, inputs, start_from)
            launch.run_stage(request, run.cluster, page.show, lambda: run.folder.refuse_if_cancelled(run.started))
            page.done()
        sha256 = folder.finished()
        assert sha256 is not None, f"{stage} ended well and left no result"
    else:
        get_run_logger().info("%s was finished by an earlier attempt of this run", stage)
    return Handle(name=stage, folder=folder.result, sha256=sha256)


def _request(
    run: Run, stage: str, config: Config, inputs: dict[str, Handle], start_from: Handle | None
) -> StageRequest:
    sha256 = {name: handle.sha256 for name, handle in inputs.items()}
    if start_from:
        sha256["start_from"] = start_from.sha256
    return StageRequest(
        run_key=run.key,
        stage=stage,
        config_class=f"{type(config).__module__}:{type(config).__name__}",
        config=config.model_dump(mode="json"),
        cluster=run.cluster.model_dump(mode="json"),
        seed=run.seed,
        inputs={name: handle.folder for name, handle in inputs.items()},
        input_sha256=sha256,
        start_from=start_from.folder if start_from else None,
        folder=run.folder.stage(stage).folder,
        storage=settings().storage if settings().ray_address else None,
    )
