"""The command line: bad input gets one clear error and starts nothing; help teaches."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from flows.commands.changes import parse_changes
from models.common.errors import ConfigError
from tests.fixtures.commands import orchard
from tests.fixtures.services import RayService

TINY = ("run", "relay", "--preset", "tiny")

REFUSED = {
    "workload": (("run", "rely"), r"there is no workload 'rely'; did you mean 'relay'?"),
    "preset": (("run", "relay", "--preset", "tny"), "there is no preset 'tny' in relay; did you mean 'tiny'?"),
    "cluster": ((*TINY, "--cluster", "laptp"), "there is no cluster 'laptp'; did you mean 'laptop'?"),
    "field": ((*TINY, "--set", "teacher.max_stepz=3"), "did you mean 'teacher.max_steps'?"),
    "type": ((*TINY, "--set", "teacher.max_steps=many"), "teacher.max_steps: found 'many'"),
    "bounds": ((*TINY, "--set", "teacher.optimizer.learning_rate=-1"), "learning_rate: found -1"),
    "no value": ((*TINY, "--set", "teacher.max_steps"), "STAGE.FIELD=VALUE"),
    "batch": ((*TINY, "--set", "teacher.batch_size=15"), "--set teacher.batch_size=16"),
    "GPUs": ((*TINY, "--cluster", "one-gpu"), "Ray has"),
    "key": ((*TINY, "--run-key", "../up"), "is no run key"),
    "version": (("pull", "relay@v9.9.9"), "there is no artifact 'relay'"),
    "artifact": (("pull", "rely"), "rely"),
    "no such folder": (("verify", "no/such/folder"), "no/such/folder"),
    "no version": (("promote", "relay"), "NAME@VERSION"),
    "run to read": (("logs", "no-such-run"), "there is no run 'no-such-run'"),
    "run to cancel": (("cancel", "no-such-run"), "orchard status"),
    "run to resume": (("resume", "no-such-run"), "there is no run 'no-such-run'"),
    "nothing to go back to": (("rollback", "relay"), "there is no artifact 'relay'"),
    "nobody to tell": (("data", "changed", "relay"), "orchard up"),
    "nothing that changed": (("data", "changed", "rely"), "did you mean 'relay'?"),
    "data workload": (("data", "prepare", "rely"), "did you mean 'relay'?"),
    "usage": (("run",), "Missing argument"),
    "seed": ((*TINY, "--seed", "-1"), "than or equal to 0"),
    "large seed": ((*TINY, "--seed", str(2**31)), "less than or equal to 2147483647"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_with_what_fits(case: str, home: Path) -> None:
    arguments, told = REFUSED[case]
    done = orchard(*arguments, seconds=60)
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not (home / "ray").exists(), "no Ray was started"
    assert not (home / "runs").exists(), "no run was begun"


def test_debug_shows_the_traceback() -> None:
    assert "Traceback" in orchard("run", "rely", "--debug").stderr


ADDRESSES = {
    "ray": ({"RAY_ADDRESS": "http://127.0.0.1:1"}, "ClusterError"),
    "prefect": ({"PREFECT_API_URL": "http://127.0.0.1:1/api"}, "ClusterError"),
    "registry": ({"ORCHARD_REGISTRY": "ssh://git@127.0.0.1:1/registry.git"}, "RegistryError"),
    "s3": (
        {
            "ORCHARD_REMOTE": "s3://bucket/here",
            "ORCHARD_S3_ENDPOINT": "http://127.0.0.1:1",
            "AWS_ACCESS_KEY_ID": "k",
            "AWS_SECRET_ACCESS_KEY": "s",
        },
        "RegistryError",
    ),
}


@pytest.mark.parametrize("case", ADDRESSES)
def test_an_address_that_cannot_be_reached_is_refused(case: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment, kind = ADDRESSES[case]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    began = time.monotonic()
    done = orchard(*TINY, seconds=90)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(kind)
    assert "Traceback" not in done.stderr
    assert time.monotonic() - began < 60
    assert not (home / "ray").exists()
    doctor = orchard("doctor", seconds=90)
    assert doctor.returncode == 1
    assert "FAIL" in doctor.stdout


def test_a_ray_that_refuses_our_token_is_told(ray: RayService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = tmp_path / "token"
    wrong.write_text("0" * 64)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(wrong))
    done = orchard(*TINY, seconds=90)
    assert done.returncode == 2, done.stderr
    assert "refuses our token" in done.stderr


def test_a_home_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ORCHARD_HOME", str(tmp_path / "file" / "home"))
    done = orchard(*TINY, seconds=60)
    assert done.returncode == 2, done.stderr
    assert "ORCHARD_HOME" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk takes root")
def test_a_full_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", small], capture_output=True).returncode:
        pytest.skip("this machine mounts nothing")
    try:
        monkeypatch.setenv("ORCHARD_HOME", str(small))
        done = orchard(*TINY, seconds=60)
        (small / "filler").write_bytes(b"\0" * (900 * 1024))
        assert done.returncode == 2, done.stderr
        assert "GiB free" in done.stderr
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_dataset_folder_that_changed_is_refused_and_kept(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    assert orchard("data", "prepare", "relay", "--preset", "tiny", "--out", str(out)).returncode == 0
    again = orchard("data", "prepare", "relay", "--preset", "tiny", "--out", str(out))
    assert again.returncode == 0, "a whole folder is verified and kept"
    victim = next(out.glob("*.npy"))
    victim.write_bytes(b"other")
    done = orchard("data", "prepare", "relay", "--preset", "tiny", "--out", str(out))
    assert done.returncode == 2
    assert "its manifest says" in done.stderr
    assert victim.read_bytes() == b"other"


def test_values_are_json_or_else_text() -> None:
    changes = ["a.b=5", "c=1e-3", "d=[1, 2]", "e=true", "f=all", "g=null", "h=x=y"]
    assert parse_changes(changes) == {
        "a.b": 5, "c": 1e-3, "d": [1, 2], "e": True, "f": "all", "g": None, "h": "x=y",
    }  # fmt: skip
    with pytest.raises(ConfigError, match="has no value"):
        parse_changes(["=5"])


def test_an_empty_registry_says_what_to_do_next(home: Path) -> None:
    done = orchard("list")
    assert done.returncode == 0, done.stderr
    assert "orchard run" in done.stdout
    assert json.loads("[" + ",".join(orchard("list", "--json").stdout.splitlines()) + "]") == []


def test_status_of_a_machine_where_nothing_ran_says_what_to_do_next(home: Path) -> None:
    done = orchard("status")
    assert done.returncode == 0, done.stderr
    for advice in ("orchard up", "orchard run relay", "orchard promote"):
        assert advice in done.stdout
    told = json.loads(orchard("status", "--json").stdout)
    assert [told[part] for part in ("under_way", "queue", "scheduled", "holders", "problems")] == [[]] * 5


def test_doctor_is_content_with_this_machine() -> None:
    done = orchard("doctor")
    assert done.returncode == 0, done.stdout
    for name in ("torch", "ray", "disk", "registry", "remote", "auth on"):
        assert name in done.stdout
    assert "the lock has" not in done.stdout, "what is installed is what the lock names"


@pytest.mark.parametrize(
    "command",
    [
        (),
        *((name,) for name in ("run", "logs", "cancel", "resume", "pull", "list", "promote", "rollback", "status")),
        ("data", "prepare"),
        ("data", "changed"),
    ],
)
def test_help_teaches_by_example(command: tuple[str, ...]) -> None:
    done = orchard(*command, "--help")
    assert done.returncode == 0
    assert "orchard " + " ".join(command) in done.stdout
