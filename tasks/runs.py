"""A run: what was asked, where it is kept, and what came out."""

import time
from pathlib import Path
from typing import Any, Self

from prefect.runtime import flow_run

from infra import fingerprint, lineage, preflight
from infra.clusters import Cluster
from infra.runs import Asked, RunFolder, new_key
from infra.runs import runs as kept_runs
from models.common.config import Config
from models.common.handles import Artifact, Evaluation
from models.common.report import Report, Table
from tasks import cancelling


class Run(Config):
    """What every task of a run needs to know of it."""

    key: str
    workload: str
    preset: str
    seed: int
    cluster: Cluster
    slots: int  # workers of the whole cluster, of which side by side each stage has a part
    started: float  # seconds since 1970

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.key, self.cluster.storage)

    def side_by_side(self, stages: int) -> Self:
        """This run with the part of the cluster that each of so many stages gets when they train at once."""
        return self.but(cluster=self.cluster.share(stages))


class RunSummary(Config):
    """What a flow returns, and `orchard run --json` prints."""

    workload: str
    preset: str
    seed: int
    run_key: str
    artifact: str
    version: str
    report: Path
    metrics: dict[str, Any]
    seconds: dict[str, float]
    gates: dict[str, dict[str, Any]]
    headline: Table | None


def name_of_run() -> str:
    """The name of the flow run, which is the run's key: the one asked for, or one that tells runs apart.

    A flow run that is started once more keeps the key with which it began.
    """
    asked = flow_run.parameters
    if asked.get("run_key"):
        return asked["run_key"]
    if any(folder.asked().flow_run == flow_run.id for folder in kept_runs()):
        return str(flow_run.name)
    return new_key(flow_run.flow_name or "run", asked["preset"], asked["seed"])


def begin(
    workload: str, preset: str, cluster: str, seed: int, run_key: str | None, overrides: dict[str, Any]
) -> tuple[Run, Any]:
    """The run and its resolved config, checked before anything starts; the run's folder is claimed.

    Raises ConfigError for what cannot work, CheckpointError where the key belongs to a run of another config.
    """
    key = run_key or flow_run.name or new_key(workload, preset, seed)
    config, shape = preflight.open_run(workload, preset, cluster, seed, key, overrides)
    run = Run(
        key=key,
        workload=workload,
        preset=preset,
        seed=seed,
        cluster=shape,
        slots=shape.workers,
        started=time.time(),
    )
    fingerprint.keep(run.folder.folder, fingerprint.fingerprint_of(workload, config, seed))
    run.folder.note_start(
        Asked(
            workload=workload,
            preset=preset,
            cluster=cluster,
            seed=seed,
            overrides=overrides,
            flow_run=flow_run.id,
            root_flow_run=flow_run.root_flow_run_id,
            started=run.started,
        )
    )
    cancelling.begun(run.folder)
    return run, config


def describe(run: Run) -> dict[str, Any]:
    """What the run is and what it runs on, for the lineage of what it makes."""
    return {
        "workload": run.workload,
        "preset": run.preset,
        "seed": run.seed,
        "run_key": run.key,
        "flow_run": flow_run.id,
        "code": lineage.code(),
        "cluster": run.cluster.model_dump(mode="json", exclude={"storage"}),
        "hardware": lineage.hardware(),
    }


def summarise(run: Run, artifact: Artifact, evaluation: Evaluation) -> RunSummary:
    """The run in numbers: what was published, what it can do, how long it took."""
    report = Report.read(evaluation.folder)
    summary = RunSummary(
        workload=run.workload,
        preset=run.preset,
        seed=run.seed,
        run_key=run.key,
        artifact=artifact.name,
        version=artifact.version,
        report=artifact.folder / "report.html",
        metrics=report.metrics,
        seconds=run.folder.seconds(since=run.started),
        gates={
            gate.name: gate.model_dump(include={"value", "at_least", "at_most"}, exclude_none=True)
            | {"passed": gate.passed}
            for gate in report.gates
        },
        headline=report.headline,
    )
    run.folder.finish(summary.model_dump_json(indent=1))
    return summary
