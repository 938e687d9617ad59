"""publish: a version that anyone can pull, with its report and its lineage."""

from typing import Any

from prefect import get_run_logger, task

from infra import artifacts
from infra.versions import assemble
from models.common.config import Config
from models.common.handles import Artifact, Checkpoint, Evaluation, Handle
from models.common.report import Report
from tasks.runs import Run, describe


@task(task_run_name="publish", retries=2, retry_delay_seconds=5)
def publish(
    run: Run,
    checkpoint: Checkpoint,
    evaluation: Evaluation,
    config: Config,
    parents: list[Handle],
    parts: dict[str, Checkpoint] | None = None,
) -> Artifact:
    """The version of this run: a new one, or the one that an earlier attempt of the same run published.

    parts: further trained stages that belong to it, by the folder that each has in it.
    """
    parts = parts or {}
    with run.folder.timed("publish", "artifact"):
        folder = run.folder.folder / "artifact"
        history = _lineage(run, checkpoint, evaluation, [*parents, *parts.values()])
        assemble(folder, checkpoint, evaluation, config, history, parts)
        summary = {"preset": run.preset, "seed": run.seed, "summary": Report.read(evaluation.folder).summary}
        artifact = artifacts.publish(folder, run.workload, run_key=run.key, summary=summary)
    get_run_logger().info("published %s@%s", artifact.name, artifact.version)
    return artifact


def _lineage(run: Run, checkpoint: Checkpoint, evaluation: Evaluation, parents: list[Handle]) -> dict[str, Any]:
    seconds = run.folder.seconds(since=run.started)
    gpus = run.cluster.workers * run.cluster.gpus_per_worker
    return {
        **describe(run),
        "ray_jobs": [f"{run.key}.{handle.name}" for handle in (checkpoint, evaluation)],
        "weights_sha256": checkpoint.sha256,
        "report_sha256": evaluation.sha256,
        "parents": {handle.name: handle.sha256 for handle in parents},
        "seconds": seconds,
        "gpu_hours": round(seconds["train"] * gpus / 3600, 4),
    }
