"""Objects of the store, against a real S3 server, another client of it, and a server that does not keep its word."""

import hashlib
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra import objects
from infra.drill.s3_proxy import Fault, S3Proxy
from infra.manifests import ManifestError
from infra.objects import PART_BYTES, Found, Objects
from models.common.errors import ConfigError, StorageError
from tests.fixtures.s3 import S3Server, free_port
from tests.fixtures.s3_door import Behind

SMALL = random.Random(1).randbytes(100_000)
LARGE = random.Random(2).randbytes(2 * PART_BYTES + 12_345)  # in three parts


def _written(data: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def _file(folder: Path, data: bytes) -> Path:
    file = folder / "file"
    file.write_bytes(data)
    return file


def test_what_is_put_is_what_another_client_reads(store: Objects, behind: Behind, tmp_path: Path) -> None:
    store.put("a/small", SMALL)
    store.put("a/empty", b"")
    store.put_file("b/file", _file(tmp_path, SMALL))
    store.put_file("b/large", _file(tmp_path, LARGE))
    assert behind.read("a/small") == SMALL
    assert behind.read("a/empty") == b""
    assert behind.read("b/file") == SMALL
    assert behind.read("b/large") == LARGE
    assert list(store.found("a/")) == [Found("a/empty", 0), Found("a/small", len(SMALL))]
    store.remove(["a/small", "a/never-was"])
    assert behind.keys() == ["a/empty", "b/file", "b/large"]


def test_what_another_client_put_is_read(store: Objects, behind: Behind, tmp_path: Path) -> None:
    behind.write("large", LARGE)
    assert store.get("large") == LARGE
    assert store.get("large", start=len(LARGE) - 3) == LARGE[-3:]
    store.get_file("large", tmp_path / "large", _written(LARGE))
    assert (tmp_path / "large").read_bytes() == LARGE
    assert store.get("none") is None
    assert not store.has("none")
    with pytest.raises(ManifestError, match="may have 1000"):
        store.get("large", most=1000)


def test_a_listing_and_a_removal_in_many_requests_are_whole(
    store: Objects, behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [f"many/{number}" for number in range(7)]
    for key in keys:
        behind.write(key, b"1")
    few = {"MaxKeys": 2}
    store._client.meta.events.register("provide-client-params.s3.ListObjectsV2", lambda params, **_: params | few)
    assert [each.key for each in store.found("many/")] == keys
    monkeypatch.setattr(objects, "_MOST_REMOVED", 2)
    store.remove(keys)
    assert behind.keys() == []


def test_an_object_that_the_store_does_not_let_go_is_told(store: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 answers with success then, and says so in the answer."""
    kept = {"Errors": [{"Key": "key", "Code": "AccessDenied", "Message": "Access Denied"}]}
    monkeypatch.setattr(store._client, "delete_objects", lambda **asked: kept)
    with pytest.raises(ConfigError, match=r"cannot remove key in .*AccessDenied"):
        store.remove(["key"])


def _refusals(store: Objects, file: Path) -> dict[str, Callable[[], object]]:
    return {
        "get": lambda: store.get("key"),
        "put": lambda: store.put("key", b"1"),
        "put a file": lambda: store.put_file("key", file),
        "put a large file": lambda: store.put_file("key", _file(file.parent, LARGE)),
        "get a file": lambda: store.get_file("key", file.parent / "new", _written(SMALL)),
        "list": lambda: list(store.found("")),
        "remove": lambda: store.remove(["key"]),
    }


OPERATIONS = list(_refusals(Objects("s3://bucket", None), Path()))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_wrong_keys_are_refused_at_once_with_what_to_do(
    store: Objects, door: S3Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(ConfigError, match=r"AWS_SECRET_ACCESS_KEY.*ORCHARD_STORAGE"):
        _refusals(store, _file(tmp_path, SMALL))[operation]()
    assert sum(door.counts().requests.values()) <= 4, "nobody asks a refused question over and over"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_keys_that_expire_are_refused(store: Objects, door: S3Proxy, tmp_path: Path, operation: str) -> None:
    door.set(Fault("error", status=403))
    with pytest.raises(ConfigError, match="credentials that may use it"):
        _refusals(store, _file(tmp_path, SMALL))[operation]()


def test_no_bucket_and_no_keys_are_refused(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = Objects("s3://no-such-bucket/prefix", s3.endpoint)
    for ask in (lambda: elsewhere.get("key"), lambda: elsewhere.put_file("key", _file(tmp_path, SMALL))):
        with pytest.raises(ConfigError, match="NoSuchBucket"):
            ask()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(ConfigError, match="set AWS_ACCESS_KEY_ID"):
        Objects(f"s3://{s3.bucket}", s3.endpoint).get("key")


@pytest.mark.parametrize(
    "url", ["", "bucket", "s3:/bucket", "s3://", "s3://Bucket/x", "s3://b/x", "s3://bucket/a//b", "s3://bucket/../x",
            "s3://bucket/a?b", "https://bucket/x", "s3://bucket/a b", "s3://bucket/x\n"],
)  # fmt: skip
def test_a_place_of_another_form_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="ORCHARD_STORAGE"):
        Objects(url, None)


@pytest.mark.parametrize(
    ("fault", "operation"),
    [("hang", "put a file"), *((fault, operation) for fault in ("error", "reset") for operation in OPERATIONS)],
)
def test_a_store_that_does_not_answer_is_told_within_seconds(
    store: Objects, door: S3Proxy, tmp_path: Path, fault: Any, operation: str
) -> None:
    door.set(Fault(fault))
    began = time.monotonic()
    with pytest.raises(StorageError):
        _refusals(store, _file(tmp_path, SMALL))[operation]()
    assert time.monotonic() - began < 10


def test_where_nobody_listens_that_is_told_soon(s3: S3Server) -> None:
    began = time.monotonic()
    with pytest.raises(StorageError, match="ORCHARD_S3_ENDPOINT"):
        Objects(f"s3://{s3.bucket}", f"http://127.0.0.1:{free_port()}").get("key")
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["at once", "in parts"])
def test_a_server_that_takes_an_object_and_keeps_nothing_is_found_out(
    store: Objects, door: S3Proxy, behind: Behind, tmp_path: Path, data: bytes
) -> None:
    door.set(Fault("lose"))
    with pytest.raises(StorageError, match="has nothing"):
        store.put_file("key", _file(tmp_path, data))
    assert behind.keys() == []


def test_a_lost_small_object_is_found_out_and_one_that_was_there_before(
    store: Objects, door: S3Proxy, behind: Behind
) -> None:
    behind.write("key", b"old")
    door.set(Fault("lose"))
    for key, told in (("key", "3 bytes, not those sent"), ("new", "has nothing")):
        with pytest.raises(StorageError, match=told):
            store.put(key, b"new")


@pytest.mark.parametrize("kept", [SMALL[:-1], SMALL[:500] + b"x" + SMALL[501:]], ids=["fewer", "others"])
def test_a_server_that_keeps_other_bytes_is_found_out(
    store: Objects, behind: Behind, tmp_path: Path, kept: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = store._client
    look = client.head_object

    def after_the_damage(**place: str) -> Any:
        behind.write("key", kept)
        return look(**place)

    monkeypatch.setattr(client, "head_object", after_the_damage)
    with pytest.raises(StorageError, match="not those sent"):
        store.put_file("key", _file(tmp_path, SMALL))


def test_a_download_that_ends_early_is_noticed_and_leaves_no_file(
    store: Objects, door: S3Proxy, behind: Behind, tmp_path: Path
) -> None:
    behind.write("key", SMALL)
    door.set(Fault("truncate"))
    with pytest.raises(StorageError):
        store.get("key")
    with pytest.raises(StorageError):
        store.get_file("key", tmp_path / "new", _written(SMALL))
    assert not (tmp_path / "new").exists()
    door.set(Fault())
    store.get_file("key", tmp_path / "new", _written(SMALL))
    assert (tmp_path / "new").read_bytes() == SMALL


def test_an_object_that_is_another_one_is_refused(
    store: Objects, door: S3Proxy, behind: Behind, tmp_path: Path
) -> None:
    behind.write("flipped", SMALL[:-1] + bytes([SMALL[-1] ^ 1]))
    behind.write("larger", LARGE)
    with pytest.raises(ManifestError, match="SHA-256"):
        store.get_file("flipped", tmp_path / "flipped", _written(SMALL))
    down = door.counts().bytes_down
    with pytest.raises(ManifestError, match="its manifest says 100000"):
        store.get_file("larger", tmp_path / "larger", _written(SMALL))
    with pytest.raises(ManifestError, match="is missing"):
        store.get_file("none", tmp_path / "none", _written(SMALL))
    assert door.counts().bytes_down - down < 10_000, "none of it was downloaded"


def test_a_full_disk_is_no_silence_of_the_store(store: Objects, behind: Behind, tmp_path: Path) -> None:
    """Who waited for the store would wait for ever."""
    behind.write("key", SMALL)
    with pytest.raises(FileNotFoundError):
        store.get_file("key", tmp_path / "no-such-folder" / "new", _written(SMALL))
    with pytest.raises(FileNotFoundError):
        store.put_file("key", tmp_path / "gone")
    full = tmp_path / "full"
    full.symlink_to("/dev/full")
    file = _FullFile(full)
    with pytest.raises(OSError, match="No space left on device") as told:
        store.get_file("key", file, _written(SMALL))
    assert not isinstance(told.value, StorageError)


class _FullFile(type(Path())):
    """A file of a disk that has no room."""

    def open(self, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        return super().open(mode.replace("x", "w"), *arguments, **options)


def test_parts_of_an_upload_that_never_ended_are_dropped(store: Objects, behind: Behind) -> None:
    for key in ("mine/left", "others/left"):
        place = {"Bucket": behind.bucket, "Key": f"{behind.prefix}/{key}"}
        begun = behind.client.create_multipart_upload(**place)
        behind.client.upload_part(**place, UploadId=begun["UploadId"], PartNumber=1, Body=SMALL)
    store.drop_unfinished("mine/")
    assert [each["Key"] for each in behind.unfinished()] == [f"{behind.prefix}/others/left"]
