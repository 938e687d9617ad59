"""The manifests, built and read once a session."""

from typing import Any

import pytest
import yaml

from tests.manifests.kustomize import BUILDS, KUBERNETES, ROOT, Object, build


@pytest.fixture(scope="session", params=BUILDS)
def objects(request: pytest.FixtureRequest) -> list[Object]:
    """What one of the kustomizations makes; the example of a run together with the overlay that it goes beside."""
    beside = build(KUBERNETES / "overlays" / "cluster") if request.param == "one-run" else []
    return build(KUBERNETES / request.param) + beside


@pytest.fixture(scope="session")
def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "infra" / "compose.yaml").read_text())
