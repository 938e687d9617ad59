"""The folder of a run: what was asked, what each stage did and when, and what it left."""

import json
import os
import re
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import psutil
from pydantic import Field

from infra import clusters, manifests
from infra.json_lines import append_line, read_lines
from infra.processes import Identity
from infra.settings import settings
from models.common import errors
from models.common.config import Config
from models.common.errors import Cancelled, CheckpointError, ConfigError, OrchardError

Kind = Literal["prepare", "train", "generate", "evaluate", "publish"]
State = Literal["running", "finished", "cancelled", "failed", "broken off"]
_ASKED, _SUMMARY = "asked.json", "summary.json"
_KEY = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


def new_key(workload: str, preset: str, seed: int) -> str:
    """A run key that tells runs apart, for a person and for a second run in the same second."""
    return f"{workload}-{preset}-{seed}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def runs() -> list["RunFolder"]:
    """The runs that are kept here, and on the disks that clusters share; the one started last comes first."""
    storages = {settings().home, *(clusters.named(name).storage or settings().home for name in clusters.names())}
    kept = [file.parent for storage in storages for file in (storage / "runs").glob(f"*/{_ASKED}")]
    folders = [RunFolder(folder.name, folder.parent.parent) for folder in kept]
    return sorted(folders, key=lambda folder: folder.asked().started, reverse=True)


class Asked(Config):
    """How a run was started the last time: all that it takes to start it again, and by which process."""

    workload: str
    preset: str
    cluster: str
    seed: int
    overrides: dict[str, Any]
    started_in: Path = Field(default_factory=Path.cwd)
    flow_run: str | None = None
    root_flow_run: str | None = None  # the flow run that was asked for: its own, or the one that it is a part of
    started: float = Field(default_factory=time.time)  # seconds since 1970
    host: str = Field(default_factory=socket.gethostname)
    pid: int = Field(default_factory=os.getpid)
    process_created: float = Field(default_factory=lambda: psutil.Process().create_time())


class RunFolder:
    """One run's folder, found by its key. A second process that opens the same key sees the same run."""

    def __init__(self, run_key: str, storage: Path | None = None) -> None:
        if not _KEY.fullmatch(run_key):
            raise ConfigError(
                f"'{run_key}' is no run key\nfits: 1 to 63 of a-z, 0-9, '.', '_' and '-', the first a letter or digit"
            )
        self.key = run_key
        self.folder = (storage or settings().home) / "runs" / run_key

    def claim(self, asked: dict[str, Any]) -> None:
        """Keeps what the run is, or checks that it is still the same.

        Raises CheckpointError where the key belongs to a run with another config, naming what differs.
        """
        file = self.folder / "run.json"
        if file.exists():
            differing = _differences(json.loads(file.read_text()), json.loads(json.dumps(asked)))
            if differing:
                raise CheckpointError(
                    f"run key '{self.key}' began with another config\n" + "\n".join(differing[:8]) + "\n"
                    "use a new --run-key, or repeat the options that this run key began with"
                )
            return
        self.write(file.name, json.dumps(asked, indent=1, sort_keys=True))

    def note_start(self, asked: Asked) -> None:
        """Keeps how the run was started, now."""
        self.write(_ASKED, asked.model_dump_json(indent=1))

    def asked(self) -> Asked:
        """How the run was started the last time; raises ConfigError where no run has this key."""
        try:
            return Asked.model_validate_json((self.folder / _ASKED).read_text())
        except FileNotFoundError:
            raise ConfigError(
                f"there is no run '{self.key}' in {self.folder.parent}\ntry: orchard status, which lists them"
            ) from None

    def running_pid(self) -> int | None:
        """The process of this machine that runs it now, or None."""
        if not (self.folder / _ASKED).exists():
            return None
        asked = self.asked()
        if asked.host != socket.gethostname():
            return None
        alive = Identity(asked.pid, asked.process_created).alive()
        return asked.pid if alive and not self._ended_since(asked.started) else None

    def state(self) -> State:
        """How the run stands, as far as this machine knows."""
        if self.running_pid():
            return "running"
        since = self.asked().started
        if self._ended_since(since):
            return "finished"
        if self.was_cancelled(since):
            return "cancelled"
        return "failed" if self.first_error(since) else "broken off"

    def finish(self, summary: str) -> None:
        """Keeps what came out, as JSON."""
        self.write(_SUMMARY, summary)

    def _ended_since(self, since: float) -> bool:
        file = self.folder / _SUMMARY
        return file.exists() and file.stat().st_mtime >= since

    def write(self, name: str, text: str) -> None:
        """Replaces a file of the run's folder: a reader sees the old one or the new one, whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / f"{name}.partial"
        draft.write_text(text + "\n")
        draft.rename(self.folder / name)

    def stage(self, name: str) -> "StageFolder":
        return StageFolder(self.folder / name)

    @contextmanager
    def timed(self, kind: Kind, stage: str) -> Iterator[None]:
        """Notes when the block began and ended, and what it raised."""
        begin = time.time()
        try:
            yield
        except Exception as error:
            told = {"time": time.time(), "stage": stage, "kind": type(error).__name__, "text": str(error)}
            append_line(self.folder / "errors.jsonl", told)
            raise
        finally:
            append_line(
                self.folder / "timeline.jsonl", {"kind": kind, "stage": stage, "start": begin, "end": time.time()}
            )

    def first_error(self, since: float) -> OrchardError | None:
        """The error that ended the run: later ones follow from it. None where nothing was raised on purpose."""
        for told in read_lines(self.folder / "errors.jsonl"):
            kind = getattr(errors, told["kind"], None)
            if told["time"] >= since and kind is not None:
                return kind(told["text"])
        return None

    def cancel(self) -> None:
        """Keeps every stage that has not begun from beginning."""
        self.write("cancelled", str(time.time()))

    def was_cancelled(self, since: float) -> bool:
        """Whether somebody has cancelled the run after `since`."""
        file = self.folder / "cancelled"
        return file.exists() and float(file.read_text()) >= since

    def refuse_if_cancelled(self, since: float) -> None:
        """Raises Cancelled where the run was cancelled after `since`."""
        if self.was_cancelled(since):
            raise Cancelled(f"run '{self.key}' was cancelled\nthe same --run-key goes on from its checkpoints")

    def note_stop(self, found: dict[str, Any]) -> None:
        """Keeps what was found when the run's jobs were stopped."""
        append_line(self.folder / "stops.jsonl", {"time": time.time(), "found": found})

    def stops(self, since: float) -> list[dict[str, Any]]:
        """What was found each time that the run's jobs were stopped after `since`."""
        return [line["found"] for line in read_lines(self.folder / "stops.jsonl") if line["time"] >= since]

    def seconds(self, since: float) -> dict[str, float]:
        """Wall seconds from `since` to now by kind; where stages ran side by side, their time counts once.

        `until_first_step` is the part of train in which stages were starting up. `overhead` is the time in which
        none of the kinds was under way.
        """
        spans = [
            (line["kind"], max(line["start"], since), line["end"])
            for line in read_lines(self.folder / "timeline.jsonl")
            if line["end"] > since
        ]
        now = time.time()
        kinds: tuple[Kind, ...] = ("prepare", "train", "generate", "evaluate", "publish")
        seconds = {kind: _covered([(a, b) for k, a, b in spans if k == kind]) for kind in kinds}
        seconds["until_first_step"] = _covered(self._starting_spans(since))
        seconds["total"] = now - since
        seconds["overhead"] = seconds["total"] - _covered([(a, b) for _, a, b in spans])
        return {kind: round(value, 2) for kind, value in seconds.items()}

    def _starting_spans(self, since: float) -> list[tuple[float, float]]:
        spans = []
        for line in read_lines(self.folder / "timeline.jsonl"):
            if line["kind"] == "train" and line["end"] > since:
                events = read_lines(self.stage(line["stage"]).events)
                first = [e["time"] for e in events if e["kind"] == "step" and e["time"] >= max(line["start"], since)]
                spans.append((max(line["start"], since), min([*first, line["end"]])))
        return spans


