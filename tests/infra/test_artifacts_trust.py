"""Nothing that was altered is taken for a version, and a place that does not answer is known within seconds."""

import hashlib
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from infra import artifacts, manifests
from models.common.errors import RegistryError
from tests.fixtures.registry import an_artifact, contents, published, publisher
from tests.fixtures.s3 import S3Server, free_port


def objects(home: Path) -> list[Path]:
    return [file for file in (home / "remote" / "files" / "md5").rglob("*") if file.is_file()]


def overwrite(file: Path, content: bytes) -> None:
    file.chmod(0o644)  # DVC writes objects read-only
    file.write_bytes(content)


def object_named(home: Path, content: bytes) -> Path:
    return next(file for file in objects(home) if file.read_bytes() == content)


def nothing_is_left(target: Path) -> bool:
    return not target.parent.exists() or not list(target.parent.glob(f"*{target.name}*"))


def refused(spec: str, target: Path) -> str:
    with pytest.raises(RegistryError) as error:
        artifacts.pull(spec, target)
    assert nothing_is_left(target)
    return str(error.value)


def replace_in_registry(home: Path, tmp_path: Path, name: str, change: Callable[[str], str]) -> None:
    """What someone with access to the registry can do: another commit under the same tag."""

    def git(*arguments: str) -> None:
        person = ["-c", "user.name=other", "-c", "user.email=other"]
        subprocess.run(["git", "-C", str(tmp_path / "other"), *person, *arguments], check=True, capture_output=True)

    (tmp_path / "other").mkdir()
    git("clone", str(home / "registry.git"), ".")
    file = tmp_path / "other" / name
    file.write_text(change(file.read_text()))
    git("commit", "-am", "other")
    git("tag", "-f", "-a", "-m", "other", "relay@v0.1.0")
    git("push", "-f", "origin", "HEAD", "relay@v0.1.0")


def test_an_altered_object_is_refused(home: Path, tmp_path: Path) -> None:
    folder = an_artifact(tmp_path / "run")
    published(folder)
    weights = (folder / "weights.safetensors").read_bytes()
    overwrite(object_named(home, weights), weights[:-1] + b"?")
    assert "was altered" in refused("relay", tmp_path / "pulled")


def test_an_altered_object_on_s3_is_refused(s3: S3Server, home: Path, tmp_path: Path) -> None:
    folder = an_artifact(tmp_path / "run")
    published(folder)
    digest = hashlib.md5((folder / "weights.safetensors").read_bytes()).hexdigest()  # noqa: S324 DVC's addresses
    prefix = os.environ["ORCHARD_REMOTE"].removeprefix(f"s3://{s3.bucket}/")
    key = f"{prefix}/files/md5/{digest[:2]}/{digest[2:]}"
    s3.client().put_object(Bucket=s3.bucket, Key=key, Body=b"altered")
    assert "was altered" in refused("relay", tmp_path / "pulled")
    s3.client().delete_object(Bucket=s3.bucket, Key=key)
    assert "has no object" in refused("relay", tmp_path / "pulled")


def test_a_damaged_object_is_mended_by_publishing_again(home: Path, tmp_path: Path) -> None:
    folder = an_artifact(tmp_path / "run")
    published(folder, "run-1")
    for file in objects(home):
        overwrite(file, b"cut off")
    published(folder, "run-2")
    assert contents(artifacts.pull("relay@v0.1.0").folder) == contents(folder)


@pytest.mark.parametrize("name", ["../escaped", "/orchard-escaped", "a/../../escaped", "..", "a\\..\\escaped"])
def test_a_list_of_files_that_leaves_the_folder_is_refused(name: str, home: Path, tmp_path: Path) -> None:
    folder = an_artifact(tmp_path / "run")
    published(folder)
    listing = next(file for file in objects(home) if file.suffix == ".dir")
    entries = json.loads(listing.read_text())
    entries[0]["relpath"] = name
    text = json.dumps(entries).encode()
    overwrite(listing, text)
    assert "was altered" in refused("relay", tmp_path / "deep" / "pulled")

    digest = hashlib.md5(text).hexdigest()  # noqa: S324 DVC's addresses; the forger makes the registry agree
    forged = home / "remote" / "files" / "md5" / digest[:2] / f"{digest[2:]}.dir"
    forged.parent.mkdir(exist_ok=True)
    forged.write_bytes(text)
    old = listing.parent.name + listing.stem
    replace_in_registry(home, tmp_path, "relay.dvc", lambda file: file.replace(old, digest))
    before = set(tmp_path.rglob("*"))
    assert "lies outside of the folder" in refused("relay", tmp_path / "deep" / "pulled")
    assert not {path for path in tmp_path.rglob("*") if "escaped" in path.name} - before
    assert not Path("/orchard-escaped").exists()


