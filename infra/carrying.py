"""How a stage gets to the machines that work on it, and back: over a disk that all see, or through a store of objects.

Through the store, every machine has folders of its own. The inputs go by the SHA-256 of their manifests, once for all
runs; events come back while the stage runs; the result comes back whole.
"""

import errno
import fcntl
import hashlib
import heapq
import json
import logging
import socket
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from infra import leftovers, manifests
from infra.json_lines import append_lines
from infra.manifests import MANIFEST, ManifestError
from infra.objects import Objects
from infra.runs import StageFolder, StageRequest
from infra.settings import settings
from models.common.errors import DataError, OrchardError, StorageError

_SIDE_BY_SIDE = 8  # files of a folder on their way at once
_FLUSH_SECONDS = 2.0  # how far a run page is behind
_SEGMENT_BYTES = 1 << 16  # of events: what is sent anew with each event
_PATIENCE_SECONDS = 3600.0  # with a store that does not answer, before a result that is there is given up
_FAILURE_PATIENCE_SECONDS = 600.0  # before a failure is left to the job's own end and log
_PAUSE_SECONDS = 5.0
_RESULT = "result.sha256"  # which of the folders in results/ is the result


class Carrier(Protocol):
    """What the flow's side does for a stage."""

    def hand_over(self, request: StageRequest) -> str:
        """Puts what the stage needs where its machines find it; returns what the job is told: where its request is."""
        ...

    def collect(self) -> None:
        """Brings the events that are new."""
        ...

    def finish(self) -> None:
        """Brings the result, or what went wrong."""
        ...


class SharedDisk:
    """All machines see the run's folder; there is nothing to carry."""

    def __init__(self, stage_folder: StageFolder) -> None:
        self.stage_folder = stage_folder

    def hand_over(self, request: StageRequest) -> str:
        return str(self.stage_folder.request)

    def collect(self) -> None:
        pass

    def finish(self) -> None:
        pass


class ThroughStore:
    """A stage's place in the store, from either side."""

    def __init__(self, objects: Objects, run_key: str, stage: str, stage_folder: StageFolder) -> None:
        self.objects = objects
        self.place = f"runs/{run_key}/{stage}"
        self.stage_folder = stage_folder
        self._sizes: dict[str, int] = {}  # how much of each object with events is here

    def hand_over(self, request: StageRequest) -> str:
        for name, folder in {**request.inputs, **_start_of(request)}.items():
            _put_input(self.objects, name, folder, request.input_sha256[name])
        self.objects.remove([f"{self.place}/failure.json", f"{self.place}/{_RESULT}"])
        self.objects.put(f"{self.place}/request.json", request.model_dump_json().encode())
        return f"{self.objects.bucket.url}/{self.place}/request.json"

    def collect(self) -> None:
        """Brings the new events, each once: a writer's in their order, those of several in the order of their times."""
        new: defaultdict[str, list[str]] = defaultdict(list)
        sizes = dict(self._sizes)
        for each in list(self.objects.found(f"{self.place}/events/")):
            if each.size > sizes.get(each.key, 0):
                text = self.objects.get(each.key, start=sizes.get(each.key, 0)) or b""
                sizes[each.key] = sizes.get(each.key, 0) + len(text)
                new[each.key.rpartition("/")[0]] += text.decode().splitlines(keepends=True)
        if new:
            # An earlier process of this run may have brought some of them, and died before it could say so; or this one
            # a moment ago, before it found no room.
            here = set() if self._sizes else _lines_of(self.stage_folder.events)
            self._sizes = {}
            with self._room():
                lines = (line for line in heapq.merge(*new.values(), key=_time_of) if line not in here)
                append_lines(self.stage_folder.events, lines)
            self._sizes = sizes

    def finish(self) -> None:
        self.collect()
        if (failure := self.objects.get(f"{self.place}/failure.json")) is not None:
            with self._room():
                self.stage_folder.folder.mkdir(parents=True, exist_ok=True)
                self.stage_folder.failure.write_bytes(failure)
        elif (told := self.objects.get(f"{self.place}/{_RESULT}")) is not None:
            sha256 = told.decode(errors="replace")
            with self._room():
                _get_folder(self.objects, f"{self.place}/results/{sha256}", self.stage_folder.result, sha256)
            with suppress(StorageError):  # the result is what they were for; they cost nothing but room
                self.objects.remove([each.key for each in self.objects.found(f"{self.place}/checkpoints/")])

    @contextmanager
    def _room(self) -> Iterator[None]:
        """Raises StorageError where this machine's disk is full: what is in the store can still be brought later."""
        try:
            yield
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise StorageError(
                f"the disk of {self.stage_folder.folder} is full\nfits: room for what the stage tells and leaves\n"
                "make room there: the store keeps it meanwhile"
            ) from None


