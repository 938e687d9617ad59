"""Checkpoints: written whole or not at all, verified before anything is unpickled, the one before as a fallback."""

import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from infra import manifests
from models.common.contract import LearnerState
from models.common.errors import CheckpointError
from models.common.loop import Progress

_PREFIX = "step-"


class CheckpointStore:
    """The checkpoints of one stage, in one folder that all ranks see. Every rank calls the same methods together.

    identity: what the stage is (config, seed, inputs); a checkpoint that was written for another is refused.
    warn: takes the text of a damaged checkpoint that was passed over.
    """

    def __init__(self, folder: Path, *, identity: str, keep: int, warn: Callable[[str], None]) -> None:
        self.folder = folder
        self.identity = identity
        self.keep = keep
        self.warn = warn
        self.rank, self.size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        if self.rank == 0:
            folder.mkdir(parents=True, exist_ok=True)
            for leftover in folder.glob(".*"):
                shutil.rmtree(leftover)
        self._barrier()

    def save(self, progress: Progress, state: LearnerState) -> None:
        """Writes what all ranks share once, and each rank's own part; rank 0 commits when all have written.

        A death at any moment leaves the checkpoints before as they are: the rename is the commit.
        """
        name = f"{_PREFIX}{progress.step:010d}"
        draft = self.folder / f".{name}.partial"
        if self.rank == 0:
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            torch.save({"progress": asdict(progress), "state": state.shared}, draft / "shared.pt")
        self._barrier()
        if state.own:
            torch.save(state.own, draft / f"own-{self.rank}.pt")
        self._barrier()
        if self.rank == 0:
            about = {"identity": self.identity, "step": progress.step, "workers": self.size, "own": bool(state.own)}
            manifests.write_manifest(draft, about)
            manifests.commit(draft, self.folder / name)
            for old in self.saved()[self.keep :]:
                shutil.rmtree(old)
        self._barrier()

    def newest(self) -> tuple[Progress, LearnerState] | None:
        """The newest checkpoint that is whole, or None; warns of each damaged one that it passes over.

        Raises CheckpointError where it belongs to another config, or to another number of workers and cannot be
        converted.
        """
        folder, about = self._agree(self._newest_whole() if self.rank == 0 else None)
        if folder is None:
            return None
        self._require_fit(folder, about)
        saved = torch.load(folder / "shared.pt", map_location="cpu", weights_only=True)
        own = {}
        if about["own"]:
            own = torch.load(folder / f"own-{self.rank}.pt", map_location="cpu", weights_only=False)
        return Progress(**saved["progress"]), LearnerState(shared=saved["state"], own=own)

    def saved(self) -> list[Path]:
        """The committed checkpoints, newest first."""
        return sorted(self.folder.glob(f"{_PREFIX}*"), reverse=True)

    def _newest_whole(self) -> tuple[Path | None, dict[str, Any]]:
        for folder in self.saved():
            try:
                return folder, manifests.verify(folder)["about"]
            except manifests.ManifestError as damage:
                self.warn(f"checkpoint {folder.name} is damaged and passed over: {damage}")
        return None, {}

    def _require_fit(self, folder: Path, about: dict[str, Any]) -> None:
        if about["identity"] != self.identity:
            raise CheckpointError(
                f"{folder} was written for another config, seed or input than this stage has\n"
                "use a new --run-key, or the config that this run key began with"
            )
        if about["own"] and about["workers"] != self.size:
            raise CheckpointError(
                f"{folder} holds state that DeepSpeed spread over {about['workers']} workers; here are {self.size}\n"
                f"resume with {about['workers']} workers; a cluster with zero_stage=0 resumes on any number"
            )

    def _agree(self, choice: tuple[Path | None, dict[str, Any]] | None) -> tuple[Path | None, dict[str, Any]]:
        """Rank 0's choice, on every rank."""
        if self.size == 1:
            assert choice is not None
            return choice
        box = [choice]
        dist.broadcast_object_list(box, src=0)
        assert box[0] is not None
        return box[0]

    def _barrier(self) -> None:
        if self.size > 1:
            dist.barrier()
