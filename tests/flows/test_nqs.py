"""The NQS pipeline from the command line, on real parts."""

import json
import math
import re
from pathlib import Path

import pytest

from tests.fixtures.commands import orchard, orchard_json

pytestmark = pytest.mark.slow
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


def test_a_state_is_trained_measured_published_and_begun_with(home: Path, tmp_path: Path) -> None:
    result = orchard_json("run", "nqs", "--preset", "tiny", "--run-key", "first")
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

    warm = ("--set", "system.U=5", "--set", "training.max_steps=10", "--set", "gates.most_relative_error=10")
    begun = orchard_json("run", "nqs", "--preset", "tiny", "--set", "start=nqs@v0.1.0", *warm)
    assert begun["version"] == "v0.2.0"
    out = tmp_path / "second"
    assert orchard("pull", "nqs@v0.2.0", "--out", str(out)).returncode == 0
    assert "nqs@v0.1.0" in json.loads((out / "lineage.json").read_text())["parents"]

    refused = orchard("run", "nqs", "--preset", "tiny", "--set", "start=nqs@v0.1.0", "--set", "system.filling=2,1")
    assert refused.returncode == 2
    assert "the same lattice and filling" in refused.stderr
    missing = orchard("run", "nqs", "--preset", "tiny", "--set", "start=nqs@v9.9.9")
    assert missing.returncode == 2
