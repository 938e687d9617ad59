"""What a retraining finds outside: the champion, one that was taken back, a registry that is gone, what was decided."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from infra import artifacts, manifests, retraining
from infra.retraining import Retraining, open_retraining
from models.common.errors import ConfigError, RegistryError
from models.common.promotion import Case, Decision
from tests.fixtures.registry import published


def asked(**changed: Any) -> Retraining:
    return open_retraining("nqs", "tiny", "laptop", 0, changed, approval=False)


def a_version(folder: Path, run_key: str, made_of: Any = None) -> str:
    with manifests.committed(folder) as draft:
        (draft / "config.json").write_text("{}")
        (draft / "lineage.json").write_text(json.dumps({"fingerprint": made_of, "run_key": run_key}))
    return published(folder, run_key, name="nqs").version


def test_the_key_of_a_candidates_run_follows_from_what_it_is_made_of_and_whom_it_is_to_beat() -> None:
    key = asked().folder("v0.1.0").key
    assert key == asked().folder("v0.1.0").key
    others = [asked(**{"training.max_steps": 9}).folder("v0.1.0"), asked().folder("v0.2.0"), asked().folder()]
    assert len({key, *(other.key for other in others)}) == 4
    assert key.startswith("nqs-tiny-retrain-")
    assert key.endswith("-v0.1.0")


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'nqs'"):
        open_retraining("nqz", "tiny", "laptop", 0, {}, approval=False)
    with pytest.raises(ConfigError, match="no cluster 'lap'"):
        open_retraining("nqs", "tiny", "lap", 0, {}, approval=False)
    with pytest.raises(ConfigError, match="orchard up"):
        open_retraining("nqs", "tiny", "laptop", 0, {}, approval=True)


def test_the_champion_is_read_with_what_it_was_made_of(tmp_path: Path) -> None:
    assert retraining.champion_version("nqs") == ""
    a_version(tmp_path / "run", "first", {"seed": 3})
    assert retraining.champion_version("nqs") == ""
    artifacts.promote("nqs", "v0.1.0")
    champion = retraining.read_champion("nqs", retraining.champion_version("nqs"))
    assert (champion.version, champion.fingerprint, champion.config) == ("v0.1.0", {"seed": 3}, {})
    assert retraining.candidate_of("nqs", "first") == "v0.1.0"
    assert retraining.candidate_of("nqs", "second") == ""


def test_a_champion_whose_remote_bytes_were_altered_is_not_trusted(home: Path, tmp_path: Path) -> None:
    a_version(tmp_path / "run", "first")
    artifacts.promote("nqs", "v0.1.0")
    for file in (home / "remote" / "files" / "md5").rglob("*"):
        if file.is_file() and file.suffix != ".dir":
            file.chmod(0o644)
            file.write_bytes(b"altered")
    with pytest.raises(RegistryError, match="was altered"):
        retraining.read_champion("nqs", "v0.1.0")


def test_a_version_that_was_taken_back_is_known_by_its_fingerprint(tmp_path: Path) -> None:
    now = asked().fingerprint
    a_version(tmp_path / "first", "first")
    a_version(tmp_path / "second", "second", now.model_dump(mode="json"))
    for version in ("v0.1.0", "v0.2.0"):
        artifacts.promote("nqs", version)
    assert retraining.taken_back("nqs", now) == ""
    artifacts.rollback("nqs")
    assert retraining.taken_back("nqs", now) == "nqs@v0.2.0"
    assert retraining.taken_back("nqs", now.but(seed=1)) == ""
    artifacts.promote("nqs", "v0.2.0")
    assert retraining.taken_back("nqs", now) == ""


def test_a_registry_that_moved_is_not_made_anew(home: Path, tmp_path: Path) -> None:
    retraining.require_registry()
    shutil.rmtree(home / "registry.git")
    retraining.require_registry()  # nothing was ever published
    a_version(tmp_path / "run", "first")
    (home / "registry.git").rename(tmp_path / "moved.git")
    with pytest.raises(RegistryError, match=r"there is no registry at .*registry\.git, and yet versions were"):
        retraining.require_registry()
    assert not (home / "registry.git").exists()


@pytest.mark.parametrize(
    ("case", "is_final"),
    [("worse", True), ("within noise", True), ("denied", True), ("contest failed", False), ("not answered", False)],
)
def test_a_candidate_that_lost_is_not_judged_again_and_one_that_met_a_fault_is(case: Case, is_final: bool) -> None:
    folder = asked().folder("v0.1.0")
    assert retraining.judged_before(folder) == ""
    decision = Decision(action="keep", case=case, reason="by 3 points", champion="nqs@v0.1.0", candidate="nqs@v0.2.0")
    retraining.record("nqs", "tiny", 0, folder, decision, carried_out=True)
    told = retraining.judged_before(folder)
    assert told.endswith("by 3 points") if is_final else told == ""


def test_every_decision_is_listed_and_a_skip_makes_no_run(home: Path) -> None:
    folder = asked().folder("v0.1.0")
    lost, skipped = (
        Decision(action="keep", case="worse", reason=""),
        Decision(action="skip", case="taken back", reason=""),
    )
    for decision in (lost, skipped):
        retraining.record("nqs", "tiny", 0, folder, decision, carried_out=True)
    listed = (home / "retraining" / "nqs.jsonl").read_text().splitlines()
    assert [json.loads(line)["decision"]["action"] for line in listed] == ["keep", "skip"]
    assert json.loads((folder.folder / "decision.json").read_text())["decision"]["action"] == "keep"
