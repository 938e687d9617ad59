"""Objects of the store that machines without a common disk exchange files through: `ORCHARD_STORAGE`.

What is written is looked at again afterwards: a server that answers "done" and keeps nothing is found out at once.
"""

import hashlib
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from io import BytesIO
from pathlib import Path
from typing import Any

from infra.manifests import ManifestError, sha256_of
from infra.s3 import Bucket, NotThere, in_parts
from models.common.errors import ConfigError, StorageError

PART_BYTES = 8 << 20
_PIECE_BYTES = 64 << 10
_PARALLEL_PARTS = 4  # of one file: with the parts' size, what a file on its way holds in memory at most
_ANSWER_SECONDS = 20
_FILE_SECONDS = 120  # some servers put a large file together while its last request waits
_ATTEMPTS = 3
_CONNECTIONS = 32
_MOST_REMOVED = 1000  # by one request
_URL = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/(?!\.{1,2}(/|$))[A-Za-z0-9._=-]+)*")
_MD5 = re.compile(r'"?([0-9a-f]{32})(?:-(\d+))?"?')


class _Part(BytesIO):
    """A part of a file that is sent in pieces of 64 kB, where 16 are asked for.

    Each piece takes Python's lock from who trains; one of 8 MB would not pass a slow link within a socket's timeout.
    """

    def read(self, size: int | None = -1) -> bytes:
        return super().read(max(size, _PIECE_BYTES) if size and size > 0 else size)


@dataclass(frozen=True)
class Found:
    """An object as a listing shows it."""

    key: str
    size: int


