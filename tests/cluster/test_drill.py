"""`orchard drill`: faults on several hosts, and the card; those of the command that fit into the test run."""

import itertools
import json
import re
from pathlib import Path

import pytest

from infra.drill.card import Drill, Ground, Row, as_markdown
from infra.drill.drilling import DRILLS, drill, names
from infra.drill.ground import missing
from infra.drill.outcomes import EQUAL
from infra.drill.scene import INTERVAL
from infra.settings import ROOT
from models.common.errors import ConfigError
from tests.fixtures.commands import orchard

PLAYED = ("worker", "host")


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_the_promises_hold_on_a_cluster_that_loses_workers_hosts_and_bytes(tmp_path: Path) -> None:
    done = orchard("drill", *PLAYED, "--seed", "3", "--out", str(tmp_path / "card"), seconds=1100)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [Row(**json.loads(line)) for line in (tmp_path / "card" / "rows.jsonl").read_text().splitlines()]
    assert [row.fault for row in rows] == [DRILLS[name].title for name in PLAYED]
    worker, host = rows
    assert worker.notice_seconds is not None
    assert worker.notice_seconds < 30
    assert worker.steps_lost is not None
    assert worker.steps_lost <= INTERVAL
    assert host.notice_seconds is not None
    assert host.notice_seconds < 60, "by Ray's health checks"
    card = (tmp_path / "card" / "card.md").read_text()
    assert "2 of 2 promises kept" in card


def test_a_fault_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'worker'"):
        drill(tmp_path, ["wroker"], 1, 0, print)


def test_a_folder_that_is_there_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("mine")
    done = orchard("drill", "worker", "--out", str(tmp_path), seconds=60)
    assert done.returncode == 2, done.stdout
    assert "a folder that is not there yet" in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["kept"]


def test_the_core_is_a_part_of_all() -> None:
    assert set(names(core=True)) < set(names(core=False)) == set(DRILLS)


def test_the_page_on_faults_has_a_promise_for_each() -> None:
    rows = (ROOT / "docs" / "faults.md").read_text().partition("## What was seen")[0].splitlines()
    named = [re.findall("`([a-z0-9-]+)`", row.split("|")[2]) for row in rows if row.startswith("| ")]
    assert sorted(itertools.chain(*named)) == sorted(DRILLS)


def test_a_broken_promise_is_a_row_of_its_own(tmp_path: Path) -> None:
    def play(ground: Ground) -> Row:
        raise RuntimeError("the weights are others\nand more")

    def play_nothing(ground: Ground) -> Row:
        raise AssertionError

    class Bare:
        folder = tmp_path

    row = Drill("SIGKILL a train worker", EQUAL, play, core=True).row(Bare())
    assert row.verdict == "broken: RuntimeError: the weights are others"
    assert not row.kept
    assert "and more" in (tmp_path / "broken.log").read_text()
    silent = Drill("nobody says why", EQUAL, play_nothing, core=True).row(Bare())
    assert silent.verdict == "broken: AssertionError: no reason given"
    card = as_markdown([row, Row("a", "b", 1.25, 20.0, 3)], "about")
    assert "| a | b | 1.2 | 20.0 | 3 | kept |" in card
    assert "1 of 2 promises kept" in card
