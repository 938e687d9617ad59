"""A fingerprint changes with what changes a result, and with nothing else."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from infra import fingerprint
from infra.fingerprint import Fingerprint, changes, fingerprint_of
from infra.settings import ROOT
from models.busgen.data_config import BreastImages, FilesOrigin
from models.common import workloads
from models.common.contract import WorkloadConfig


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the code that may be changed."""
    copy = tmp_path / "copy"
    for name in ("models/nqs", "models/common", "models/relay", "flows", "infra"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fingerprint, "ROOT", copy)
    return copy


def nqs(**changed: Any) -> WorkloadConfig:
    return workloads.preset("nqs", "tiny").with_overrides(changed)


def differing(now: Fingerprint, then: Fingerprint, config: WorkloadConfig | None = None) -> tuple[str, ...]:
    return changes(then.model_dump(mode="json"), now, nqs().model_dump(mode="json"), config or nqs())


def edited(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_the_same_has_the_same_fingerprint() -> None:
    assert differing(fingerprint_of("nqs", nqs(), 0), fingerprint_of("nqs", nqs(), 0)) == ()


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("models/nqs/vmc.py", "\n\n\ndef ", "\n\n\nCHANGED = 1\n\n\ndef "),
        ("models/common/metrics.py", "import math", "import math\n\nCHANGED = 1"),
        ("infra/engine.py", "import ", "import sys\nimport "),
        ("flows/nqs.py", "require(run, evaluation)", "pass"),
    ],
)
def test_code_that_the_workload_uses_counts(code: Path, file: str, old: str, new: str) -> None:
    before = fingerprint_of("nqs", nqs(), 0)
    used = file in (before.code or {})
    edited(code / file, old, new)
    told = differing(fingerprint_of("nqs", nqs(), 0), before)
    assert told == ((f"code: {file}",) if used else ())
    assert used or file == "models/common/metrics.py", "which nqs does not import"


def test_what_changes_no_result_does_not_count(code: Path) -> None:
    before = fingerprint_of("nqs", nqs(), 0)
    edited(code / "models/nqs/vmc.py", "\n\n\ndef ", "\n\n\n# A comment.\n\n\ndef ")
    edited(code / "models/nqs/vmc.py", '"""', '"""Other words: ')
    edited(code / "models/nqs/README.md", "e", "E")
    edited(code / "models/relay/teacher.py", "import ", "import sys\nimport ")
    edited(code / "infra/report_page.py", "import ", "import sys\nimport ")
    (code / "models/nqs/__pycache__").mkdir()
    (code / "models/nqs/__pycache__/vmc.pyc").write_bytes(b"compiled")
    assert fingerprint_of("nqs", nqs(), 0) == before


def test_a_new_file_and_one_that_is_gone_count(code: Path) -> None:
    before = fingerprint_of("nqs", nqs(), 0)
    (code / "models/nqs/new.py").write_text("NEW = 1\n")
    (code / "models/nqs/bethe.py").unlink()
    told = differing(fingerprint_of("nqs", nqs(), 0), before)
    assert told == ("code: models/nqs/bethe.py, models/nqs/new.py",)


def test_config_and_seed_count_and_what_decides_on_promotion_does_not() -> None:
    before = fingerprint_of("nqs", nqs(), 0)
    longer = nqs(**{"training.max_steps": 61})
    assert differing(fingerprint_of("nqs", longer, 0), before, longer) == ("config: training.max_steps 60 -> 61",)
    assert differing(fingerprint_of("nqs", nqs(), 3), before) == ("seed: 0 -> 3",)
    stricter = nqs(**{"promotion.margin": 0.5})
    assert differing(fingerprint_of("nqs", stricter, 0), before, stricter) == ()


class Imaging(WorkloadConfig):
    """A workload whose data are a folder of the user's images."""

    name: str = "busgen"
    data: BreastImages


def test_files_that_come_change_and_go_in_a_folder_of_data_count(tmp_path: Path) -> None:
    config = Imaging(data=BreastImages(origins=(FilesOrigin(layout="folder", folder=tmp_path),)))
    folder = tmp_path / "benign"
    folder.mkdir()
    for name in ("one", "two"):
        (folder / f"{name}.png").write_bytes(name.encode())

    def told_since(before: Fingerprint) -> str:
        (told,) = changes(before.model_dump(mode="json"), fingerprint_of("busgen", config, 0), {}, config)
        return told

    before = fingerprint_of("busgen", config, 0)
    assert changes(before.model_dump(mode="json"), fingerprint_of("busgen", config, 0), {}, config) == ()
    (folder / "three.png").write_bytes(b"three")
    assert re.fullmatch("data: 2 files with SHA-256 .{12} -> 3 files with SHA-256 .{12}", told_since(before))
    (folder / "three.png").unlink()
    (folder / "two.png").write_bytes(b"owt")
    assert told_since(before).startswith("data: 2 files")
    (folder / "two.png").rename(folder / "other.png")
    assert told_since(before).startswith("data: 2 files")


def test_what_changed_while_a_run_was_under_way_is_not_claimed(tmp_path: Path) -> None:
    began = fingerprint_of("nqs", nqs(), 0)
    fingerprint.keep(tmp_path, began)
    assert fingerprint.kept(tmp_path, began) == began
    meanwhile = began.but(data="another", lock="another")
    fingerprint.keep(tmp_path, meanwhile)  # the same run, started again
    made_of = fingerprint.kept(tmp_path, meanwhile)
    assert (made_of.data, made_of.lock, made_of.code) == (None, None, began.code)
    assert len(differing(meanwhile, made_of)) == 2, "such a version is trained again"


def test_a_lineage_without_a_fingerprint_counts_as_changed() -> None:
    now = fingerprint_of("nqs", nqs(), 0)
    for lineage in (None, {}, {"code": "abc"}):
        assert changes(lineage, now, {}, nqs()) == ("its lineage has no fingerprint that this code can read",)


def test_a_page_shows_one_hash_of_the_code() -> None:
    history = {"seed": 0, "fingerprint": fingerprint_of("nqs", nqs(), 0).model_dump(mode="json")}
    shown = fingerprint.shortened(history)["fingerprint"]
    assert shown["code"].startswith(f"{len(history['fingerprint']['code'])} files with SHA-256 ")
    assert fingerprint.shortened({"seed": 0}) == {"seed": 0}
