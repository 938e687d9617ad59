"""The NQS pipeline from the command line, on real parts."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.commands import orchard, orchard_json
from tests.fixtures.prefect_rest import ask

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray", "prefect")]
TINY = ("run", "nqs", "--preset", "tiny")
METRICS = {
    "energy",
    "energy_error",
    "energy_per_site",
    "variance",
    "exact",
    "relative_error",
    "acceptance",
    "autocorrelation_time",
    "samples_per_second",
}


def _run_page_tells_what_happened(api: str) -> None:
    def found(path: str, **of: Any) -> list[dict[str, Any]]:
        return ask(f"{api}/{path}/filter", **of)

    [run] = found("flow_runs", flow_runs={"name": {"any_": ["shown"]}})
    assert run["state_type"] == "COMPLETED"
    of_run = {"flow_runs": {"id": {"any_": [run["id"]]}}}
    names = {task["name"] for task in found("task_runs", **of_run)}
    assert {"fetch-versions", "train-training", "generate-measurement", "evaluate-evaluation", "require-gates",
            "publish"} == names  # fmt: skip
    artifacts = found("artifacts", **of_run)
    progress = {each["key"]: each["data"] for each in artifacts if each["type"] == "progress"}
    assert progress.keys() >= {"shown-training", "shown-measurement", "shown-evaluation"}
    assert set(progress.values()) == {100.0}
    pages = {each["key"]: each["data"] for each in artifacts if each["type"] == "markdown"}
    assert pages.keys() == {"shown-curves", "shown-result"}
    assert "![Training curves of " in pages["shown-curves"]
    assert "data:image/png;base64," in pages["shown-result"]
    assert "| --- |" in pages["shown-result"]
    assert pages["shown-result"].startswith("Published as `nqs@v0.1.0` · report: `")
    logs = found("logs", logs={"flow_run_id": {"any_": [run["id"]]}})
    told = "\n".join(line["message"] for line in logs)
    assert "training: step 0, 2 workers" in told
    assert "finished at step 60" in told
    assert "published nqs@v0.1.0" in told


def test_a_state_is_trained_measured_published_shown_and_begun_with(prefect: str, home: Path, tmp_path: Path) -> None:
    done = orchard(*TINY, "--run-key", "shown", "--json")
    assert done.returncode == 0, done.stderr
    assert "training: 60/60 finished" in done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["artifact"], result["version"]) == ("nqs", "v0.1.0")
    metrics = result["metrics"]
    assert metrics.keys() >= METRICS
    exact = json.loads(
        orchard("exact", "--lattice", "2x2", "--boundary", "open", "--filling", "1,1", "--U", "4", "--json").stdout
    )
    assert metrics["exact"] == pytest.approx(exact["energy"], abs=1e-9)
    assert metrics["energy"] > metrics["exact"] - 4 * metrics["energy_error"]
    assert metrics["relative_error"] == pytest.approx(abs(metrics["energy"] / metrics["exact"] - 1), rel=1e-6)
    assert all(math.isfinite(metrics[name]) for name in METRICS)

    page = Path(result["report"]).read_text()
    for title in ("Energy while training", "Holes and staggered spin", "Structure factors", "Attention"):
        assert title in page
    assert re.findall(r"""(?:src|href)=["']?(?!#|data:)[^"'> ]+""", page) == [], "no outside address"

    _run_page_tells_what_happened(prefect)

    warm = ("--set", "system.U=5", "--set", "training.max_steps=10", "--set", "gates.most_relative_error=10")
    begun = orchard_json(*TINY, "--set", "start=nqs@v0.1.0", *warm)
    assert begun["version"] == "v0.2.0"
    out = tmp_path / "second"
    assert orchard("pull", "nqs@v0.2.0", "--out", str(out)).returncode == 0
    assert "nqs@v0.1.0" in json.loads((out / "lineage.json").read_text())["parents"]

    refused = orchard(*TINY, "--set", "start=nqs@v0.1.0", "--set", "system.filling=2,1")
    assert refused.returncode == 2
    assert "the same lattice and filling" in refused.stderr
    missing = orchard(*TINY, "--set", "start=nqs@v9.9.9")
    assert missing.returncode == 2
