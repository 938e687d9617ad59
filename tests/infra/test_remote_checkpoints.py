"""Checkpoints in a store: committed by their mark, checked before a load, swept, fenced, and beside training."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from infra import remote_checkpoints
from infra.drill.s3_proxy import S3Proxy
from infra.objects import Objects
from infra.remote_checkpoints import GivenUp
from infra.settings import ROOT
from tests.fixtures.groups import Group, places
from tests.fixtures.ranks import run_ranks
from tests.fixtures.s3_door import Behind


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_FIRST_PAUSE_SECONDS", "_LONGEST_PAUSE_SECONDS", "_LOOK_SECONDS"):
        monkeypatch.setattr(remote_checkpoints, name, 0.05)


def _key(behind: Behind, step: int, name: str) -> str:
    [key] = [key for key in behind.keys("stage/checkpoints/") if f"/{step:010d}-" in key and key.endswith(name)]
    return key


def test_another_host_goes_on_from_the_store_which_keeps_the_newest(
    store: Objects, behind: Behind, tmp_path: Path
) -> None:
    first = Group(store, tmp_path / "one")
    first.save(5, 10, 15, 20)
    assert places(behind) == ["15", "20"]
    assert [text.startswith("checkpoint of step 20 is in the store") for text in first.told][-1]
    second = Group(store, tmp_path / "two")
    assert second.newest() == 20
    assert list((tmp_path / "two").glob(".*")) == []
    assert second.warned == []


def _on_one_host(rank: int, url: str, endpoint: str, folder: str, size: int) -> Any:
    """What a rank finds of what two ranks left, where all ranks are on one new host."""
    group = Group(Objects(url, endpoint), Path(folder), rank=rank, size=size, leads=rank == 0)
    found = group.checkpoints.newest()
    assert found
    numbers = [own["numbers"].clone() for own in found[1].of_others]
    return found[0].step, found[1].own, numbers


def _two_save(rank: int, url: str, endpoint: str, folder: str) -> None:
    group = Group(Objects(url, endpoint), Path(folder) / str(rank), rank=rank, size=2)
    group.save(5, own={"numbers": torch.full((100_000,), float(rank))})


@pytest.mark.parametrize("size", [1, 3])
def test_another_number_of_ranks_has_the_parts_of_all_which_each_host_brings_once(
    store: Objects, behind: Behind, door: S3Proxy, tmp_path: Path, size: int
) -> None:
    place = store.bucket.url, store.bucket.endpoint
    run_ranks(_two_save, 2, *place, str(tmp_path / "old"))
    whole = sum(len(behind.read(key)) for key in behind.keys("stage/checkpoints/") if key.endswith(".pt"))
    before = door.counts().bytes_down
    for step, own, numbers in run_ranks(_on_one_host, size, *place, str(tmp_path / "new"), size):
        assert (step, own) == (5, {})
        assert [each.unique().tolist() for each in numbers] == [[0.0], [1.0]]
    assert whole < door.counts().bytes_down - before < 1.5 * whole
    assert list((tmp_path / "new").glob(".fetched*")) == []


_DEATHS = {
    "before its first byte": "Objects.put_file = die",
    "before a file's parts are one file": "before('CompleteMultipartUpload')",
    "before its list of files": "Objects.put = die_at('part-0.json')",
    "before its mark": "Objects.put = die_at('manifest.json')",
    "after its mark": "RemoteCheckpoints._forget_old = die",
    "while the mark of an old one is removed": "Objects.remove = die",
    "after the mark of an old one is removed": "Objects.remove = once_then_die(Objects.remove)",
    "as the next attempt, before it sweeps": "Objects.remove = die\nGroup(store, Path(folder) / 'next')",
}
_COMMITTED = ("after its mark", "while the mark of an old one is removed", "after the mark of an old one is removed")

_PROGRAM = """
import os, signal, sys
from pathlib import Path
from infra import objects
from infra.objects import Objects
from infra.remote_checkpoints import RemoteCheckpoints
from tests.fixtures import groups
from tests.fixtures.groups import Group
import torch
groups.shared = lambda step: {"weights": torch.full((3_000_000,), float(step))}  # more than one part

def die(*a, **k):
    os.kill(os.getpid(), signal.SIGKILL)

def before(operation):
    store._of_files.meta.events.register(f"before-call.s3.{operation}", die)

def die_at(ending, put=Objects.put):
    return lambda self, key, data: die() if key.endswith(ending) else put(self, key, data)

def once_then_die(remove, calls=[]):
    return lambda self, keys: die() if calls else (calls.append(1), remove(self, keys))

url, *deaths = sys.argv[1:]
for number, (folder, death) in enumerate(zip(deaths[::2], deaths[1::2])):
    child = os.fork()
    if not child:
        store = Objects(f"{url}/{number}", os.environ["ORCHARD_S3_ENDPOINT"])
        group = Group(store, Path(folder))
        exec(death)
        group.save(15)
        os._exit(0)
    print(os.WTERMSIG(os.waitpid(child, 0)[1]), flush=True)
