"""The folder of a version holds what was trained, all parts of it, under one manifest."""

import json
from pathlib import Path

import pytest

from infra import manifests
from infra.versions import assemble
from models.common.config import Config
from models.common.errors import CheckpointError
from models.common.handles import Checkpoint, Evaluation
from models.common.report import Report


class _Sizes(Config):
    width: int = 3


def _trained(folder: Path, content: bytes) -> Checkpoint:
    with manifests.committed(folder, {}) as draft:
        (draft / "weights.safetensors").write_bytes(content)
        (draft / "config.json").write_text(json.dumps({"is": content.decode()}))
    return Checkpoint(name=folder.name, folder=folder, sha256=manifests.fingerprint(folder))


def _evaluated(folder: Path) -> Evaluation:
    with manifests.committed(folder, {}) as draft:
        Report(workload="busgen", title="t", summary="s", metrics={"auc": 0.5}).write(draft)
    return Evaluation(name="evaluation", folder=folder, sha256=manifests.fingerprint(folder))


def _assembled(tmp_path: Path) -> Path:
    base, adapter = _trained(tmp_path / "base", b"base"), _trained(tmp_path / "adapter", b"low rank")
    folder = tmp_path / "artifact"
    assemble(folder, base, _evaluated(tmp_path / "judged"), _Sizes(), {"seed": 1}, {"adapter": adapter})
    return folder


def test_each_part_has_a_folder_with_its_weights_and_config(tmp_path: Path) -> None:
    folder = _assembled(tmp_path)
    assert (folder / "weights.safetensors").read_bytes() == b"base"
    assert (folder / "adapter" / "weights.safetensors").read_bytes() == b"low rank"
    assert json.loads((folder / "adapter" / "stage.json").read_text()) == {"is": "low rank"}
    assert json.loads((folder / "config.json").read_text()) == {"width": 3}
    assert json.loads((folder / "metrics.json").read_text()) == {"auc": 0.5}
    assert "adapter/weights.safetensors" in manifests.verify(folder)["files"]


def test_a_damaged_part_is_found_when_the_run_goes_on(tmp_path: Path) -> None:
    folder = _assembled(tmp_path)
    (folder / "adapter" / "weights.safetensors").write_bytes(b"high rank")
    with pytest.raises(CheckpointError, match=r"adapter/weights\.safetensors"):
        _assembled_again(tmp_path, folder)


def _assembled_again(tmp_path: Path, folder: Path) -> None:
    base = Checkpoint(name="base", folder=tmp_path / "base", sha256="")
    judged = Evaluation(name="evaluation", folder=tmp_path / "judged", sha256="")
    assemble(folder, base, judged, _Sizes(), {"seed": 1}, {})