def test_a_forged_manifest_is_refused(home: Path, tmp_path: Path) -> None:
    """The forger publishes bytes that agree with each other, and puts their list in the place of the version's."""
    published(an_artifact(tmp_path / "run", 1), "run-1")
    published(an_artifact(tmp_path / "forged", 2), "run-2", name="forged")
    forged = _directory(home, "forged")
    replace_in_registry(home, tmp_path, "relay.dvc", lambda file: file.replace(_directory(home, "relay"), forged))
    assert "has another manifest than was registered" in refused("relay", tmp_path / "pulled")


def _directory(home: Path, name: str) -> str:
    shown = ["git", "--git-dir", str(home / "registry.git"), "show", f"{name}@v0.1.0:{name}.dvc"]
    text = subprocess.run(shown, capture_output=True, text=True, check=True).stdout
    return text.split("md5: ")[1].split()[0]


def test_verify_says_what_is_wrong(tmp_path: Path) -> None:
    folder = an_artifact(tmp_path / "run")
    found = artifacts.verify(folder)
    assert found["about"] == {"workload": "relay"}
    assert found["sha256"] == manifests.fingerprint(folder)
    (folder / "extra").touch()
    with pytest.raises(RegistryError, match="does not name: extra"):
        artifacts.verify(folder)


def test_a_target_that_holds_something_else_is_left_alone(home: Path, tmp_path: Path) -> None:
    published(an_artifact(tmp_path / "run", 1))
    other = an_artifact(tmp_path / "other", 2)
    before = contents(other)
    for target in (other, other / "lineage.json"):
        with pytest.raises(RegistryError, match=r"not relay@v0\.1\.0"):
            artifacts.pull("relay", target)
    assert contents(other) == before
    (tmp_path / "empty").mkdir()
    artifacts.pull("relay", tmp_path / "empty")


def test_what_does_not_exist_is_answered_with_what_does(home: Path, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="no artifact 'relay'"):
        artifacts.pull("relay")
    published(an_artifact(tmp_path / "run"))
    for spec, hint in {
        "relya": "did you mean 'relay'",
        "relay@v0.2.0": r"did you mean 'v0\.1\.0'",
        "relay#champion": "orchard promote relay@VERSION",
        "relay@": "names no version",
        "../relay": "cannot name an artifact",
    }.items():
        with pytest.raises(RegistryError, match=hint):
            artifacts.pull(spec, tmp_path / "pulled")
    with pytest.raises(RegistryError, match="no version of relay"):
        artifacts.promote("relay", "v9.0.0")


