"""A folder is whole or not there, and every changed byte is noticed."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from infra import manifests
from infra.manifests import ManifestError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with manifests.committed(tmp_path / "whole", {"seed": 1}) as draft:
        (draft / "weights.bin").write_bytes(bytes(range(256)) * 40)
        (draft / "sub").mkdir()
        (draft / "sub" / "notes.txt").write_text("notes")
    return tmp_path / "whole"


def test_a_manifest_holds_the_hash_of_every_file(folder: Path) -> None:
    manifest = manifests.verify(folder)
    assert manifest["about"] == {"seed": 1}
    assert set(manifest["files"]) == {"weights.bin", "sub/notes.txt"}
    assert manifest["files"]["sub/notes.txt"]["sha256"] == hashlib.sha256(b"notes").hexdigest()


def test_equal_folders_have_equal_fingerprints(folder: Path, tmp_path: Path) -> None:
    with manifests.committed(tmp_path / "again", {"seed": 1}) as draft:
        (draft / "sub").mkdir()
        (draft / "sub" / "notes.txt").write_text("notes")
        (draft / "weights.bin").write_bytes(bytes(range(256)) * 40)
    assert manifests.fingerprint(folder) == manifests.fingerprint(tmp_path / "again")


@pytest.mark.parametrize("position", [0, 5000, 10239])
def test_a_flipped_bit_is_noticed(folder: Path, position: int) -> None:
    content = bytearray((folder / "weights.bin").read_bytes())
    content[position] ^= 1
    (folder / "weights.bin").write_bytes(content)
    with pytest.raises(ManifestError, match="SHA-256"):
        manifests.verify(folder)


def test_a_missing_byte_is_noticed(folder: Path) -> None:
    content = (folder / "weights.bin").read_bytes()
    (folder / "weights.bin").write_bytes(content[:-1])
    with pytest.raises(ManifestError, match="10239 bytes"):
        manifests.verify(folder)


def test_a_missing_file_is_noticed(folder: Path) -> None:
    (folder / "sub" / "notes.txt").unlink()
    with pytest.raises(ManifestError, match="missing"):
        manifests.verify(folder)


def test_a_file_too_many_is_noticed(folder: Path) -> None:
    (folder / "extra").write_text("")
    with pytest.raises(ManifestError, match="does not name: extra"):
        manifests.verify(folder)


def test_a_link_in_place_of_a_file_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("notes")
    (folder / "sub" / "notes.txt").unlink()
    (folder / "sub" / "notes.txt").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ManifestError, match="missing"):
        manifests.verify(folder)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../b", "", "a\\b"])
def test_a_path_out_of_the_folder_is_refused(folder: Path, name: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"sha256": "0" * 64, "bytes": 0}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ManifestError, match="outside"):
        manifests.verify(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"files": 3}'])
def test_what_is_no_manifest_is_refused(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    with pytest.raises(ManifestError):
        manifests.verify(folder)


def test_a_block_that_raises_leaves_the_folder_as_it_was(folder: Path) -> None:
    before = manifests.fingerprint(folder)

    def write_half() -> None:
        with manifests.committed(folder) as draft:
            (draft / "half").write_text("half")
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        write_half()
    assert manifests.fingerprint(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["whole"]


def test_a_process_killed_while_it_writes_leaves_the_folder_as_it_was(folder: Path) -> None:
    before = manifests.fingerprint(folder)
    program = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom infra import manifests\n"
        "with manifests.committed(Path(sys.argv[1])) as draft:\n"
        "    (draft / 'half').write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    died = subprocess.run([sys.executable, "-c", program, str(folder)], cwd=os.getcwd(), check=False)
    assert died.returncode == -signal.SIGKILL
    assert manifests.fingerprint(folder) == before
    manifests.verify(folder)
