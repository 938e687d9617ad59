"""Where the bytes of versions are: a folder, or a bucket of an S3-compatible store. Read here, written by DVC."""

import hashlib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from infra.s3 import Bucket
from models.common.errors import RegistryError

_CHUNK_BYTES = 1 << 20


class DamagedObject(RegistryError):
    """An object that a version names and the remote does not hold, or holds with other bytes."""


class Remote(Protocol):
    @property
    def url(self) -> str: ...

    def check(self) -> None:
        """Raises RegistryError where an object cannot be written and removed again."""
        ...

    def chunks(self, key: str) -> Iterator[bytes]:
        """The bytes of an object; raises DamagedObject where there is none, RegistryError where it cannot be read."""
        ...

    def remove(self, key: str) -> None:
        """Removes an object, if it is there."""
        ...


def remote_at(url: str, endpoint: str | None) -> Remote:
    """The remote at an address; raises RegistryError for an address of another kind."""
    if url.startswith("s3://"):
        return S3Remote(url, endpoint)
    if "://" in url.removeprefix("file://"):
        raise RegistryError(
            f"the remote {url} is of an unknown kind\nfits: a folder, or s3://bucket/prefix\nset ORCHARD_REMOTE"
        )
    return FolderRemote(str(Path(url.removeprefix("file://")).expanduser().absolute()))


def key_of(md5: str) -> str:
    """Where DVC keeps the object of this hash; a directory's hash ends in `.dir`."""
    return f"files/md5/{md5[:2]}/{md5[2:]}"


@dataclass(frozen=True)
class FolderRemote:
    url: str

    def check(self) -> None:
        probe = Path(self.url) / f".access-{uuid.uuid4().hex}"
        try:
            probe.parent.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise RegistryError(
                f"cannot write in the remote {self.url}: {error.strerror}\nfits: a folder that this user can write in\n"
                "set ORCHARD_REMOTE, or mend the folder's permissions"
            ) from None

    def chunks(self, key: str) -> Iterator[bytes]:
        try:
            with (Path(self.url) / key).open("rb") as stream:
                while chunk := stream.read(_CHUNK_BYTES):
                    yield chunk
        except FileNotFoundError:
            raise _missing(self.url, key) from None
        except OSError as error:
            raise RegistryError(
                f"cannot read {key} in the remote {self.url}: {error.strerror}\n"
                "mend the folder's permissions, or set ORCHARD_REMOTE"
            ) from None

    def remove(self, key: str) -> None:
        (Path(self.url) / key).unlink(missing_ok=True)


@dataclass(frozen=True)
class S3Remote:
    url: str
    endpoint: str | None

    def check(self) -> None:
        """Two requests that give up after seconds: an endpoint that does not answer is known before work begins."""
        probe = f".access-{uuid.uuid4().hex}"
        with self._bucket.explained("write in"):
            self._hurried.put_object(Bucket=self._bucket.name, Key=self._bucket.key(probe), Body=b"")
            self._hurried.delete_object(Bucket=self._bucket.name, Key=self._bucket.key(probe))

    def chunks(self, key: str) -> Iterator[bytes]:
        # A list of files is small and asked for first: it finds out whether the server answers at all.
        client = self._hurried if key.endswith(".dir") else self._patient
        with self._bucket.explained(f"read {key} in"):
            try:
                answer = client.get_object(Bucket=self._bucket.name, Key=self._bucket.key(key))
            except client.exceptions.NoSuchKey:
                raise _missing(self.url, key) from None
            yield from answer["Body"].iter_chunks(_CHUNK_BYTES)

    def remove(self, key: str) -> None:
        with self._bucket.explained(f"remove {key} in"):
            self._patient.delete_object(Bucket=self._bucket.name, Key=self._bucket.key(key))

    @cached_property
    def _bucket(self) -> Bucket:
        return Bucket(self.url, self.endpoint, refused=RegistryError, silent=RegistryError, setting="ORCHARD_REMOTE")

    @cached_property
    def _hurried(self) -> Any:
        return self._bucket.client(read_seconds=4)

    @cached_property
    def _patient(self) -> Any:
        return self._bucket.client(read_seconds=30)


def save(remote: Remote, md5: str, file: Path) -> None:
    """Writes an object into a new file; raises DamagedObject where its bytes are not those of its hash."""
    with file.open("xb") as stream:
        _check_hash(remote, md5, stream.write)


def check_object(remote: Remote, md5: str) -> None:
    """Reads an object from end to end; raises DamagedObject where its bytes are not those of its hash."""
    _check_hash(remote, md5, len)


def read_small(remote: Remote, md5: str) -> bytes:
    """An object's bytes, checked."""
    chunks: list[bytes] = []
    _check_hash(remote, md5, chunks.append)
    return b"".join(chunks)


def _check_hash(remote: Remote, md5: str, keep: Callable[[bytes], object]) -> None:
    digest = hashlib.md5(usedforsecurity=False)  # DVC's address; what is trusted is the artifact's SHA-256 manifest
    for chunk in remote.chunks(key_of(md5)):
        digest.update(chunk)
        keep(chunk)
    if digest.hexdigest() != md5.removesuffix(".dir"):
        raise DamagedObject(
            f"the object {key_of(md5)} in {remote.url} was altered: its bytes have another hash\n"
            "restore it from a backup of the remote, or publish the run again"
        )


def _missing(url: str, key: str) -> DamagedObject:
    return DamagedObject(
        f"the remote {url} has no object {key}\nfits: the remote that the version was pushed to\n"
        "restore it from a backup of the remote, or publish the run again"
    )