def test_another_remote_than_the_registrys_is_refused(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(an_artifact(tmp_path / "run", 1), "run-1")
    monkeypatch.setenv("ORCHARD_REMOTE", str(tmp_path / "elsewhere"))
    with pytest.raises(RegistryError, match="keeps its bytes in"):
        published(an_artifact(tmp_path / "next", 2), "run-2")
    with pytest.raises(RegistryError, match="keeps its bytes in"):
        artifacts.require_access()


def test_access_to_the_default_places_is_quick(home: Path) -> None:
    begin = time.monotonic()
    artifacts.require_access()
    assert [works for _, works, _ in artifacts.check_access()] == [True, True]
    assert time.monotonic() - begin < 5  # far less on a machine with nothing else to do


def test_a_registry_that_is_no_git_repository_is_refused(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "paper.txt").touch()
    monkeypatch.setenv("ORCHARD_REGISTRY", str(tmp_path / "papers"))
    for use in (artifacts.require_access, artifacts.versions, lambda: published(an_artifact(tmp_path / "run"))):
        with pytest.raises(RegistryError, match="no bare git repository"):
            use()
    assert [file.name for file in (tmp_path / "papers").iterdir()] == ["paper.txt"]


def test_a_wrong_s3_key_is_one_clear_error(
    s3: S3Server, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(RegistryError, match=r"SignatureDoesNotMatch|AccessDenied"):
        published(an_artifact(tmp_path / "run"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(RegistryError, match="there are no credentials"):
        artifacts.require_access()


def test_a_bucket_that_does_not_exist_is_one_clear_error(
    s3: S3Server, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHARD_REMOTE", "s3://no-such-bucket/x")
    with pytest.raises(RegistryError, match="NoSuchBucket"):
        artifacts.require_access()


def test_an_s3_server_that_does_not_run_is_one_clear_error(
    s3: S3Server, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(an_artifact(tmp_path / "run"))
    monkeypatch.setenv("ORCHARD_S3_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    begin = time.monotonic()
    with pytest.raises(RegistryError, match="ORCHARD_S3_ENDPOINT"):
        artifacts.pull("relay")
    with pytest.raises(RegistryError, match="ORCHARD_S3_ENDPOINT"):
        published(an_artifact(tmp_path / "next", 2), "run-2")
    assert time.monotonic() - begin < 30


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_servers_that_never_answer_are_given_up(
    silent: int, s3: S3Server, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHARD_S3_ENDPOINT", f"http://127.0.0.1:{silent}")
    monkeypatch.setenv("ORCHARD_REGISTRY", f"git://127.0.0.1:{silent}/registry.git")
    begin = time.monotonic()
    checks = artifacts.check_access()
    assert [works for _, works, _ in checks] == [False, False]
    assert time.monotonic() - begin < 15
    with pytest.raises(RegistryError, match="no answer within"):
        artifacts.versions()


def test_a_server_that_wants_a_password_is_one_clear_error(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class WantsPassword(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="registry"')
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), WantsPassword)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        monkeypatch.setenv("ORCHARD_REGISTRY", f"http://user:secret@127.0.0.1:{server.server_port}/registry.git")
        with pytest.raises(RegistryError) as error:
            artifacts.require_access()
    finally:
        server.shutdown()
        server.server_close()
    assert "orchard doctor" in str(error.value)
    assert "secret" not in str(error.value)


@pytest.fixture
def git_server(tmp_path: Path) -> Iterator[str]:
    """The address of an empty registry that is reached over a network."""
    folder = tmp_path / "served"
    subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", str(folder / "registry.git")], check=True)
    port = free_port()
    options = ["--reuseaddr", "--export-all", "--enable=receive-pack", "--listen=127.0.0.1", f"--port={port}"]
    server = subprocess.Popen(["git", "daemon", *options, f"--base-path={folder}", str(folder)], start_new_session=True)
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    yield f"git://127.0.0.1:{port}/registry.git"
    os.killpg(server.pid, 15)
    server.wait(20)


def test_publishers_on_several_machines_all_succeed(
    git_server: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has an ORCHARD_HOME of its own, so that no lock is between them: they meet at the push."""
    monkeypatch.setenv("ORCHARD_REGISTRY", git_server)
    monkeypatch.setenv("ORCHARD_REMOTE", str(tmp_path / "shared"))
    artifacts.require_access()
    folders = [an_artifact(tmp_path / f"run-{number}", number) for number in range(4)]
    children = [publisher(folder, folder.name, home=tmp_path / f"home-{folder.name}") for folder in folders]
    for child in children:
        said, _ = child.communicate(timeout=120)
        assert child.returncode == 0, said
    assert sorted(version.version for version in artifacts.versions()) == [f"v0.{minor}.0" for minor in range(1, 5)]
    artifacts.promote("relay", "v0.2.0")
    for version in artifacts.versions():
        assert contents(artifacts.pull(f"relay@{version.version}").folder) == contents(tmp_path / version.run_key)
    assert artifacts.pull("relay#champion").version == "v0.2.0"
