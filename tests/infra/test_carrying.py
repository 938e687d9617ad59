"""A stage's way to machines that share no disk, and back: through a store, whole, once, and checked."""

import errno
import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from infra import carrying, manifests, worker
from infra.carrying import CarriedStageFolder, ThroughStore
from infra.drill.s3_proxy import Fault, S3Proxy
from infra.json_lines import read_lines
from infra.objects import Objects
from infra.runs import StageFolder, StageRequest
from infra.worker import StageFailed
from models.common.config import Config
from models.common.contract import Inputs
from models.common.errors import ConfigError, DataError, StorageError
from tests.fixtures.s3_door import Behind
from tests.fixtures.stages import request_for


class Nothing(Config):
    """A stage's config; what it does is of no interest here."""


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrying, "_PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(carrying, "_FAILURE_PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(carrying, "_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(carrying, "_FLUSH_SECONDS", 3600.0)
    monkeypatch.setattr(carrying, "_VERIFIED", set())
    insist = carrying.insist
    monkeypatch.setattr(carrying, "insist", lambda attempt, seconds=0.2: insist(attempt, seconds))


@pytest.fixture
def request_there(store: Objects, tmp_path: Path) -> StageRequest:
    """A stage that reads a folder of two files, one below another folder, and starts from a third."""
    problems, start = tmp_path / "problems", tmp_path / "start"
    (problems / "deep").mkdir(parents=True)
    start.mkdir()
    (problems / "deep" / "numbers").write_bytes(bytes(range(256)) * 40)
    (problems / "text").write_text("é")
    (start / "weights").write_bytes(b"12345")
    for folder in (problems, start):
        manifests.write_manifest(folder)
    inputs = Inputs(folders={"problems": problems}, start_from=start)
    return request_for(Nothing(), inputs, tmp_path / "runs" / "a-run" / "student", storage=store.bucket.url)


@pytest.fixture
def carrier(request_there: StageRequest) -> ThroughStore:
    found = carrying.carrier_of(request_there)
    assert isinstance(found, ThroughStore)
    return found


def _bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _result(worker: CarriedStageFolder, text: str = "weights") -> None:
    with manifests.committed(worker.result) as draft:
        (draft / "weights.safetensors").write_text(text)


def test_what_is_handed_over_is_brought_to_another_machine(
    request_there: StageRequest, carrier: ThroughStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = carrier.hand_over(request_there)
    monkeypatch.setenv("ORCHARD_HOME", str(tmp_path / "another machine"))
    told = carrying.read_request(where)
    assert told == request_there
    here = carrying.brought(told)
    assert here.start_from
    assert here.inputs["problems"].is_relative_to(tmp_path / "another machine")
    assert _bytes_of(here.inputs["problems"]) == _bytes_of(request_there.inputs["problems"])
    assert (here.start_from / "weights").read_bytes() == b"12345"
    assert here.identity() == request_there.identity()


def test_what_is_there_is_not_uploaded_again(request_there: StageRequest, carrier: ThroughStore, door: S3Proxy) -> None:
    carrier.hand_over(request_there)
    first = door.counts()
    carrier.hand_over(request_there.but(run_key="another-run"))
    second = door.counts()
    # This server now and then refuses one of two that make the same folder at once, and is asked again.
    assert first.requests["PUT"] >= 6, "three files, two manifests, the request"
    assert second.requests["PUT"] - first.requests["PUT"] == 1
    assert second.bytes_up - first.bytes_up < 5000


def test_an_upload_that_broke_off_is_completed(
    request_there: StageRequest, carrier: ThroughStore, door: S3Proxy
) -> None:
    door.set(Fault("error", methods=("PUT",), key="numbers"))
    with pytest.raises(StorageError):
        carrier.hand_over(request_there)
    with pytest.raises(DataError, match="has no manifest"):
        carrying.brought(request_there)
    door.set(Fault())
    carrier.hand_over(request_there)
    assert carrying.brought(request_there).inputs


def test_an_input_that_changed_is_not_handed_over(request_there: StageRequest, carrier: ThroughStore) -> None:
    problems = request_there.inputs["problems"]
    (problems / "text").write_text("e")
    with pytest.raises(DataError, match=r"input 'problems': .*\ndelete"):
        carrier.hand_over(request_there)
    manifests.write_manifest(problems)
    with pytest.raises(DataError, match="changed since the run began"):
        carrier.hand_over(request_there)


def test_an_input_that_is_a_link_is_not_handed_over(request_there: StageRequest, carrier: ThroughStore) -> None:
    """What it leads to may be a secret."""
    problems = request_there.inputs["problems"]
    (problems / "text").unlink()
    (problems / "text").symlink_to(problems / "deep" / "numbers")
    sha256 = manifests.write_manifest(problems)
    request = request_there.but(input_sha256={**request_there.input_sha256, "problems": sha256})
    with pytest.raises(DataError, match="text is missing"):
        carrier.hand_over(request)


def test_a_damaged_object_is_refused_with_what_to_do_and_mended_where_it_was_deleted(
    request_there: StageRequest, carrier: ThroughStore, behind: Behind, home: Path
) -> None:
    carrier.hand_over(request_there)
    sha256 = request_there.input_sha256["problems"]
    behind.write(f"inputs/{sha256}/text", b"ee")
    with pytest.raises(DataError, match="text does not have the SHA-256") as told:
        carrying.brought(request_there)
    assert f"inputs/{sha256}" in str(told.value)
    assert "\ndelete it there, and run again" in str(told.value)
    assert not (home / "inputs" / sha256).exists()
    behind.remove(f"inputs/{sha256}/manifest.json")
    carrier.hand_over(request_there)
    carrying.brought(request_there)


def test_a_damaged_copy_of_this_machine_is_brought_anew(
    request_there: StageRequest, carrier: ThroughStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    carrier.hand_over(request_there)
    copy = carrying.brought(request_there).inputs["problems"]
    (copy / "text").write_bytes(b"ee")
    monkeypatch.setattr(carrying, "_VERIFIED", set())  # as in the next process
    carrying.brought(request_there)
    assert _bytes_of(copy) == _bytes_of(request_there.inputs["problems"])


def _entries(*names: str) -> str:
    entry = {"sha256": "0" * 64, "bytes": 1}
    return json.dumps({"format": 1, "about": {}, "files": dict.fromkeys(names, entry)})


_POISONED: dict[str, Callable[[], str]] = {
    "above": lambda: _entries("../escaped"),
    "above, later": lambda: _entries("fine", "a/../../escaped"),
    "absolute": lambda: _entries("/escaped"),
    "another separator": lambda: _entries("..\\escaped"),
    "its own manifest": lambda: _entries("manifest.json"),
    "a file that is a folder": lambda: _entries("a", "a/b"),
    "a name that no disk takes": lambda: _entries("n" * 300),
    "half of a character": lambda: _entries("\ud800"),
    "too many entries": lambda: _entries(*(str(number) for number in range(manifests.MOST_FILES + 1))),
    "no sizes": lambda: json.dumps({"about": {}, "files": {"a": {"sha256": "0" * 64}}}),
    "entries that are none": lambda: json.dumps({"about": {}, "files": {"a": 3}}),
    "no files": lambda: "{}",
    "a deep nest": lambda: "[" * 100_000,
}


@pytest.mark.parametrize("poison", _POISONED)
def test_a_poisoned_manifest_is_refused_before_anything_is_written(
    store: Objects, behind: Behind, home: Path, request_there: StageRequest, poison: str
) -> None:
    """Under its own hash, so that no check of hashes refuses it first."""
    text = _POISONED[poison]().encode()
    sha256 = hashlib.sha256(text).hexdigest()
    behind.write(f"inputs/{sha256}/manifest.json", text)
    behind.write("escaped", b"1")
    request = request_there.but(inputs={}, start_from=None, input_sha256={"problems": sha256})
    with pytest.raises(DataError, match="is not what was put there"):
        carrying.brought(request)
    left = {path.name: path.stat().st_size for path in home.rglob("*") if path.is_file()}
    assert left == {f".{sha256}.lock": 0, f".{sha256}.used": 0}


def test_a_manifest_of_a_million_entries_is_not_even_read(
    behind: Behind, door: S3Proxy, request_there: StageRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = f'{{"sha256": "{"0" * 64}", "bytes": 1}}'
    text = f'{{"about": {{}}, "files": {{{",".join(f"{number}: {entry}" for number in range(1_000_000))}}}}}'.encode()
    sha256 = hashlib.sha256(text).hexdigest()
    behind.write(f"inputs/{sha256}/manifest.json", text)
    with pytest.raises(DataError, match=f"it may have {manifests.MOST_BYTES}"):
        carrying.brought(request_there.but(inputs={}, start_from=None, input_sha256={"problems": sha256}))
    assert door.counts().bytes_down < len(text) / 4


def test_events_of_two_writers_arrive_in_order_and_once(request_there: StageRequest, carrier: ThroughStore) -> None:
    one, two = CarriedStageFolder(request_there), CarriedStageFolder(request_there)
    for step in range(4):
        one.record("step", step=step, by="one")
        two.record("step", step=step, by="two")
    two.flush()
    one.flush()
    carrier.collect()
    seen = [(event["step"], event["by"]) for event in read_lines(carrier.stage_folder.events)]
    assert seen == [(step, by) for step in range(4) for by in ("one", "two")]
    carrier.stage_folder.record("log", text="of the flow's own")
    one.record("finished", step=4)
    one.flush()
    carrier.collect()
    again = carrying.carrier_of(request_there)  # the flow's process died, and another one attached
    one.record("log", text="later")
    one.flush()
    again.collect()
    again.collect()
    events = read_lines(carrier.stage_folder.events)
    assert len(events) == 8 + 3
    assert [event["kind"] for event in events[8:]] == ["log", "finished", "log"]


def test_events_find_no_room_and_arrive_once_when_there_is_some(
    request_there: StageRequest, carrier: ThroughStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = CarriedStageFolder(request_there)
    worker.record("step", step=1)
    worker.flush()
    carrier.collect()
    for step in (2, 3):
        worker.record("step", step=step)
    worker.flush()

    def half(file: Path, lines: Iterable[str]) -> None:
        text = "".join(lines)
        with file.open("a") as stream:
            stream.write(text[: 3 * len(text) // 4])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as fault:
        fault.setattr(carrying, "append_lines", half)
        with pytest.raises(StorageError, match=r"is full\nfits: room for .*\nmake room there"):
            carrier.collect()
    assert [event["step"] for event in read_lines(carrier.stage_folder.events)] == [1, 2]
    carrier.collect()
    assert [event["step"] for event in read_lines(carrier.stage_folder.events)] == [1, 2, 3]


def test_events_wait_for_a_store_that_is_silent_and_no_byte_is_sent_for_ever(
    request_there: StageRequest, carrier: ThroughStore, door: S3Proxy, behind: Behind
) -> None:
    worker = CarriedStageFolder(request_there)
    door.set(Fault("error"))
    worker.record("log", text="x" * 70_000)
    with pytest.raises(StorageError):
        worker.flush()
    door.set(Fault())
    worker.record("log", text="y")
    worker.flush()
    up = door.counts().bytes_up
    for number in range(5):
        worker.record("log", text=str(number))
        worker.flush()
    assert door.counts().bytes_up - up < 10_000, "what was sent is not sent again with each line"
    carrier.collect()
    texts = [event["text"] for event in read_lines(carrier.stage_folder.events)]
    assert texts == ["x" * 70_000, "y", *"01234"]
    assert len(behind.keys("runs/a-run/student/events/")) == 2


def test_a_result_arrives_whole_or_not_at_all(
    request_there: StageRequest, carrier: ThroughStore, door: S3Proxy
) -> None:
    worker = CarriedStageFolder(request_there)
    _result(worker)
    carrier.finish()
    assert not carrier.stage_folder.result.exists(), "none is there yet"
    door.set(Fault("error", methods=("PUT",), key="result.sha256"))
    with pytest.raises(StorageError):
        worker.deliver()
    door.set(Fault())
    carrier.finish()
    assert not carrier.stage_folder.result.exists(), "it is not all there"
    worker.deliver()
    door.set(Fault("truncate", key="weights"))
    with pytest.raises(StorageError):
        carrier.finish()
    assert not carrier.stage_folder.result.exists()
    door.set(Fault())
    carrier.finish()
    assert _bytes_of(carrier.stage_folder.result) == _bytes_of(worker.result)
    assert carrier.stage_folder.finished() == manifests.fingerprint(worker.result)


def test_of_two_results_one_arrives_and_no_mixture(
    request_there: StageRequest, carrier: ThroughStore, door: S3Proxy
) -> None:
    """As where a group that was given up delivers too."""
    first, second = CarriedStageFolder(request_there), CarriedStageFolder(request_there)
    _result(first, "first")
    first.deliver()
    _result(second, "second")
    door.set(Fault("error", methods=("PUT",), key="manifest.json"))
    with pytest.raises(StorageError):
        second.deliver()
    door.set(Fault())
    carrier.finish()
    assert (carrier.stage_folder.result / "weights.safetensors").read_text() == "first"


def test_a_damaged_result_is_refused_with_what_to_do(
    request_there: StageRequest, carrier: ThroughStore, behind: Behind
) -> None:
    worker = CarriedStageFolder(request_there)
    _result(worker)
    worker.deliver()
    [key] = [key for key in behind.keys("runs/a-run/student/results/") if key.endswith("safetensors")]
    behind.write(key, b"weighty")
    with pytest.raises(DataError, match=r"SHA-256.*\ndelete it there, and run again with the same --run-key"):
        carrier.finish()
    assert not carrier.stage_folder.result.exists()


def test_a_failure_arrives_and_one_of_before_does_not(request_there: StageRequest, carrier: ThroughStore) -> None:
    told = {"kind": "DataError", "text": "what went wrong", "rank": 1, "trace": "..."}
    CarriedStageFolder(request_there).fail(told)
    carrier.finish()
    arrived = carrier.stage_folder.failure
    assert json.loads(arrived.read_text()) == told
    arrived.unlink()
    carrier.hand_over(request_there)
    carrier.finish()
    assert not arrived.exists()


def test_a_failure_is_not_kept_back_by_a_store_that_stays_silent(
    request_there: StageRequest, carrier: ThroughStore, door: S3Proxy
) -> None:
    folder = CarriedStageFolder(request_there)
    door.set(Fault("error"))
    error = DataError("what went wrong")
    worker.tell_failure(folder, 0, error)
    worker.keep_failure(folder, StageFailed.of(0, error))
    door.set(Fault())
    carrier.finish()
    assert not carrier.stage_folder.failure.exists()


def test_without_a_store_nothing_is_carried(request_there: StageRequest) -> None:
    request = request_there.but(storage=None)
    carrier = carrying.carrier_of(request)
    assert carrier.hand_over(request) == str(StageFolder(request.folder).request)
    assert carrying.brought(request) == request


@pytest.mark.parametrize("storage", ["bucket/prefix", "s3://B/prefix", "gs://bucket/prefix"])
def test_a_storage_of_another_form_is_refused(request_there: StageRequest, storage: str) -> None:
    with pytest.raises(ConfigError, match="ORCHARD_STORAGE is"):
        carrying.carrier_of(request_there.but(storage=storage))


def test_a_store_that_cannot_be_written_is_known_before_anything_is_started(
    store: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHARD_STORAGE", store.bucket.url)
    monkeypatch.setenv("ORCHARD_S3_ENDPOINT", store.bucket.endpoint or "")
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    carrying.require_storage()
    assert list(store.found("")) == []
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(ConfigError, match="AWS_SECRET_ACCESS_KEY"):
        carrying.require_storage()
