"""The code that goes to other machines: all that is needed and nothing else, named by its content."""

import subprocess
import sys
from pathlib import Path

import pytest

from infra import shipping
from infra.settings import ROOT


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small checkout, with what no other machine should see."""
    root = tmp_path / "checkout"
    for name, text in {
        ".gitignore": "/.orchard/\n.env\n__pycache__/\n*.partial\n/data/*/\n",
        "infra/job.py": "JOB = 1\n",
        "infra/__pycache__/job.pyc": "compiled",
        "infra/.env": "SECRET=1",
        "infra/half.partial": "half",
        "models/common/loop.py": "LOOP = 1\n",
        "flows/relay.py": "FLOW = 1\n",
        ".env": "SECRET=2",
        "data/relay/problems.npy": "numbers",
        ".orchard/ray/token": "SECRET=3",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"]):
        subprocess.run(["git", "-C", str(root), *command], check=True)
    monkeypatch.setattr(shipping, "ROOT", root)
    return root


def _shipped() -> list[str]:
    folder = shipping.code_folder()
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_code_is_shipped_and_nothing_that_git_ignores(checkout: Path, home: Path) -> None:
    assert _shipped() == ["infra/job.py", "models/common/loop.py"]
    for file in home.rglob("*"):
        assert not file.is_file() or b"SECRET" not in file.read_bytes()


def test_without_a_checkout_nothing_hidden_is_shipped(checkout: Path) -> None:
    """As in an image, whose code has no history."""
    (checkout / ".git").rename(checkout / "no git")
    (checkout / "infra" / "half.partial").unlink()
    assert _shipped() == ["infra/job.py", "models/common/loop.py"]


def test_a_change_of_content_is_another_folder_and_none_is_the_same(checkout: Path) -> None:
    first = shipping.code_folder()
    assert shipping.code_folder() == first
    (checkout / "flows" / "relay.py").write_text("FLOW = 2\n")
    (checkout / "infra" / "job.py").touch()
    assert shipping.code_folder() == first
    (checkout / "infra" / "job.py").write_text("JOB = 2\n")
    second = shipping.code_folder()
    assert second != first
    assert (first / "infra" / "job.py").read_text() == "JOB = 1\n"
    assert (second / "infra" / "job.py").read_text() == "JOB = 2\n"
    (checkout / "infra" / "job.py").rename(checkout / "infra" / "work.py")
    assert shipping.code_folder() not in (first, second)
    assert _shipped() == ["infra/work.py", "models/common/loop.py"]
    assert not any(path.is_dir() for path in first.parent.glob(".*")), "no draft is left"


def test_a_module_that_is_not_committed_yet_is_shipped(checkout: Path) -> None:
    (checkout / "models" / "new.py").write_text("NEW = 1\n")
    assert "models/new.py" in _shipped()


def test_a_link_that_leads_out_of_the_checkout_is_not_followed(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text("SECRET=4")
    (checkout / "infra" / "credentials.py").symlink_to(tmp_path / "credentials")
    assert _shipped() == ["infra/job.py", "models/common/loop.py"]


def test_a_job_finds_all_that_it_imports_in_what_is_shipped() -> None:
    code = "import infra.job, infra.worker, sys; print(infra.job.__file__)"
    folder = shipping.code_folder()
    done = subprocess.run([sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, '{folder}'); {code}"],
                          cwd=folder, env={"PATH": ""}, capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == str(folder / "infra" / "job.py")
    assert (folder / "infra" / "job.py").read_bytes() == (ROOT / "infra" / "job.py").read_bytes()
