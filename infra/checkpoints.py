"""Checkpoints: written whole or not at all, verified before anything is unpickled, the one before as a fallback.

Ranks of one host share a folder of its disk; with a store of objects behind it, no host needs the disk of another.
"""

import errno
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from infra import manifests
from infra.remote_checkpoints import Candidate, GivenUp, RemoteCheckpoints
from models.common.contract import LearnerState
from models.common.errors import CheckpointError
from models.common.loop import Progress

Value = TypeVar("Value")

_PREFIX = "step-"
_FENCE = "attempt"
_WAITS = "rank 0 waits for the store"
_FULL_BYTES = 1 << 20  # what a full disk may have left


class CheckpointStore:
    """The checkpoints of one stage. Every rank calls the same methods together.

    folder: where all ranks of a host have theirs; ranks of several hosts see one where the disk is shared.
    identity: what the stage is (config, seed, inputs); a checkpoint that was written for another is refused.
    warn: takes the text of a damaged checkpoint that was passed over.
    remote: where they are also kept, beside training; each host has a folder of its own then.
    leads: whether this rank is the first of those that share the folder.
    notice: whether a machine of the group is about to be taken away, as this rank knows; asked every `ask_every` steps.
    """

    def __init__(
        self,
        folder: Path,
        *,
        identity: str,
        keep: int,
        warn: Callable[[str], None],
        remote: RemoteCheckpoints | None = None,
        leads: bool | None = None,
        notice: Callable[[], bool] | None = None,
        ask_every: int = 1,
    ) -> None:
        self.folder = folder
        self.identity = identity
        self.keep = keep
        self.warn = warn
        self.remote = remote
        self.notice = notice
        self.ask_every = ask_every
        self._urgent = False
        self.rank, self.size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        self.leads = self.rank == 0 if leads is None else leads
        self.attempt = self._agree(secrets.token_hex(8))
        if self.leads:
            folder.mkdir(parents=True, exist_ok=True)
            for leftover in folder.glob(".*"):
                shutil.rmtree(leftover)
            (folder / _FENCE).write_text(self.attempt)
        self._together(lambda: remote.begin(self.attempt) if remote else None)

    def save(self, progress: Progress, state: LearnerState) -> None:
        """Writes what all ranks share once a host, and each rank's own part; commits when all have written.

        A death at any moment leaves the checkpoints before as they are: the rename is the commit. In the store it is
        written beside what comes next; while one is on its way, further ones stay on the workers' disks. Raises GivenUp
        where another attempt has begun since, CheckpointError where the disk is full.
        """
        self._require_uploads()
        name = f"{_PREFIX}{progress.step:010d}"
        draft = self.folder / f".{name}.{self.attempt}.partial"
        if self.leads:
            with self._room(draft, progress.step):
                draft.mkdir()
                torch.save({"progress": asdict(progress), "state": state.shared}, draft / "shared.pt")
        self._barrier()
        if state.own:
            with self._room(draft, progress.step):
                torch.save(state.own, draft / f"own-{self.rank}.pt")
        self._barrier()
        about = {
            "identity": self.identity,
            "step": progress.step,
            "workers": self.size,
            "own": bool(state.own),
            "attempt": self.attempt,
        }
        if self.leads:
            with self._room(draft, progress.step):
                self._commit(draft, name, about)
        self._barrier()
        if self.remote and self._urgent:
            self.remote.settle()
        if self.remote and not any(self._gathered(self.remote.busy)):
            self.remote.offer(self.folder / name, manifests.sealed(about))
            self._barrier()  # every rank has its links before the next save may delete what they are of
        if self.remote and self._urgent:
            self.remote.settle()  # the disk that has it is about to go
        self._urgent = False

    def wanted(self, step: int) -> bool:
        """Whether a machine is about to be taken away, which is told once: time enough for one more checkpoint."""
        if self.notice is None or step % self.ask_every:
            return False
        self._urgent = any(self._gathered(self.notice()))
        if self._urgent:
            self.notice = None
            if self.rank == 0:
                self.warn(f"step {step}: a machine is about to be taken away; a checkpoint is written before it is")
        return self._urgent

    def require_current(self) -> None:
        """Raises GivenUp where another attempt has begun since: this group was given up, and may not write any more.

        Every rank calls it; where the store is silent, that takes as long as the budget, and then raises StorageError.
        """
        self._require_uploads()
        self._of_first(lambda meet: self.remote.require_current(meet) if self.remote else None)
        self._require_own_folder()

    def newest(self) -> tuple[Progress, LearnerState] | None:
        """The newest checkpoint of which every rank has its part whole, or None; warns of each damaged one.

        A store that does not answer is waited for where the hosts' own folders have none in common.

        Raises CheckpointError where it belongs to another config, or to another engine, ZeRO stage or precision.
        """
        here, there = self._whole_ones(), self._in_store(wait=False)
        while True:
            choice = self._newest_of({**there, **here})
            if choice is None and self._store_was_silent():
                there = self._in_store(wait=True)  # to begin anew would be to lose what it has
                continue
            if choice is None:
                return None
            about = here.get(choice) or there[choice]
            self._require_fit(about)
            folder = self._fetched(choice, about, here)
            if all(self._gathered(folder is not None)):
                assert folder is not None
                return self._load(folder, about)
            here.pop(choice, None)
            there.pop(choice, None)

    def saved(self) -> list[Path]:
        """The committed checkpoints of this host, newest first."""
        return sorted(self.folder.glob(f"{_PREFIX}*"), reverse=True)

    @contextmanager
    def _room(self, draft: Path, step: int) -> Iterator[None]:
        """Raises CheckpointError where what is written finds the disk full; its space is free again then."""
        try:
            yield
        except (OSError, RuntimeError) as error:  # torch has an error of its own for a write that failed
            full = getattr(error, "errno", None) == errno.ENOSPC or shutil.disk_usage(self.folder).free < _FULL_BYTES
            if not full:
                raise
            shutil.rmtree(draft, ignore_errors=True)
            kept = [folder.name for folder in self.saved()]
            raise CheckpointError(
                f"the disk of {self.folder} is full: the checkpoint of step {step} could not be written\n"
                f"kept: {', '.join(kept) or 'none before it'}\nmake room there; the same --run-key goes on"
            ) from error

    def _require_own_folder(self) -> None:
        found = (self.folder / _FENCE).read_text()
        if found != self.attempt:
            raise GivenUp(
                f"attempt {found} has begun in {self.folder} since {self.attempt}, which may not write any more"
            )

    def _require_uploads(self) -> None:
        """Raises on every rank what ended the uploads of one."""
        self._raise_first(self.remote.error if self.remote else None)

    def _commit(self, draft: Path, name: str, about: dict[str, Any]) -> None:
        self._require_own_folder()
        manifests.write_manifest(draft, manifests.sealed(about))
        manifests.commit(draft, self.folder / name)
        earlier = [old for old in self.saved() if old.name < name]
        for old in set(self.saved()) - {self.folder / name, *earlier[: self.keep - 1]}:
            shutil.rmtree(old)  # a later one too: this attempt passed it over, and goes where it stands once more

    def _in_store(self, *, wait: bool) -> dict[Candidate, dict[str, Any]]:
        """What the store has committed, as rank 0 was told."""
        return dict(
            self._of_first(lambda meet: self.remote.committed(wait=wait, meanwhile=meet) if self.remote else {})
        )

    def _store_was_silent(self) -> bool:
        return self.remote is not None and self._agree(self.remote.silent)

    def _whole_ones(self) -> dict[Candidate, dict[str, Any]]:
        """What this host's folder has for this rank."""
        found = self._verified() if self.leads else None
        on_this_host = found if found is not None and self._alone else self._from_leader(found)
        return {
            (about["step"], about.get("attempt", "")): about
            for about, files in on_this_host
            if set(self._own_files(about)) <= set(files)
        }

    def _verified(self) -> list[tuple[dict[str, Any], list[str]]]:
        whole = []
        for folder in self.saved():
            try:
                manifest = manifests.verify(folder)
                manifests.require_sealed(manifest["about"], folder.name)
                whole.append((manifest["about"], list(manifest["files"])))
            except manifests.ManifestError as damage:
                self.warn(f"checkpoint {folder.name} is damaged and passed over: {damage}")
        return whole

    def _from_leader(self, found: Any) -> Any:
        """What the leading rank of this rank's host has verified: of the leaders before this rank, the last."""
        everyone = self._gathered(found)
        return next(each for each in reversed(everyone[: self.rank + 1]) if each is not None)

    def _newest_of(self, candidates: dict[Candidate, Any]) -> Candidate | None:
        """The newest one that no rank lacks."""
        common = set.intersection(*(set(each) for each in self._gathered(set(candidates))))
        return max(common, default=None)

    def _fetched(self, choice: Candidate, about: dict[str, Any], here: dict[Candidate, Any]) -> Path | None:
        """The folder with the checkpoint; brought from the store where this host lacks it; None where it is damaged.

        What all ranks of a host read is brought once for them.
        """
        if not self._spread_by_others(about):
            return self._fetched_here(choice, about, here)
        folder = self._fetched_here(choice, about, here) if self.leads else None
        [found] = self._from_leader([folder] if self.leads else None)
        return found

    def _fetched_here(self, choice: Candidate, about: dict[str, Any], here: dict[Candidate, Any]) -> Path | None:
        if choice in here:
            return self.folder / f"{_PREFIX}{choice[0]:010d}"
        assert self.remote is not None
        names, folder = ["shared.pt", *self._own_files(about)], self.folder / f".fetched-{self.rank}"
        try:
            return self.remote.fetch(choice, names, folder)
        except manifests.ManifestError as damage:
            self.warn(f"checkpoint of step {choice[0]} is damaged in the store and passed over: {damage}")
            return None

    def _load(self, folder: Path, about: dict[str, Any]) -> tuple[Progress, LearnerState]:
        of_others = self._spread_by_others(about)
        saved = torch.load(folder / "shared.pt", map_location="cpu", weights_only=True)
        own = [  # of the parts of others, which are mapped, a rank reads what it cuts out for itself
            torch.load(folder / name, map_location="cpu", weights_only=False, mmap=of_others)
            for name in self._own_files(about)
        ]
        if of_others:
            self._barrier()  # whoever shares the folder has it open
        if folder.name.startswith(".") and (self.leads or not of_others):
            shutil.rmtree(folder)
        progress = Progress(**saved["progress"])
        if of_others:
            return progress, LearnerState(saved["state"], of_others=tuple(own))
        return progress, LearnerState(saved["state"], own[0] if own else {})

    def _spread_by_others(self, about: dict[str, Any]) -> bool:
        """Whether it has parts of ranks that are not those of this group: another number wrote them."""
        return about["own"] and about["workers"] != self.size

    def _own_files(self, about: dict[str, Any]) -> list[str]:
        """The parts that this rank reads: its own, or everybody's where another number of workers wrote them."""
        ranks = range(about["workers"]) if self._spread_by_others(about) else [self.rank]
        return [f"own-{rank}.pt" for rank in ranks] if about["own"] else []

    def _require_fit(self, about: dict[str, Any]) -> None:
        where = f"the checkpoint of step {about['step']} in {self.folder}"
        if about["identity"] != self.identity:
            raise CheckpointError(
                f"{where} was written for another config, seed or input than this stage has\n"
                "use a new --run-key, or the config that this run key began with"
            )

    @property
    def _alone(self) -> bool:
        return self.size == 1

    def _agree(self, value: Value) -> Value:
        """Rank 0's value, on every rank."""
        return self._gathered(value)[0]

    def _gathered(self, value: Any) -> list[Any]:
        """Every rank's value, in the order of ranks."""
        if self._alone:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def _together(self, work: Callable[[], object]) -> None:
        """Does it on every rank, and raises on each what one of them raised: none is left waiting for another."""
        error: Exception | None = None
        try:
            work()
        except Exception as raised:  # noqa: BLE001 (it rises on every rank)
            error = raised
        self._raise_first(error)

    def _of_first(self, ask: Callable[[Callable[[], object]], Value]) -> Value:
        """What rank 0 is told, on every rank; or what it was refused with.

        The store may keep it waiting for longer than ranks wait for each other: meanwhile all of them meet.
        """
        answer: Any = None
        error: Exception | None = None
        if self.rank == 0:
            try:
                answer = ask(lambda: self._gathered(_WAITS))
            except Exception as raised:  # noqa: BLE001 (it rises on every rank)
                error = raised
        told = self._gathered(answer)[0]
        while self.rank and told == _WAITS:
            told = self._gathered(None)[0]
        self._raise_first(error)
        return told

    def _raise_first(self, error: Exception | None) -> None:
        """Raises on every rank the error of the first that has one."""
        first = next((each for each in self._gathered(error) if each is not None), None)
        if first is not None:
            raise error or first

    def _barrier(self) -> None:
        if not self._alone:
            dist.barrier()
