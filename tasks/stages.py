"""How a task runs a stage on the cluster and shows it on the run page."""

import re
import time
from typing import Any
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact

from infra import launch
from infra.launch import Event
from infra.runs import Kind, StageRequest
from models.common.config import Config
from models.common.errors import ClusterError
from models.common.handles import Handle
from tasks.runs import Run
from tasks.slots import slots_of

_PROGRESS_SECONDS = 2.0
_LOG_SECONDS = 10.0


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
            run.folder.refuse_if_cancelled(since=run.started)
            page = _RunPage(run, stage)
            launch.run_stage(_request(run, stage, config, inputs, start_from), run.cluster, page.show)
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
    )


class _RunPage:
    """A stage's progress artifact and log lines on Prefect's run page."""

    def __init__(self, run: Run, stage: str) -> None:
        self.logger = get_run_logger()
        self.stage = stage
        key = re.sub(r"[^a-z0-9-]", "-", f"{run.key}-{stage}")
        artifact = create_progress_artifact(progress=0.0, key=key, description=f"{stage} of {run.key}")
        assert isinstance(artifact, UUID)
        self.artifact = artifact
        self.total = 1
        self.moved = self.logged = float("-inf")

    def show(self, event: Event) -> None:
        match event["kind"]:
            case "started":
                self.total = event["max_steps"]
                self.logger.info("%s: step %d, %d workers", self.stage, event["step"], event["workers"])
            case "step":
                self._move(event["step"], ", ".join(f"{name} {value:.4g}" for name, value in event["metrics"].items()))
            case "shards":
                self.total = event["total"]
                self._move(event["done"], f"{event['done']} of {event['total']} shards")
            case "log":
                self.logger.info("%s: %s", self.stage, event["text"])
            case "warning":
                self.logger.warning("%s: %s", self.stage, event["text"])
            case "failed":
                self.logger.error("%s: rank %d failed\n%s", self.stage, event["rank"], event["trace"])
            case "finished":
                self.logger.info("%s: finished at step %d", self.stage, event["step"])

    def done(self) -> None:
        update_progress_artifact(artifact_id=self.artifact, progress=100.0)

    def _move(self, done: int, text: str) -> None:
        now = time.monotonic()
        if now - self.moved >= _PROGRESS_SECONDS:
            self.moved = now
            update_progress_artifact(
                artifact_id=self.artifact,
                progress=100.0 * done / max(1, self.total),
                description=f"{self.stage}: {text}",
            )
        if now - self.logged >= _LOG_SECONDS:
            self.logged = now
            self.logger.info("%s: step %d of %d, %s", self.stage, done, self.total, text)
