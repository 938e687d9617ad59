"""fetch: published versions that a run reads, such as the one that its training begins with."""

from prefect import get_run_logger, task

from infra import artifacts, manifests
from models.common.contract import WorkloadConfig
from models.common.handles import Checkpoint
from tasks.runs import Run


@task(task_run_name="fetch-versions", retries=2, retry_delay_seconds=5)
def fetch(run: Run, config: WorkloadConfig) -> dict[str, Checkpoint]:
    """The versions that the config names, pulled and verified, by what they are for."""
    fetched = {}
    for purpose, spec in config.versions().items():
        version = artifacts.pull(spec)
        get_run_logger().info("%s: %s of %s", purpose, spec, run.key)
        fetched[purpose] = Checkpoint(name=spec, folder=version.folder, sha256=manifests.fingerprint(version.folder))
    return fetched