def carrier_of(request: StageRequest) -> Carrier:
    """The one for this request, on the flow's side."""
    stage_folder = StageFolder(request.folder)
    if not request.storage:
        return SharedDisk(stage_folder)
    return ThroughStore(Objects(request.storage, settings().s3_endpoint), request.run_key, request.stage, stage_folder)


class CarriedStageFolder(StageFolder):
    """A stage's folder on a machine that works on it, of which the flow's machine sees what goes through the store."""

    def __init__(self, request: StageRequest) -> None:
        work = settings().home / "work" / request.run_key
        leftovers.use(work)
        super().__init__(work / request.stage)
        assert request.storage is not None
        self.objects = Objects(request.storage, settings().s3_endpoint)
        self.place = f"runs/{request.run_key}/{request.stage}"
        self.writer = f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
        self._recording, self._sending = threading.Lock(), threading.Lock()
        self._segment, self._number, self._sent = b"", 0, 0
        threading.Thread(target=self._send_for_ever, daemon=True).start()

    def record(self, kind: str, **values: Any) -> None:
        line = json.dumps({"time": time.time(), "kind": kind, **values}) + "\n"
        with self._recording:
            self._segment += line.encode()

    def flush(self) -> None:
        with self._sending:  # one at a time: what was shorter must not arrive later
            with self._recording:
                segment, number = self._segment, self._number
            if len(segment) > self._sent:
                self.objects.put(f"{self.place}/events/{self.writer}/{number:05d}.jsonl", segment)
                self._sent = len(segment)
            if len(segment) > _SEGMENT_BYTES:
                with self._recording:
                    self._segment, self._number, self._sent = self._segment[len(segment) :], number + 1, 0

    def fail(self, told: dict[str, Any]) -> None:
        key = f"{self.place}/failure.json"
        insist(lambda: self.objects.put(key, json.dumps(told).encode()), _FAILURE_PATIENCE_SECONDS)

    def deliver(self) -> None:
        """Puts the result where the flow's machine finds it: under its own hash, then, as one object, that hash."""
        sha256 = manifests.fingerprint(self.result)
        insist(lambda: _put_folder(self.objects, f"{self.place}/results/{sha256}", self.result))
        insist(lambda: self.objects.put(f"{self.place}/{_RESULT}", sha256.encode()))
        insist(self.flush)

    def _send_for_ever(self) -> None:
        while True:
            time.sleep(_FLUSH_SECONDS)
            with suppress(OrchardError):  # they wait for the store, or for somebody who mends its keys
                self.flush()


def read_request(where: str) -> StageRequest:
    """The request that a job was told of."""
    if not where.startswith("s3://"):
        return StageRequest.model_validate_json(Path(where).read_text())
    storage, *key = where.rsplit("/", 4)  # below the prefix: runs, the run, its stage, and the file
    objects = Objects(storage, settings().s3_endpoint)
    text = insist(lambda: objects.get("/".join(key)))
    if text is None:
        raise DataError(f"there is no {where}\nrun again with the same --run-key")
    return StageRequest.model_validate_json(text)


def stage_folder_of(request: StageRequest) -> StageFolder:
    """The stage's folder as the machine that works on it has it."""
    return CarriedStageFolder(request) if request.storage else StageFolder(request.folder)


def brought(request: StageRequest) -> StageRequest:
    """The request with inputs that this machine has; where they come through the store, each is verified."""
    if not request.storage:
        return request
    objects = Objects(request.storage, settings().s3_endpoint)
    here = {name: _brought(objects, request.input_sha256[name]) for name in request.input_sha256}
    start_from = here.pop("start_from", None)
    return request.but(inputs=here, start_from=start_from)


