"""Pulling a version as a flow: its bytes are on the worker's machine, and the run page says where."""

from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.pull import pull
from infra import artifacts
from tests.fixtures.registry import an_artifact, contents, published


def test_a_version_is_pulled_and_the_run_page_says_what_it_is(prefect: str, tmp_path: Path) -> None:
    version = published(an_artifact(tmp_path / "made")).version
    with temporary_settings({PREFECT_API_URL: prefect}), get_client(sync_client=True) as client:
        pulled = pull("relay", str(tmp_path / "mine"))
        shown = client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["relay-pulled"])))
        assert contents(tmp_path / "mine") == contents(tmp_path / "made")
        assert artifacts.verify(pulled.folder)["sha256"] in str(shown[-1].data)
        assert f"relay@{version}" in str(shown[-1].data)