"""


def test_killed_in_each_phase_of_an_upload_the_one_before_loads_and_leftovers_are_swept(
    store: Objects, behind: Behind, tmp_path: Path
) -> None:
    url = store.bucket.url
    stores = [Objects(f"{url}/{number}", store.bucket.endpoint) for number in range(len(_DEATHS))]
    for number, each in enumerate(stores):
        Group(each, tmp_path / f"first-{number}").save(5, 10)
    arguments = [text for number, death in enumerate(_DEATHS.values()) for text in (tmp_path / f"n{number}", death)]
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, url, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.split() == [str(int(signal.SIGKILL))] * len(_DEATHS), done.stderr
    for number, (death, each) in enumerate(zip(_DEATHS, stores, strict=True)):
        after = Group(each, tmp_path / f"after-{number}")
        found = after.checkpoints.newest()
        assert found, death
        step = found[0].step
        assert step == (15 if death in _COMMITTED else 10), death
        assert found[1].shared["weights"].unique().tolist() == [float(step)], death
        marks = [key for key in behind.keys(f"{number}/stage/checkpoints/") if key.endswith("manifest.json")]
        places = {key.rpartition("/")[0] for key in behind.keys(f"{number}/stage/checkpoints/")}
        assert places == {mark.rpartition("/")[0] for mark in marks}, f"{death}: leftovers"
        assert after.warned == [], death
    assert behind.unfinished() == []


_DAMAGES: dict[str, tuple[str, Callable[[bytes], bytes | None]]] = {
    "a flipped byte": ("shared.pt", lambda data: data[:400] + bytes([data[400] ^ 1]) + data[401:]),
    "a file cut off": ("shared.pt", lambda data: data[:-1]),
    "no file": ("shared.pt", lambda data: None),
    "a mark cut off": ("manifest.json", lambda data: data[: len(data) // 2]),
    "an empty mark": ("manifest.json", lambda data: b""),
    "a flipped byte of what the mark says": ("manifest.json", lambda data: data.replace(b'"this"', b'"thiz"')),
    "a hash that is none": ("manifest.json", lambda data: data.replace(b'"sha256": "', b'"sha256": "z')),
}


@pytest.mark.parametrize("damage", _DAMAGES)
def test_a_damaged_newest_falls_back_loudly_before_anything_is_unpickled(
    store: Objects, behind: Behind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    Group(store, tmp_path / "one").save(5, 10)
    name, change = _DAMAGES[damage]
    key = _key(behind, 10, name)
    changed = change(behind.read(key))
    behind.remove(key) if changed is None else behind.write(key, changed)
    loaded: list[int] = []
    load = torch.load

    def watched(file: Path, **options: Any) -> Any:
        found = load(file, **options)
        loaded.append(found["progress"]["step"])
        return found

    monkeypatch.setattr(torch, "load", watched)
    second = Group(store, tmp_path / "two")
    assert second.newest() == 5
    assert loaded == [5]
    assert [text.startswith("checkpoint of step 10 is damaged in the store") for text in second.warned] == [True]


def test_a_damaged_local_one_is_brought_from_the_store(store: Objects, tmp_path: Path) -> None:
    Group(store, tmp_path).save(5, 10)
    (tmp_path / "step-0000000010" / "shared.pt").write_bytes(b"")
    again = Group(store, tmp_path)
    assert again.newest() == 10
    assert "step-0000000010 is damaged" in again.warned[0]


@pytest.mark.parametrize("change", [lambda data: data[:9], lambda data: b"[]", lambda data: None])
def test_a_damaged_record_of_an_attempt_loses_nothing(
    store: Objects, behind: Behind, tmp_path: Path, change: Callable[[bytes], bytes | None]
) -> None:
    Group(store, tmp_path / "one").save(5)
    Group(store, tmp_path / "two").save(10)
    record = behind.keys("stage/attempts/")[-1]
    changed = change(behind.read(record))
    behind.remove(record) if changed is None else behind.write(record, changed)
    third = Group(store, tmp_path / "three")
    assert third.newest() == 10
    assert any("record of attempt 2" in text for text in third.warned) == (changed is not None)
    assert places(behind) == ["10", "5"]


def test_a_group_that_was_given_up_commits_nothing_and_is_told(store: Objects, behind: Behind, tmp_path: Path) -> None:
    cut_off = Group(store, tmp_path / "one")
    cut_off.save(5)
    current = Group(store, tmp_path / "two")
    cut_off.save(20)
    for write in (lambda: cut_off.save(25), cut_off.checkpoints.require_current):
        with pytest.raises(GivenUp, match="may not write any more"):
            write()
    current.save(12)
    assert Group(store, tmp_path / "three").newest() == 12
    assert places(behind) == ["12", "5"], "what it wrote is swept"


def test_a_commit_that_was_on_its_way_when_the_next_attempt_began_counts_for_nothing(
    store: Objects, behind: Behind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off = Group(store, tmp_path / "one")
    cut_off.save(5)
    current = Group(store, tmp_path / "two")
    with monkeypatch.context() as patch:
        patch.setattr(cut_off.remote, "_require_current", lambda: None)  # it has just asked
        patch.setattr(cut_off.remote, "_forget_old", lambda: None)
        cut_off.save(20)
    assert places(behind) == ["20", "5"]
    assert Group(store, tmp_path / "a look").newest() == 5
    current = Group(store, tmp_path / "two")
    current.save(7, 12)
    assert Group(store, tmp_path / "three").newest() == 12
    assert places(behind) == ["12", "7"], "it takes no other's place either"


def test_later_local_ones_that_were_passed_over_do_not_push_out_new_ones(store: Objects, tmp_path: Path) -> None:
    """As where the store was silent for long, and another host of the group was lost meanwhile."""
    Group(store, tmp_path / "one").save(5)
    for step in (40, 50):
        shutil.copytree(tmp_path / "one" / "step-0000000005", tmp_path / "two" / f"step-{step:010d}")
        (tmp_path / "two" / f"step-{step:010d}" / "shared.pt").write_bytes(b"damaged")
    second = Group(store, tmp_path / "two")
    assert second.newest() == 5
    second.save(6, 7)
    assert [path.name for path in second.checkpoints.saved()] == ["step-0000000007", "step-0000000006"]
