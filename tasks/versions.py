"""fetch, pull: published versions, such as the one that a training begins with, brought to this machine."""

from pathlib import Path

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact

from infra import artifacts, links, manifests
from models.common.contract import WorkloadConfig
from models.common.handles import Artifact, Checkpoint
from tasks.run_page import artifact_key
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


@task(task_run_name="pull-{spec}", retries=2, retry_delay_seconds=5)
def pull_version(spec: str, out: Path | None) -> Artifact:
    """The version on this machine, every byte verified; what it is and where stands on the run page."""
    artifact = artifacts.pull(spec, out)
    get_run_logger().info("%s is %s@%s at %s", spec, artifact.name, artifact.version, artifact.folder)
    create_markdown_artifact(key=artifact_key(artifact.name, "pulled"), markdown=_page(artifact))
    return artifact


def _page(artifact: Artifact) -> str:
    held = artifacts.verify(artifact.folder)
    page = links.version_page(artifact.name, artifact.version)
    report = f"[report]({page})" if page else f"`{artifact.folder / 'report.html'}`"
    rows = {
        "folder": f"`{artifact.folder}`",
        "files": f"{held['files']}, {held['bytes'] / 2**20:.1f} MiB",
        "SHA-256 of the manifest": f"`{held['sha256']}`",
        "commit of the registry": f"`{artifact.commit}`",
        "report": report,
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"# {artifact.name}@{artifact.version}\n\n| | |\n| --- | --- |\n{table}\n"
