"""fetch_parent: a published version that a run's training begins with."""

from prefect import get_run_logger, task

from infra import artifacts, manifests
from models.common.contract import WorkloadConfig
from models.common.handles import Checkpoint
from tasks.runs import Run


@task(task_run_name="fetch-parent", retries=2, retry_delay_seconds=5)
def fetch_parent(run: Run, config: WorkloadConfig) -> Checkpoint | None:
    """The version that the config names, pulled and verified; None where it names none."""
    spec = config.parent()
    if spec is None:
        return None
    version = artifacts.pull(spec)
    get_run_logger().info("%s begins with %s@%s", run.key, version.name, version.version)
    return Checkpoint(name=spec, folder=version.folder, sha256=manifests.fingerprint(version.folder))
