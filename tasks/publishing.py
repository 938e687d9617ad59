"""publish: a version that anyone can pull, with its report and its lineage."""

from typing import Any

from prefect import get_run_logger, task

from infra import artifacts, fingerprint, retraining
from infra.versions import assemble
from models.common.contract import WorkloadConfig
from models.common.handles import Artifact, Checkpoint, Evaluation, Handle
from models.common.report import Report
from tasks.run_page import show_result
from tasks.runs import Run, describe


@task(task_run_name="publish", retries=2, retry_delay_seconds=5)
def publish(
    run: Run,
    checkpoint: Checkpoint,
    evaluation: Evaluation,
    config: WorkloadConfig,
    parents: list[Handle],
    parts: dict[str, Checkpoint] | None = None,
) -> Artifact:
    """The version of this run: a new one, or the one that an earlier attempt of the same run published.

    parts: further trained stages that belong to it, by the folder that each has in it.
    """
    parts = parts or {}
    run.folder.refuse_if_cancelled(run.started)
    report = Report.read(evaluation.folder)
    with run.folder.timed("publish", "artifact"):
        folder = run.folder.folder / "artifact"
        history = _lineage(run, config, checkpoint, evaluation, [*parents, *parts.values()])
        assemble(folder, checkpoint, evaluation, config, history, parts)
        summary = {"preset": run.preset, "seed": run.seed, "summary": report.summary}
        artifact = artifacts.publish(folder, run.workload, run_key=run.key, summary=summary)
    show_result(run.folder, report, artifact)
    get_run_logger().info("published %s@%s", artifact.name, artifact.version)
    return artifact


def _lineage(
    run: Run, config: WorkloadConfig, checkpoint: Checkpoint, evaluation: Evaluation, parents: list[Handle]
) -> dict[str, Any]:
    made_of = fingerprint.kept(run.folder.folder, fingerprint.fingerprint_of(run.workload, config, run.seed))
    seconds = run.folder.seconds(since=run.started)
    gpus = run.cluster.workers * run.cluster.gpus_per_worker
    return {
        **describe(run),
        **retraining.retraining_of(run.folder),
        "fingerprint": made_of.model_dump(mode="json"),
        "ray_jobs": [f"{run.key}.{handle.name}" for handle in (checkpoint, evaluation)],
        "weights_sha256": checkpoint.sha256,
        "report_sha256": evaluation.sha256,
        "parents": {handle.name: handle.sha256 for handle in parents},
        "seconds": seconds,
        "gpu_hours": round(seconds["train"] * gpus / 3600, 4),
    }
