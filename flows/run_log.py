"""What a run has said: the lines of all its stages in the order in which they came."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from flows.finding import Found, server
from flows.progress import plain_line
from infra.json_lines import read_lines
from infra.progress import StageView
from infra.runs import RunFolder
from models.common.config import unknown
from models.common.errors import ConfigError

if TYPE_CHECKING:
    from flows.operating import Seen

Level = Literal["info", "warning", "error"]
_LEVELS: dict[str, Level] = {"warning": "warning", "failed": "error"}


@dataclass(frozen=True)
class Line:
    """One line of a stage, or of the run where it names none; time is in seconds since 1970."""

    time: float
    stage: str
    text: str
    level: Level = "info"


def log_of(found: Found, stage: str | None) -> "FolderLog | ServerLog":
    """The run's lines: from its folder, or from the server where the folder is on another machine.

    Raises ConfigError where the run has begun, and has no such stage.
    """
    if found.folder is None:
        assert found.seen is not None, "a run that is found is somewhere"
        return ServerLog(found.seen, stage)
    log = FolderLog(found.folder, stage)
    log.require_stage()
    return log


class ServerLog:
    """The lines of a flow run, each given once. A stage's lines begin with its name."""

    def __init__(self, run: "Seen", stage: str | None = None) -> None:
        self.run = run
        self.stage = stage
        self._given = 0

    def new_lines(self) -> list[Line]:
        """What has come since this was asked last, oldest first."""
        operating = server()
        assert operating is not None
        logs = operating.log_lines(self.run, after=self._given)
        self._given += len(logs)
        return [
            Line(log.time, "", log.text, _level(log.level))
            for log in logs
            if self.stage is None or log.text.startswith(f"{self.stage}: ")
        ]


class FolderLog:
    """The lines of a run's folder, each given once; steps are told every ten seconds."""

    def __init__(self, folder: RunFolder, stage: str | None = None) -> None:
        self.folder = folder.folder
        self.stage = stage
        self._views: dict[str, StageView] = {}
        self._given: dict[Path, int] = {}

    def new_lines(self) -> list[Line]:
        """What has come since this was asked last, oldest first."""
        lines = [line for file in sorted(self.folder.glob("*/events.jsonl")) for line in self._told_by(file)]
        lines += [_span(entry) for entry in self._new(self.folder / "timeline.jsonl")]
        lines += [_error(entry) for entry in self._new(self.folder / "errors.jsonl")]
        return sorted((line for line in lines if self.stage in (None, line.stage)), key=lambda line: line.time)

    def require_stage(self) -> None:
        """Raises ConfigError where the run has begun, and has no such stage so far."""
        spans = read_lines(self.folder / "timeline.jsonl")
        begun = sorted({file.parent.name for file in self.folder.glob("*/events.jsonl")} | {s["stage"] for s in spans})
        if self.stage and begun and self.stage not in begun:
            raise ConfigError(unknown("stage", self.stage, begun, where=self.folder.name))

    def _told_by(self, file: Path) -> list[Line]:
        stage = file.parent.name
        view = self._views.setdefault(stage, StageView(stage))
        lines = []
        for event in self._new(file):
            view.take(event)
            if (text := plain_line(view, event)) is not None:
                trace = f"\n{event['trace']}" if event["kind"] == "failed" else ""
                lines.append(Line(event["time"], stage, text + trace, _LEVELS.get(event["kind"], "info")))
        return lines

    def _new(self, file: Path) -> list[dict[str, Any]]:
        entries = read_lines(file)
        new = entries[self._given.get(file, 0) :]
        self._given[file] = len(entries)
        return new


def _span(entry: dict[str, Any]) -> Line:
    return Line(entry["end"], entry["stage"], f"{entry['kind']} took {entry['end'] - entry['start']:.1f} s")


def _error(entry: dict[str, Any]) -> Line:
    return Line(entry["time"], entry["stage"], f"{entry['kind']}: {entry['text']}", "error")


def _level(number: int) -> Level:
    return "error" if number >= logging.ERROR else "warning" if number >= logging.WARNING else "info"
