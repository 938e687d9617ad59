"""`show`, `compare`, `report` and `reports` from a terminal."""

import os
import re
import signal
import urllib.request
from pathlib import Path

import pytest

from tests.fixtures.commands import orchard, orchard_json, started


def test_a_version_is_shown_with_its_numbers_and_its_origin(registry: Path) -> None:
    shown = orchard("show", "relay#champion")
    assert shown.returncode == 0, shown.stderr
    for words in (
        "relay@v0.1.0  champion",
        "It solves 99.5 %",
        "2 of 3 passed",
        "looped teacher",
        "teacher aaaa",
        "1a2b1a2b",
    ):
        assert words in shown.stdout
    told = orchard_json("show", "relay@v0.2.0")
    assert told["metrics"]["teacher"]["loss"] == 0.25
    assert told["lineage"]["retrain"]["champion"] == "relay@v0.1.0"
    assert "weights.safetensors" in told["files"]


def test_two_versions_are_compared(registry: Path) -> None:
    compared = orchard_json("compare", "relay@v0.1.0", "relay@v0.2.0")
    assert compared["gates"][0] == {"name": "gain", "first": 85.0, "second": 87.5, "better": "second"}
    assert {row["name"]: row["difference"] for row in compared["metrics"]}["teacher.loss"] == "−0.25 (−50 %)"
    shown = orchard("compare", "relay@v0.1.0", "maps")
    assert shown.returncode == 0, shown.stderr
    assert "different workloads" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("show", "rely"), "did you mean 'relay'?"),
        (("show", "foreign"), "was not registered by Orchard"),
        (("compare", "damaged", "relay"), "was altered"),
        (("report", "damaged"), "was altered"),
        (("report", "relay@v9.9.9"), "there is no version of relay 'v9.9.9'"),
        (("report", "relay", "--out", "/no/such/folder/report.html"), "name another file with --out"),
        (("reports", "--port", "99999"), "is no port"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value[:2]),
)
def test_what_cannot_be_shown_is_one_clear_error(arguments: tuple[str, ...], told: str, registry: Path) -> None:
    done = orchard(*arguments, seconds=60)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_report_is_a_file_that_can_be_given_away(registry: Path, tmp_path: Path) -> None:
    done = orchard("report", "relay@v0.2.0", "--out", str(tmp_path / "report.html"))
    assert done.returncode == 0, done.stderr
    assert "It solves 99.8 %" in (tmp_path / "report.html").read_text()
    kept = Path(orchard("report", "relay@v0.2.0", "--no-open").stdout.split()[-1])
    assert kept.read_bytes() == (tmp_path / "report.html").read_bytes()


def test_the_site_is_served_until_it_is_interrupted(registry: Path) -> None:
    serving = started("reports", "--port", "0")
    try:
        assert serving.stdout
        line = serving.stdout.readline()
        address = re.findall(r"http://127\.0\.0\.1:\d+", line)
        assert address, line + serving.stdout.read()
        with urllib.request.urlopen(address[0], timeout=60) as answer:
            assert "relay@v0.2.0" in answer.read().decode()
        os.kill(serving.pid, signal.SIGINT)
        assert serving.wait(60) == 0
    finally:
        if serving.poll() is None:
            serving.kill()