class Objects:
    """The objects below `s3://bucket/prefix`; keys are relative to it.

    Every method raises StorageError where the store does not answer or lost what it took, and ConfigError where it
    refuses: no credentials, wrong ones, no such bucket.
    """

    def __init__(self, url: str, endpoint: str | None) -> None:
        if not _URL.fullmatch(url):
            raise ConfigError(
                f"ORCHARD_STORAGE is '{url}'\nfits: s3://bucket/prefix, the prefix of letters, digits and any of ._=-\n"
                "set ORCHARD_STORAGE"
            )
        self.bucket = Bucket(url, endpoint, refused=ConfigError, silent=StorageError, setting="ORCHARD_STORAGE")

    def put(self, key: str, data: bytes) -> None:
        with self.bucket.explained(f"write {key} in"):
            self._client.put_object(**self._at(key), Body=data)
        self._require_kept(key, len(data), [_md5(data)])

    def put_file(self, key: str, file: Path) -> None:
        """Uploads a file, a large one several parts at a time.

        boto3's own upload has Python's lock so often that steps beside it take 14 % longer; beside this, a third of it.
        """
        size = file.stat().st_size
        with self.bucket.explained(f"write {key} in"):
            parts = (self._put_parts if size > PART_BYTES else self._put_whole)(key, file)
        self._require_kept(key, size, parts, file)

    def get(self, key: str, start: int = 0, *, most: int | None = None) -> bytes | None:
        """The object's bytes from `start` on; None where there is no such object.

        Raises ManifestError, before any of it is read, where it has more than `most` bytes.
        """
        wanted = {"Range": f"bytes={start}-"} if start else {}
        try:
            with self.bucket.explained(f"read {key} in"):
                answer = self._client.get_object(**self._at(key), **wanted)
                if most is not None and answer["ContentLength"] > most:
                    answer["Body"].close()
                    raise ManifestError(f"{key} has {answer['ContentLength']} bytes; it may have {most}")
                return answer["Body"].read()
        except NotThere:
            return None

    def get_file(self, key: str, file: Path, written: dict[str, Any]) -> None:
        """Downloads an object into a new file; `written` is what its manifest says of it.

        Raises ManifestError where the object is another one; if its size says so, before any byte of it is here.
        """
        found = self._head(key)
        if found is None:
            raise ManifestError(f"{key} is missing")
        if found["ContentLength"] != written["bytes"]:
            raise ManifestError(f"{key} has {found['ContentLength']} bytes, its manifest says {written['bytes']}")
        try:
            with file.open("xb") as stream, self.bucket.explained(f"read {key} in"):
                self._of_files.download_fileobj(self.bucket.name, self.bucket.key(key), stream, Config=_in_parts())
        except NotThere:
            raise ManifestError(f"{key} is missing") from None
        except BaseException:
            file.unlink(missing_ok=True)  # so that it can be asked for again
            raise
        if sha256_of(file) != written["sha256"]:
            raise ManifestError(f"{key} does not have the SHA-256 that its manifest says")

    def has(self, key: str) -> bool:
        return self._head(key) is not None

    def found(self, prefix: str) -> Iterator[Found]:
        """The objects whose keys begin so, in the order of their keys."""
        with self.bucket.explained(f"list {prefix} in"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket.name, Prefix=self.bucket.key(prefix)
            )
            above = len(self.bucket.key(""))
            for page in pages:
                for each in page.get("Contents", []):
                    yield Found(each["Key"][above:], each["Size"])

    def remove(self, keys: list[str]) -> None:
        """Removes objects, those that are there."""
        for first in range(0, len(keys), _MOST_REMOVED):
            named = [{"Key": self.bucket.key(key)} for key in keys[first : first + _MOST_REMOVED]]
            with self.bucket.explained("remove objects in"):
                answer = self._client.delete_objects(Bucket=self.bucket.name, Delete={"Objects": named, "Quiet": True})
            self.bucket.require_removed(answer)

    def drop_unfinished(self, prefix: str) -> None:
        """Removes the parts of files whose upload never came to its end; no listing of objects shows them."""
        with self.bucket.explained(f"drop unfinished uploads of {prefix} in"):
            answer = self._client.list_multipart_uploads(Bucket=self.bucket.name, Prefix=self.bucket.key(prefix))
            for each in answer.get("Uploads", []):
                self._client.abort_multipart_upload(Bucket=self.bucket.name, Key=each["Key"], UploadId=each["UploadId"])

    def _put_whole(self, key: str, file: Path) -> list[bytes]:
        """Sends a file as its only part; returns its MD5."""
        data = file.read_bytes()
        self._of_files.put_object(**self._at(key), Body=_Part(data))
        return [_md5(data)]

    def _put_parts(self, key: str, file: Path) -> list[bytes]:
        """Sends a file's parts and has them put together; returns the MD5 of each."""
        at, client = self._at(key), self._of_files
        upload = client.create_multipart_upload(**at)["UploadId"]

        def put_part(number: int) -> tuple[str, bytes]:
            with file.open("rb") as stream:
                stream.seek((number - 1) * PART_BYTES)
                part = stream.read(PART_BYTES)
            answer = client.upload_part(**at, UploadId=upload, PartNumber=number, Body=_Part(part))
            return answer["ETag"], _md5(part)

        try:
            with ThreadPoolExecutor(_PARALLEL_PARTS) as threads:
                put = list(threads.map(put_part, range(1, -(-file.stat().st_size // PART_BYTES) + 1)))
            named = [{"PartNumber": number, "ETag": tag} for number, (tag, _) in enumerate(put, 1)]
            client.complete_multipart_upload(**at, UploadId=upload, MultipartUpload={"Parts": named})
        except BaseException:
            with suppress(Exception):  # the first error is the one to tell; parts left are swept when a group begins
                client.abort_multipart_upload(**at, UploadId=upload)
            raise
        return [digest for _, digest in put]

    def _require_kept(self, key: str, size: int, parts: list[bytes], file: Path | None = None) -> None:
        """Raises StorageError where the store has not the bytes that it took: MD5s of parts, of the file if several."""
        found = self._head(key)
        if found is None or found["ContentLength"] != size or not _is_of(found["ETag"], parts, file):
            has = "nothing" if found is None else f"{found['ContentLength']} bytes, not those sent"
            raise StorageError(
                f"{self.bucket.url} took {key}, {size} bytes, and has {has}\nfits: a store that keeps what it takes\n"
                "see the server's log and its disk"
            )

    def _head(self, key: str) -> dict[str, Any] | None:
        try:
            with self.bucket.explained(f"look at {key} in"):
                return self._client.head_object(**self._at(key))
        except NotThere:
            return None

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self.bucket.name, "Key": self.bucket.key(key)}

    @cached_property
    def _client(self) -> Any:
        return self._patient_for(_ANSWER_SECONDS)

    @cached_property
    def _of_files(self) -> Any:
        return self._patient_for(_FILE_SECONDS)

    def _patient_for(self, seconds: int) -> Any:
        return self.bucket.client(read_seconds=seconds, attempts=_ATTEMPTS, connections=_CONNECTIONS)


def _in_parts() -> Any:
    return in_parts(of_bytes=PART_BYTES, at_once=_PARALLEL_PARTS)


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _md5_of(file: Path) -> bytes:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, partial(hashlib.md5, usedforsecurity=False)).digest()


def _is_of(tag: str, parts: list[bytes], file: Path | None) -> bool:
    """Whether a server can call these bytes so: by their MD5, or by that of their parts' MD5s. Others tell nothing."""
    told = _MD5.fullmatch(tag)
    if not told:
        return True
    if not told[2]:
        whole = _md5_of(file) if file and len(parts) > 1 else parts[0]  # what was sent at once was read once
        return told[1] == whole.hex()
    return told[1] == _md5(b"".join(parts)).hex() or int(told[2]) != len(parts)  # a server may have cut it otherwise
