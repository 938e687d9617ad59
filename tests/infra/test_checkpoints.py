"""Checkpoints: whole or not at all, verified before anything is unpickled, the one before as a fallback."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from infra.checkpoints import CheckpointStore
from models.common.contract import LearnerState
from models.common.errors import CheckpointError
from models.common.loop import Progress

ROOT = Path(__file__).resolve().parents[2]


class Warnings(list[str]):
    def __call__(self, text: str) -> None:
        self.append(text)


def _store(folder: Path, identity: str = "this", warn: Warnings | None = None) -> CheckpointStore:
    return CheckpointStore(folder, identity=identity, keep=2, warn=warn if warn is not None else Warnings())


def _state(step: int) -> LearnerState:
    return LearnerState(shared={"weights": torch.full((50,), float(step)), "draws": [step, "text", None]})


def _save(folder: Path, *steps: int) -> None:
    for step in steps:
        _store(folder).save(Progress(step, {"step": [float(step)], "loss": [0.5]}), _state(step))


def _newest_step(folder: Path, warn: Warnings | None = None) -> int | None:
    found = _store(folder, warn=warn).newest()
    return found[0].step if found else None


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    _save(tmp_path, 7)
    found = _store(tmp_path).newest()
    assert found is not None
    progress, state = found
    assert progress == Progress(7, {"step": [7.0], "loss": [0.5]})
    assert torch.equal(state.shared["weights"], torch.full((50,), 7.0))
    assert state.shared["draws"] == [7, "text", None]


def test_an_empty_folder_has_none(tmp_path: Path) -> None:
    assert _store(tmp_path / "new").newest() is None


def test_the_newest_are_kept(tmp_path: Path) -> None:
    _save(tmp_path, 5, 10, 15, 100)
    assert [path.name for path in _store(tmp_path).saved()] == ["step-0000000100", "step-0000000015"]


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "no manifest", "empty manifest"])
def test_a_damaged_newest_falls_back_loudly_before_anything_is_unpickled(
    tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _save(tmp_path, 5, 10)
    newest = tmp_path / "step-0000000010"
    content = bytearray((newest / "shared.pt").read_bytes())
    match damage:
        case "flip":
            content[len(content) // 2] ^= 4
            (newest / "shared.pt").write_bytes(content)
        case "truncate":
            (newest / "shared.pt").write_bytes(content[:-1])
        case "delete":
            (newest / "shared.pt").unlink()
        case "no manifest":
            (newest / "manifest.json").unlink()
        case _:
            (newest / "manifest.json").write_text("")
    loaded: list[Path] = []
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda file, **options: loaded.append(Path(file)) or load(file, **options))
    warnings = Warnings()
    assert _newest_step(tmp_path, warnings) == 5
    assert loaded == [tmp_path / "step-0000000005" / "shared.pt"]
    assert len(warnings) == 1
    assert "step-0000000010 is damaged" in warnings[0]


def test_another_config_is_refused(tmp_path: Path) -> None:
    _save(tmp_path, 5)
    with pytest.raises(CheckpointError, match="another config"):
        _store(tmp_path, identity="other").newest()


_KILLED_AT = {
    "the first byte": "torch.save = lambda state, file: (Path(file).write_bytes(b'half'), die())",
    "the manifest": "manifests.write_manifest = die",
    "the rename": "manifests.commit = die",
    "the clean-up": "checkpoints.shutil.rmtree = lambda *a, **k: die() if 'step-0000000005' in str(a[0]) else None",
}


@pytest.mark.parametrize("moment", _KILLED_AT)
def test_killed_at_any_moment_of_a_save_a_checkpoint_loads(tmp_path: Path, moment: str) -> None:
    _save(tmp_path, 5, 10)
    program = (
        "import os, signal, sys, torch\nfrom pathlib import Path\n"
        "from infra import checkpoints, manifests\nfrom infra.checkpoints import CheckpointStore\n"
        "from models.common.contract import LearnerState\nfrom models.common.loop import Progress\n"
        "def die(*a, **k):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "store = CheckpointStore(Path(sys.argv[1]), identity='this', keep=2, warn=print)\n"
        f"{_KILLED_AT[moment]}\n"
        "store.save(Progress(15), LearnerState(shared={'weights': torch.zeros(3)}))\n"
    )
    died = subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, check=False)
    assert died.returncode == -signal.SIGKILL
    assert _newest_step(tmp_path) == (15 if moment == "the clean-up" else 10)
    assert not list(tmp_path.glob(".*")), "leftovers are swept at the next start"


def test_killed_at_random_moments_of_saving_the_newest_commit_always_loads(tmp_path: Path) -> None:
    program = (
        "import sys, torch\nfrom pathlib import Path\nfrom infra.checkpoints import CheckpointStore\n"
        "from models.common.contract import LearnerState\nfrom models.common.loop import Progress\n"
        "store = CheckpointStore(Path(sys.argv[1]), identity='this', keep=2, warn=print)\n"
        "found = store.newest()\n"
        "step = found[0].step if found else 0\n"
        "print(step, flush=True)\n"
        "while True:\n"
        "    step += 1\n"
        "    store.save(Progress(step), LearnerState(shared={'weights': torch.full((300_000,), float(step))}))\n"
    )
    reached = 0
    for moment in (0.05, 0.13, 0.31):
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(moment)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        found = _store(tmp_path).newest()
        if found:
            assert found[0].step >= reached
            assert torch.all(found[1].shared["weights"] == float(found[0].step))
            reached = found[0].step
    assert reached > 0


@pytest.mark.parametrize(
    "fault", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("PytorchStreamWriter failed writing file")]
)
def test_a_full_disk_is_told_with_what_is_kept_and_saving_goes_on_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    store = _store(tmp_path)
    store.save(Progress(1), _state(1))

    def fails(_value: object, file: Path) -> None:
        file.write_bytes(b"half of it")
        raise fault

    with monkeypatch.context() as patch:
        patch.setattr("infra.checkpoints.torch.save", fails)
        patch.setattr("infra.checkpoints.shutil.disk_usage", lambda _: SimpleNamespace(free=0))
        with pytest.raises(CheckpointError, match=r"is full: .* step 2 .*\nkept: step-0000000001\nmake room"):
            store.save(Progress(2), _state(2))
    assert [each.name for each in tmp_path.glob(".*")] == [], "what was written of it takes no space"
    store.save(Progress(2), _state(2))
    assert [folder.name for folder in store.saved()] == ["step-0000000002", "step-0000000001"]


def test_another_fault_of_a_write_is_told_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    store = _store(tmp_path)
    monkeypatch.setattr("infra.checkpoints.torch.save", fails)
    with pytest.raises(OSError, match="Input/output error"):
        store.save(Progress(1), _state(1))
