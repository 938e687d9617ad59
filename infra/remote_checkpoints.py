"""Checkpoints in a store of objects, written beside training: uploaded by a thread, committed by a manifest put last.

Each group of workers is an attempt, which notes at its start what it found committed. What an earlier group still
writes after that counts for nothing, and it is told so.
"""

import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from infra import manifests
from infra.manifests import MANIFEST, ManifestError
from infra.objects import Objects
from infra.processes import step_aside
from models.common.errors import StorageError

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 20.0
_LOOK_SECONDS = 0.5
_MEET_SECONDS = 2.0  # well within the silence that ranks take for a hang
_ATTEMPT = re.compile(r".*/(\d{6,})-(\w+)\.json")
_MARK = re.compile(rf".*/(\d{{10,}})-(\w+)/{re.escape(MANIFEST)}")

Candidate = tuple[int, str]  # a checkpoint's step, and the attempt that wrote it
Tell = Callable[[str], None]
Meanwhile = Callable[[], object]


def _nothing() -> None:
    """What nobody has to do meanwhile."""


class GivenUp(Exception):
    """This group of workers was given up, and another has gone on: what it has computed since is not needed."""


class RemoteCheckpoints:
    """The checkpoints of one stage in the store, as one rank of its workers writes and reads them.

    prefix: the stage's place in the store.
    budget_seconds: how long training goes on while the store does not answer; local checkpoints are made meanwhile.
    tell, warn: take the text of what went well, and of what did not.
    error: what ended the uploads for good: refused credentials, a newer attempt, a store silent beyond the budget.
    """

    def __init__(
        self,
        objects: Objects,
        prefix: str,
        *,
        rank: int,
        size: int,
        keep: int,
        budget_seconds: float,
        tell: Tell,
        warn: Tell,
    ) -> None:
        self.objects = objects
        self.prefix = prefix
        self.rank, self.size = rank, size
        self.keep = keep
        self.budget_seconds = budget_seconds
        self.tell, self.warn = tell, warn
        self.attempt = ""
        self.error: Exception | None = None
        self._begun = False
        self._silent_since: float | None = None
        self._uploading: threading.Thread | None = None

    def begin(self, attempt: str) -> None:
        """Makes this attempt the one that may write, on rank 0; the others wait for it.

        Where the store does not answer, that is made up for before the first upload.
        """
        self.attempt = attempt
        if self.rank == 0:
            try:
                self._begin()
            except StorageError as silent:
                self._note_silence(silent)

    def committed(self, *, wait: bool, meanwhile: Meanwhile = _nothing) -> dict[Candidate, dict[str, Any]]:
        """What this attempt may resume from: what its checkpoints are about, by step and attempt.

        Nothing where the store does not answer; or, if that is to be waited for, StorageError beyond the budget.
        `meanwhile` is called again and again while it is waited for.
        """
        if wait:
            return self._insist(self._committed, meanwhile)
        try:
            found = self._committed()
        except StorageError as silent:
            self._note_silence(silent)
            return {}
        self._note_answer()
        return found

    @property
    def silent(self) -> bool:
        """Whether the store did not answer when it was asked last."""
        return self._silent_since is not None

    def fetch(self, candidate: Candidate, names: list[str], folder: Path) -> Path:
        """A new folder with these files of a checkpoint; raises ManifestError where one is not as it was written."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        files = self._insist(lambda: self._manifest(candidate))["files"]
        for name in names:
            if name not in files:
                raise ManifestError(f"{self._place(candidate)} has no {name}")
            key = f"{self._place(candidate)}/{name}"
            self._insist(partial(self.objects.get_file, key, folder / name, files[name]))
        return folder

    @property
    def busy(self) -> bool:
        """Whether an earlier checkpoint is still on its way."""
        return self._uploading is not None and self._uploading.is_alive()

    def settle(self) -> None:
        """Returns when nothing is on its way any more, however that ended."""
        if self._uploading:
            self._uploading.join()

    def offer(self, folder: Path, about: dict[str, Any]) -> None:
        """Begins to upload this rank's part of a committed local checkpoint. Every rank calls it for the same ones."""
        names = [*(["shared.pt"] if self.rank == 0 else []), *([f"own-{self.rank}.pt"] if about["own"] else [])]
        files = {name: entry for name, entry in manifests.read_manifest(folder)["files"].items() if name in names}
        waiting = folder.parent / f".upload-{self.rank}"  # links: the local one may be deleted before it is uploaded
        shutil.rmtree(waiting, ignore_errors=True)
        waiting.mkdir()
        for name in files:
            os.link(folder / name, waiting / name)
        self._uploading = threading.Thread(target=self._upload, args=(waiting, files, about), daemon=True)
        self._uploading.start()

    def require_current(self, meanwhile: Meanwhile = _nothing) -> None:
        """Raises GivenUp where another attempt has begun since this one; asks the store, for as long as the budget.

        `meanwhile` is called again and again while the store is waited for.
        """
        self._insist(self._require_current, meanwhile)

    def _upload(self, waiting: Path, files: dict[str, Any], about: dict[str, Any]) -> None:
        """What the thread does: whatever ends it too early is raised where training saves next."""
        place, began = self._place((about["step"], self.attempt)), time.monotonic()
        step_aside()
        try:
            if self.rank == 0 and not self._begun:
                self._insist(self._begin)
            for name in files:
                self._insist(partial(self.objects.put_file, f"{place}/{name}", waiting / name))
            self._insist(lambda: self.objects.put(f"{place}/part-{self.rank}.json", json.dumps(files).encode()))
            if self.rank == 0:
                size = self._insist(lambda: self._commit(place, about))
                seconds = time.monotonic() - began
                self.tell(
                    f"checkpoint of step {about['step']} is in the store: {size} bytes, {seconds:.1f} s beside training"
                )
        except Exception as error:  # noqa: BLE001 (training raises it where it saves next)
            self.error = error
        finally:
            shutil.rmtree(waiting, ignore_errors=True)

    def _begin(self) -> None:
        accepted = self._accepted()
        records = self._attempts()
        number = 1 + max((number for number, _, _ in records), default=0)
        record = {"attempt": self.attempt, "accepted": accepted}
        self.objects.put(f"{self.prefix}/attempts/{number:06d}-{self.attempt}.json", json.dumps(record).encode())
        self._begun = True
        kept = {self._place(candidate) for candidate in accepted}
        places = {key: key.rpartition("/")[0] for key in self._keys(f"{self.prefix}/checkpoints")}
        of_others = {key: place for key, place in places.items() if not place.endswith(self.attempt)}
        self.objects.remove([key for key, place in of_others.items() if place not in kept])
        with suppress(StorageError):  # a server need not know of this; what it keeps of them nobody reads
            self.objects.drop_unfinished(f"{self.prefix}/checkpoints/")

    def _committed(self) -> dict[Candidate, dict[str, Any]]:
        found = {}
        for candidate in self._accepted():
            try:
                found[candidate] = self._manifest(candidate)["about"]
            except ManifestError as damage:
                self.warn(f"checkpoint of step {candidate[0]} is damaged in the store and passed over: {damage}")
        return found

    def _commit(self, place: str, about: dict[str, Any]) -> int:
        """Waits for every rank's part, then makes the checkpoint one; returns its size in bytes."""
        parts = [f"{place}/part-{rank}.json" for rank in range(self.size)]
        while not set(parts) <= set(self._keys(place)):
            self._require_current()  # the next attempt sweeps what would be waited for
            time.sleep(_LOOK_SECONDS)
        files: dict[str, Any] = {}
        for key in parts:
            files.update(self._part(key))
        self._require_current()
        text = json.dumps({"format": 1, "about": about, "files": files}, indent=1, sort_keys=True) + "\n"
        self.objects.put(f"{place}/{MANIFEST}", text.encode())
        self._forget_old()
        return sum(file["bytes"] for file in files.values())

    def _part(self, key: str) -> dict[str, Any]:
        try:
            return json.loads(self.objects.get(key) or b"")
        except ValueError:
            raise StorageError(f"{key} is not as it was written\nfits: a store that keeps what it takes") from None

    def _require_current(self) -> None:
        attempts = self._attempts()
        if attempts and attempts[-1][1] != self.attempt:
            raise GivenUp(f"attempt {attempts[-1][1]} has begun since {self.attempt}, which may not write any more")

    def _forget_old(self) -> None:
        """Removes the checkpoints that nobody goes back to: all but the newest, and those that count for nothing."""
        accepted = sorted(self._accepted(), reverse=True)
        self._require_current()
        for candidate in set(self._marks()) - set(accepted[: self.keep]):
            keys = self._keys(self._place(candidate))
            self.objects.remove([f"{self._place(candidate)}/{MANIFEST}"])  # without its mark it is none from here on
            self.objects.remove(keys)

    def _insist(self, attempt: Callable[[], Any], meanwhile: Meanwhile = _nothing) -> Any:
        """The value, asked for again while the store is silent; raises StorageError when it is so beyond the budget."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                value = attempt()
            except StorageError as silent:
                self._note_silence(silent)
                until = time.monotonic() + pause
                while (left := until - time.monotonic()) > 0:
                    time.sleep(min(left, _MEET_SECONDS))
                    meanwhile()
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            else:
                self._note_answer()
                return value

    def _note_answer(self) -> None:
        if self._silent_since is not None:
            self.tell(f"the store answers again after {time.monotonic() - self._silent_since:.0f} s")
        self._silent_since = None

    def _note_silence(self, silent: StorageError) -> None:
        """Tells of the first silence; raises StorageError of one that has lasted beyond the budget."""
        now, why = time.monotonic(), str(silent).splitlines()[0]
        if self._silent_since is None:
            self._silent_since = now
            self.warn(
                f"the store does not answer; training goes on for up to {self.budget_seconds:.0f} s "
                f"with checkpoints on local disks: {why}"
            )
        if now - self._silent_since > self.budget_seconds:
            raise StorageError(
                f"the store has not answered for {self.budget_seconds:.0f} s, which is how long training goes on "
                f"without it: {why}\nits checkpoints are on the workers' disks: when the store is back, the same "
                "--run-key goes on from the newest that all workers have"
            )

    def _accepted(self) -> list[Candidate]:
        """What counts: what the newest attempt found committed, its own, and what no known attempt wrote.

        Of an attempt whose record is damaged nobody knows what it found; everything that is committed counts then.
        """
        marks, attempts = self._marks(), self._attempts()
        if not attempts:
            return marks
        number, _, key = attempts[-1]
        try:
            found = {(int(step), str(by)) for step, by in json.loads(self.objects.get(key) or b"")["accepted"]}
        except (ValueError, TypeError, KeyError):
            self.warn(f"the record of attempt {number} in the store is damaged: all that is committed there counts")
            return marks
        given_up = {attempt for _, attempt, _ in attempts[:-1]}
        return [mark for mark in marks if mark in found or mark[1] not in given_up]

    def _attempts(self) -> list[tuple[int, str, str]]:
        """Every attempt's number, name and key, in the order in which they began."""
        found = (_ATTEMPT.fullmatch(key) for key in self._keys(f"{self.prefix}/attempts"))
        return sorted((int(each[1]), each[2], each[0]) for each in found if each)

    def _marks(self) -> list[Candidate]:
        """Every checkpoint that has its manifest."""
        found = (_MARK.fullmatch(key) for key in self._keys(f"{self.prefix}/checkpoints"))
        return [(int(each[1]), each[2]) for each in found if each]

    def _manifest(self, candidate: Candidate) -> dict[str, Any]:
        key = f"{self._place(candidate)}/{MANIFEST}"
        text = self.objects.get(key, most=manifests.MOST_BYTES)
        manifest = manifests.parse_manifest(text or b"", key)
        manifests.require_sealed(manifest["about"], key)
        return manifest

    def _place(self, candidate: Candidate | Sequence[Any]) -> str:
        step, attempt = candidate
        return f"{self.prefix}/checkpoints/{step:010d}-{attempt}"

    def _keys(self, place: str) -> list[str]:
        return [each.key for each in self.objects.found(f"{place}/")]
