"""What a retraining reads and keeps outside: the champion with its lineage, the key of its run, its decisions."""

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra import artifacts, clusters, manifests
from infra.fingerprint import Fingerprint, fingerprint_of
from infra.runs import RunFolder, work_from
from infra.settings import settings
from models.common import workloads
from models.common.config import Config
from models.common.contest import CONTEST_FILE
from models.common.contract import WorkloadConfig
from models.common.errors import ConfigError, RegistryError
from models.common.handles import Checkpoint
from models.common.promotion import Case, Decision

STAGE = "champion"
RETRAIN_FILE = "retrain.json"

_DECISION_FILE = "decision.json"
_KEY_DIGITS = 10
# Cases that another retraining of the same candidate would meet again.
_FINAL: tuple[Case, ...] = ("worse", "too small a gain", "within noise", "denied")


@dataclass(frozen=True)
class Champion:
    """The version that holds the stage, verified, and what its run left in it."""

    version: str
    checkpoint: Checkpoint
    config: dict[str, Any]
    fingerprint: Any  # as it was published; None where it was before there were any


@dataclass(frozen=True)
class Retraining:
    """What is asked, and what a run of it would be made of now."""

    workload: str
    preset: str
    cluster: str
    seed: int
    overrides: dict[str, Any]
    config: WorkloadConfig
    fingerprint: Fingerprint

    def folder(self, champion: str = "") -> RunFolder:
        """The run of the candidate against this version, or against none.

        Its key follows from what it is made of: asking the same again goes on with the same run.
        """
        made_of = f"{self.fingerprint.model_dump_json()} {self.config.fingerprint()}"
        digits = hashlib.sha256(made_of.encode()).hexdigest()[:_KEY_DIGITS]
        key = f"{self.workload}-{self.preset}-retrain-{digits}-{champion or 'first'}"
        return RunFolder(key, clusters.named(self.cluster).storage)


class Record(Config):
    """A decision, when it was made, and what it was about."""

    workload: str
    preset: str
    seed: int
    run_key: str
    time: str  # such as "2026-11-21T09:30:00Z"
    decision: Decision
    carried_out: bool  # false where the candidate was to be promoted, and the registry did not take it


def spec_of(workload: str, version: str) -> str:
    return f"{workload}@{version}" if version else ""


def open_retraining(
    workload: str, preset: str, cluster: str, seed: int, overrides: dict[str, Any], *, approval: bool
) -> Retraining:
    """What is asked, checked: raises ConfigError for what cannot work, DataError for files that are not there."""
    config = workloads.preset(workload, preset).with_overrides(overrides)
    clusters.named(cluster)
    work_from(Path.cwd())
    config.check_here()
    if approval and not settings().prefect_api:
        raise ConfigError(
            "approval needs a Prefect server on which somebody can answer, and there is none\n"
            "start one: orchard up; or set PREFECT_API_URL"
        )
    return Retraining(workload, preset, cluster, seed, overrides, config, fingerprint_of(workload, config, seed))


def require_registry() -> None:
    """Raises RegistryError where registry or remote cannot be used, or where the registry is gone.

    A run would make a registry where there is none; a retraining would then crown the first version that comes.
    """
    place = settings()
    left = next(place.runs.glob("*/artifact"), None) or next((Path(place.remote) / "files").glob("md5/*"), None)
    if left and artifacts.is_missing():
        raise RegistryError(
            f"there is no registry at {place.registry}, and yet versions were published: {left} is left of one\n"
            "fits: the registry that they are in\nset ORCHARD_REGISTRY to where it is now, or restore it from a backup"
        )
    artifacts.require_access()


def champion_version(workload: str) -> str:
    """The version that is champion, or "" where there is none. Raises RegistryError."""
    return next((each.version for each in artifacts.versions(workload) if STAGE in each.stages), "")


def read_champion(workload: str, version: str) -> Champion:
    """The champion, every byte verified; raises RegistryError where it cannot be trusted."""
    folder = artifacts.pull(spec_of(workload, version)).folder
    try:
        config, lineage = (json.loads((folder / name).read_text()) for name in ("config.json", "lineage.json"))
    except (OSError, ValueError) as fault:
        raise RegistryError(
            f"{spec_of(workload, version)} says nothing of how it was made: {fault}\n"
            f"fits: a champion that `orchard run` published\npromote such a one: orchard list {workload}"
        ) from None
    checkpoint = Checkpoint(name=spec_of(workload, version), folder=folder, sha256=manifests.fingerprint(folder))
    return Champion(version, checkpoint, config, lineage.get("fingerprint"))


def candidate_of(workload: str, run_key: str) -> str:
    """The version that this run has published, or "". Raises RegistryError."""
    return next((each.version for each in artifacts.versions(workload) if each.run_key == run_key), "")


def taken_back(workload: str, now: Fingerprint) -> str:
    """A version of the same fingerprint that was champion until somebody took it back, or "". Raises RegistryError."""
    gone = list(dict.fromkeys(each.version for each in artifacts.history(workload, STAGE) if each.taken_back))
    known = {each.version: each for each in artifacts.versions(workload)}
    lineages = artifacts.read_many([known[version] for version in gone], ["lineage.json"]) if gone else []
    for version, found in zip(gone, lineages, strict=True):
        if isinstance(found, RegistryError):  # what cannot be read any more is not what would be promoted again
            continue
        if json.loads(found.get("lineage.json", b"{}")).get("fingerprint") == now.model_dump(mode="json"):
            return spec_of(workload, version)
    return ""


def seed_of(run_key: str) -> int:
    """The seed of a contest's items: others for each candidate, as luck on the same ones would pile up."""
    return int(hashlib.sha256(run_key.encode()).hexdigest()[:8], 16)


def read_contest(folder: Path) -> dict[str, Any]:
    """What a contest's job has left; nothing where it left none."""
    file = folder / CONTEST_FILE
    return json.loads(file.read_text()) if file.exists() else {}


def note_retraining(folder: RunFolder, champion: str, changed: tuple[str, ...]) -> None:
    """Keeps in a candidate's run, for its lineage, that it is one, and whose."""
    folder.write(RETRAIN_FILE, json.dumps({"champion": champion, "changed": changed}, indent=1))


def retraining_of(folder: RunFolder) -> dict[str, Any]:
    """What a run's lineage says of the retraining that it belongs to; nothing where it belongs to none."""
    file = folder.folder / RETRAIN_FILE
    return {"retrain": json.loads(file.read_text())} if file.exists() else {}


def record(workload: str, preset: str, seed: int, folder: RunFolder, decision: Decision, carried_out: bool) -> Record:
    """Keeps the decision: in the run's folder where a candidate was wanted, and in the workload's list of them all."""
    told = Record(
        workload=workload,
        preset=preset,
        seed=seed,
        run_key=folder.key,
        time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        decision=decision,
        carried_out=carried_out,
    )
    if decision.action in {"keep", "promote"}:
        folder.write(_DECISION_FILE, told.model_dump_json(indent=1))
    listed = settings().home / "retraining" / f"{workload}.jsonl"
    listed.parent.mkdir(parents=True, exist_ok=True)
    with listed.open("a") as stream:
        stream.write(told.model_dump_json() + "\n")
    return told


def judged_before(folder: RunFolder) -> str:
    """Why the candidate of this run was not promoted, where another try would end alike; else ""."""
    file = folder.folder / _DECISION_FILE
    if not file.exists():
        return ""
    told = Record.model_validate_json(file.read_text())
    if told.decision.case not in _FINAL:
        return ""
    return f"the same candidate was judged at {told.time}, and nothing has changed since\n{told.decision.reason}"