def _brought(objects: Objects, sha256: str) -> Path:
    """A folder of this machine with the input that has this hash; every byte is verified, once by each process."""
    folder = settings().home / "inputs" / sha256
    if folder in _VERIFIED:
        return folder
    leftovers.use(folder)
    if not _is_whole(folder, sha256):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (folder.parent / f".{sha256}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # of the ranks of a host, one brings it
            if not _is_whole(folder, sha256):
                insist(lambda: _get_folder(objects, f"inputs/{sha256}", folder, sha256))
    _VERIFIED.add(folder)
    return folder


_VERIFIED: set[Path] = set()


def _is_whole(folder: Path, sha256: str) -> bool:
    try:
        return manifests.fingerprint(folder) == sha256 and bool(manifests.verify(folder))
    except ManifestError:
        return False


def require_storage() -> None:
    """Raises ConfigError or StorageError where the store between the machines of a Ray cannot be written."""
    now = settings()
    if now.storage and now.ray_address:
        objects, probe = Objects(now.storage, now.s3_endpoint), f"runs/.access-{uuid.uuid4().hex}/request.json"
        objects.put(probe, b"")  # where a flow may write, as docs/s3-policies has it
        objects.remove([probe])


def insist(attempt: Callable[[], Any], seconds: float = _PATIENCE_SECONDS) -> Any:
    """The value; a store that does not answer is asked again, for so long."""
    until, told = time.monotonic() + seconds, False
    while True:
        try:
            return attempt()
        except StorageError as silent:
            if time.monotonic() > until:
                raise
            if not told:
                logging.getLogger(__name__).warning("waiting up to %.0f s: %s", seconds, silent)
                told = True
            time.sleep(_PAUSE_SECONDS)


def _start_of(request: StageRequest) -> dict[str, Path]:
    return {"start_from": request.start_from} if request.start_from else {}


def _lines_of(file: Path) -> set[str]:
    return set(file.read_text().splitlines(keepends=True)) if file.exists() else set()


def _time_of(line: str) -> float:
    return json.loads(line)["time"]


def _put_input(objects: Objects, name: str, folder: Path, sha256: str) -> None:
    """Raises DataError where the folder is not the one that the flow passed."""
    try:
        if manifests.fingerprint(folder) != sha256:
            raise DataError(f"input '{name}' at {folder} changed since the run began\nrun again under a new --run-key")
        _put_folder(objects, f"inputs/{sha256}", folder)
    except ManifestError as damage:
        raise DataError(f"input '{name}': {damage}\ndelete {folder} and run again") from None


def _put_folder(objects: Objects, place: str, folder: Path) -> None:
    """Uploads a folder that has its manifest, which goes last and makes it one; nothing where it is there already.

    Raises ManifestError where the folder is not what its manifest says.
    """
    text = (folder / MANIFEST).read_bytes()
    if objects.get(f"{place}/{MANIFEST}") == text:
        return
    names = list(manifests.verify(folder)["files"])
    _side_by_side(lambda name: objects.put_file(f"{place}/{name}", folder / name), names)
    objects.put(f"{place}/{MANIFEST}", text)


def _get_folder(objects: Objects, place: str, folder: Path, sha256: str) -> None:
    """Downloads the folder with this hash, whole and verified, or not at all: else raises DataError."""
    where = f"{place} in {objects.bucket.url}"
    try:
        text = objects.get(f"{place}/{MANIFEST}", most=manifests.MOST_BYTES)
        if text is None or hashlib.sha256(text).hexdigest() != sha256:
            raise ManifestError("it has no manifest" if text is None else "its manifest has another SHA-256")
        files = manifests.parse_manifest(text, f"{place}/{MANIFEST}")["files"]
        with manifests.draft_of(folder) as draft:
            for parent in {(draft / name).parent for name in files}:
                parent.mkdir(parents=True, exist_ok=True)
            _side_by_side(lambda name: objects.get_file(f"{place}/{name}", draft / name, files[name]), list(files))
            (draft / MANIFEST).write_bytes(text)
            manifests.commit(draft, folder)
    except ManifestError as damage:
        raise DataError(
            f"{where} is not what was put there: {damage}\ndelete it there, and run again with the same --run-key"
        ) from None


def _side_by_side(carry: Callable[[str], None], names: list[str]) -> None:
    """Carries some files at a time; once one fails, those that have not begun do not begin."""
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        list(pool.map(carry, names))
