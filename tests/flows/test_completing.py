"""What the shell offers on Tab: asked as the shell asks, and in a real bash."""

import os
import pty
import resource
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infra.runs import RunFolder
from tests.fixtures.commands import ROOT

HEAVY = {"prefect", "torch", "ray", "deepspeed", "dvc", "boto3", "matplotlib", "gto", "sqlalchemy"}
_CODE = f"""
import atexit, sys
atexit.register(lambda: print(*({HEAVY} & set(sys.modules)), file=sys.stderr))
sys.argv[0] = "orchard"
from flows.cli import main
main()
"""


def offered(*words: str) -> list[str]:
    """The candidates for the last word, which is under way; what is loaded for them is not heavy."""
    environment = {
        **os.environ,
        "_ORCHARD_COMPLETE": "complete_bash",
        "COMP_WORDS": "\n".join(("orchard", *words)),
        "COMP_CWORD": str(len(words)),
    }
    done = subprocess.run(
        [sys.executable, "-c", _CODE], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.split() == []
    return done.stdout.split()


@pytest.fixture
def registry(home: Path) -> Path:
    """A registry with three versions, of which one was taken back, and a champion."""
    folder = home / "registry.git"
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "--quiet", "--bare", str(folder)], check=True)
    tree = subprocess.run([*git, "mktree"], check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    made = subprocess.run(
        [*git, "commit-tree", "-m", "x", tree.stdout.strip()], check=True, capture_output=True, text=True
    )
    for label in ("relay@v0.1.0", "relay@v0.2.0", "relay@v0.3.0", "relay@v0.3.0!", "relay#champion#1", "nqs@v0.1.0"):
        subprocess.run([*git, "tag", "-a", "-m", "x", label, made.stdout.strip()], check=True)
    return folder


def test_what_fits_is_offered_without_loading_anything_heavy(registry: Path) -> None:
    RunFolder("relay-tiny-0-first").folder.mkdir(parents=True)
    assert {"relay", "rto", "nqs", "busgen"} <= set(offered("run", ""))
    assert "laptop_increasing" in offered("run", "relay", "--preset", "lap")
    assert offered("run", "--preset", "t") == ["tiny"]
    assert offered("run", "relay", "--cluster", "node") == ["node-8"]
    assert [each.partition("=")[0] for each in offered("run", "relay", "--set", "teacher.max_")] == [
        "teacher.max_steps"
    ]
    assert offered("logs", "relay-t") == offered("run", "relay", "--run-name", "") == ["relay-tiny-0-first"]
    assert set(offered("pull", "rel")) == {"relay", "relay#champion", "relay@v0.1.0", "relay@v0.2.0"}
    assert set(offered("promote", "")) == {"relay@v0.1.0", "relay@v0.2.0", "nqs@v0.1.0"}
    assert offered("rollback", "") == ["nqs", "relay"]


def test_it_takes_a_fraction_of_a_second_of_the_processor() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    offered("run", "relay", "--preset", "")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime < 1.0


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_bash_completes_a_version_though_it_breaks_words_at_its_sign(registry: Path, tmp_path: Path) -> None:
    commands = tmp_path / "bin"
    commands.mkdir()
    code = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom flows.cli import main\nmain()\n"
    (commands / "orchard").write_text(f"#!{sys.executable}\n{code}")
    (commands / "orchard").chmod(0o755)
    shown = subprocess.run(
        [commands / "orchard", "--show-completion", "bash"],
        env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
    )
    (tmp_path / "completion.sh").write_text(shown.stdout)
    with Bash({**os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "TERM": "dumb", "PS1": "$ "}) as bash:
        bash.type(f". {tmp_path}/completion.sh\n")
        assert bash.type("orchard pull nqs@\t", "v0.1.0 ") == "orchard pull nqs@v0.1.0 "
        assert bash.type("\x15orchard pull relay@v0.2\t", ".0 ").endswith("orchard pull relay@v0.2.0 ")
        assert bash.type("\x15orchard run relay --set teacher.batch_s\t", "=").partition("=")[0].endswith(".batch_size")


class Bash:
    """A bash on a terminal of its own."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], environment)  # noqa: S606 as a person starts it

    def __enter__(self) -> "Bash":
        self._read("$ ")
        return self

    def __exit__(self, *_: object) -> None:
        os.write(self.terminal, b"\x15exit\n")
        os.close(self.terminal)
        os.waitpid(self.pid, 0)

    def type(self, keys: str, until: str = "$ ") -> str:
        """What the terminal shows from these keys on, up to the text that is waited for."""
        os.write(self.terminal, keys.encode())
        return self._read(until)

    def _read(self, until: str, seconds: float = 60) -> str:
        shown, end = "", time.monotonic() + seconds
        while until not in shown:
            assert time.monotonic() < end, f"waited for {until!r}, saw {shown!r}"
            if select.select([self.terminal], [], [], 0.2)[0]:
                shown += os.read(self.terminal, 65536).decode(errors="replace").replace("\x07", "")
        return shown