class StageFolder:
    """One stage's folder in a run: its request, events, checkpoints and result."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.request = folder / "request.json"
        self.events = folder / "events.jsonl"
        self.failure = folder / "failure.json"
        self.checkpoints = folder / "checkpoints"
        self.result = folder / "result"

    def record(self, kind: str, **values: Any) -> None:
        """Appends one event; a reader sees whole lines only."""
        append_line(self.events, {"time": time.time(), "kind": kind, **values})

    def fail(self, told: dict[str, Any]) -> None:
        """Keeps what the job ends with, as another attempt would meet it again."""
        draft = self.failure.with_suffix(".partial")
        draft.write_text(json.dumps(told))
        draft.rename(self.failure)

    def flush(self) -> None:
        """Lets everybody see what was recorded."""

    def deliver(self) -> None:
        """Lets everybody see the result."""

    def finished(self) -> str | None:
        """The fingerprint of the verified result, or None where there is none yet.

        Raises CheckpointError where the result is there and damaged.
        """
        if not self.result.exists():
            return None
        try:
            manifests.verify(self.result)
        except manifests.ManifestError as damage:
            raise CheckpointError(f"{damage}\ndelete {self.result} to compute it again") from None
        return manifests.fingerprint(self.result)


def leave(after: float) -> None:
    """Ends this process in so many seconds, whatever its threads are at; returns at once."""
    timer = threading.Timer(after, os._exit, args=(128 + signal.SIGTERM,))
    timer.daemon = True
    timer.start()


def _covered(spans: list[tuple[float, float]]) -> float:
    """Length of the union of intervals."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def _differences(before: Any, now: Any, path: str = "") -> list[str]:
    """One line for each leaf in which two JSON values differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted(before.keys() | now.keys())
        return [
            line for key in keys for line in _differences(before.get(key), now.get(key), f"{path}.{key}".strip("."))
        ]
    return [] if before == now else [f"{path}: began with {before!r}, asked for now: {now!r}"]


def work_from(folder: Path) -> None:
    """Lets relative paths and the user's own modules mean what they do where the run was started.

    Installed modules come first. On a machine that has no such folder, paths stay as they are.
    """
    if folder.is_dir():
        os.chdir(folder)
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


class StageRequest(Config):
    """What a Ray job is asked to do; written into the stage's folder, so that no argument list carries it."""

    run_key: str
    stage: str
    config_class: str  # "models.relay.config:TeacherConfig"
    config: dict[str, Any]
    cluster: dict[str, Any]
    seed: int
    inputs: dict[str, Path]
    input_sha256: dict[str, str]
    start_from: Path | None = None
    folder: Path  # on the machine of the flow, and of every machine that shares its disk
    storage: str | None = None  # a store of objects through which the others get the request, and give the result
    started_in: Path = Field(default_factory=Path.cwd)  # what relative paths and the user's own modules are of

    def identity(self) -> str:
        """Fingerprint of what determines the result: not where it runs, nor how often it is saved."""
        science = {"config_class", "config", "seed", "input_sha256"}
        kept = {name: value for name, value in self.model_dump(mode="json").items() if name in science}
        return _Science.model_validate(kept).fingerprint()


class _Science(Config):
    config_class: str
    config: dict[str, Any]
    seed: int
    input_sha256: dict[str, str]
