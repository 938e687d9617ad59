"""The door in front of an S3 server, as boto3 meets it: the server behind it is a real one."""

import io
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from botocore import exceptions
from botocore.config import Config

from infra.drill.s3_proxy import Fault, S3Proxy
from models.common.errors import ConfigError
from tests.fixtures.s3 import S3Server

_IN_PARTS = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20, max_concurrency=2)


@pytest.fixture
def door(s3: S3Server) -> Iterator[S3Proxy]:
    host, _, port = s3.endpoint.removeprefix("http://").partition(":")
    proxy = S3Proxy(("127.0.0.1", 0), (host, int(port)))
    proxy.start()
    yield proxy
    proxy.stop()


def client(door: S3Proxy, server: S3Server, attempts: int = 1) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{door.address[1]}",
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name="us-east-1",
        config=Config(
            retries={"total_max_attempts": attempts, "mode": "standard"},
            connect_timeout=2,
            read_timeout=1.5,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


def put(s3: Any, key: str, body: bytes) -> None:
    s3.put_object(Bucket="bucket", Key=key, Body=body)


def got(s3: Any, key: str) -> bytes:
    return s3.get_object(Bucket="bucket", Key=key)["Body"].read()


def keys(server: S3Server) -> set[str]:
    """What the server itself has on its disk."""
    folder = server.data / server.bucket
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def test_an_open_door_changes_nothing(door: S3Proxy, s3: S3Server):
    body, through = os.urandom(12 << 20), client(door, s3)
    through.upload_fileobj(io.BytesIO(body), "bucket", "open/large", Config=_IN_PARTS)
    put(through, "open/small with a space", b"small")
    assert got(s3.client(), "open/large") == got(through, "open/large") == body
    assert got(through, "open/small with a space") == b"small"
    listed = through.list_objects_v2(Bucket="bucket", Prefix="open/")["Contents"]
    assert [each["Key"] for each in listed] == ["open/large", "open/small with a space"]
    through.delete_object(Bucket="bucket", Key="open/large")
    assert "open/large" not in keys(s3)
    seen = door.counts()
    assert (seen.requests["PUT"], seen.requests["POST"], seen.requests["DELETE"]) == (4, 2, 1)
    assert seen.bytes_up >= len(body)
    assert seen.bytes_down >= len(body)
    assert not seen.faulted


def test_keys_that_are_wrong_are_wrong_through_the_door(door: S3Proxy, s3: S3Server):
    stranger = S3Server(s3.endpoint, s3.bucket, s3.access_key, "another-secret-key", s3.data)
    with pytest.raises(exceptions.ClientError, match="SignatureDoesNotMatch"):
        put(client(door, stranger), "wrong/key", b"x")


def test_a_busy_server_says_so_a_number_of_times(door: S3Proxy, s3: S3Server):
    door.set(Fault("error", status=503, count=2))
    with pytest.raises(exceptions.ClientError, match="SlowDown"):
        put(client(door, s3), "busy/key", b"x")
    put(client(door, s3, attempts=3), "busy/key", b"x")
    assert door.counts().faulted == {"error": 2}
    assert got(s3.client(), "busy/key") == b"x"


def test_keys_expire(door: S3Proxy, s3: S3Server):
    door.set(Fault("error", status=403))
    with pytest.raises(exceptions.ClientError, match="InvalidAccessKeyId"):
        put(client(door, s3, attempts=3), "expired/key", b"x")
    assert door.counts().requests == {"PUT": 1}  # no client asks again
    assert "expired/key" not in keys(s3)


def test_a_slow_server_takes_as_long_as_it_was_told(door: S3Proxy, s3: S3Server):
    body, through = os.urandom(400_000), client(door, s3)
    door.set(Fault("slow", bytes_per_second=500_000))
    for transfer in (lambda: put(through, "slow/key", body), lambda: got(through, "slow/key")):
        began = time.monotonic()
        transfer()
        assert 0.7 < time.monotonic() - began < 2
    assert got(s3.client(), "slow/key") == body


def test_a_download_is_cut_short(door: S3Proxy, s3: S3Server):
    put(s3.client(), "short/key", b"x" * 100_000)
    door.set(Fault("truncate", kept=0.25))
    answer = client(door, s3).get_object(Bucket="bucket", Key="short/key")
    assert answer["ContentLength"] == 100_000
    with pytest.raises((exceptions.IncompleteReadError, exceptions.ResponseStreamingError)):
        answer["Body"].read()
    assert door.counts().bytes_down == 25_000


def test_an_object_is_lost_after_success(door: S3Proxy, s3: S3Server):
    through = client(door, s3)
    door.set(Fault("lose"))
    put(through, "lost/small", b"x")
    through.upload_fileobj(io.BytesIO(bytes(6 << 20)), "bucket", "lost/large", Config=_IN_PARTS)
    assert not {"lost/small", "lost/large"} & keys(s3)
    with pytest.raises(exceptions.ClientError, match="404"):
        through.head_object(Bucket="bucket", Key="lost/small")
    assert door.counts().faulted == {"lose": 2}


def test_only_the_requests_meant_are_met(door: S3Proxy, s3: S3Server):
    through = client(door, s3)
    door.set(Fault("lose", key="manifest.json"))
    put(through, "meant/weights", b"x")
    put(through, "meant/manifest.json", b"x")
    assert {key for key in keys(s3) if key.startswith("meant/")} == {"meant/weights"}
    door.set(Fault("error", methods=("GET",)))
    put(through, "meant/manifest.json", b"x")
    with pytest.raises(exceptions.ClientError, match="SlowDown"):
        got(through, "meant/manifest.json")


def test_a_connection_is_reset(door: S3Proxy, s3: S3Server):
    door.set(Fault("reset"))
    with pytest.raises(exceptions.ConnectionClosedError):
        put(client(door, s3), "reset/key", b"x")
    with socket.create_connection(("127.0.0.1", door.address[1])) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            plain.recv(1)


def test_a_server_hangs_until_it_is_told_otherwise(door: S3Proxy, s3: S3Server):
    door.set(Fault("hang"))
    through = client(door, s3)
    with pytest.raises(exceptions.ReadTimeoutError):
        got(through, "hang/key")
    door.set(Fault())
    put(through, "hang/key", b"x")
    assert got(through, "hang/key") == b"x"


def test_a_server_that_is_gone_is_gone_through_the_door(s3: S3Server):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = listener.getsockname()
    proxy = S3Proxy(("127.0.0.1", 0), nobody[:2])
    proxy.start()
    with pytest.raises(exceptions.ConnectionClosedError):
        got(client(proxy, s3), "gone/key")
    proxy.stop()


def test_a_fault_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="fits: pass, error"):
        Fault("explode")  # pyright: ignore[reportArgumentType]
