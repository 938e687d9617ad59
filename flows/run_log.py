"""What a run has said: the lines of all its stages in the order in which they came."""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from flows.finding import Found, server
from flows.progress import plain_line
from infra.json_lines import Reader, read_lines
from infra.progress import RunEvents, StageView
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
        self._events = RunEvents(folder)
        self._spans = Reader(self.folder / "timeline.jsonl")
        self._errors = Reader(self.folder / "errors.jsonl")

    def new_lines(self) -> list[Line]:
        """What has come since this was asked last, oldest first."""
        lines = [line for stage, event in self._events.new() for line in self._told_by(stage, event)]
        lines += [_span(entry) for entry in self._spans.new_lines()]
        lines += [_error(entry) for entry in self._errors.new_lines()]
        return sorted((line for line in lines if self.stage in (None, line.stage)), key=lambda line: line.time)

    def require_stage(self) -> None:
        """Raises ConfigError where the run has begun, and has no such stage so far."""
        spans = read_lines(self.folder / "timeline.jsonl")
        begun = sorted({file.parent.name for file in self.folder.glob("*/events.jsonl")} | {s["stage"] for s in spans})
        if self.stage and begun and self.stage not in begun:
            raise ConfigError(unknown("stage", self.stage, begun, where=self.folder.name))

    def _told_by(self, stage: str, event: dict[str, Any]) -> list[Line]:
        view = self._views.setdefault(stage, StageView(stage))
        view.take(event)
        if (text := plain_line(view, event)) is None:
            return []
        trace = f"\n{event['trace']}" if event["kind"] == "failed" else ""
        return [Line(event["time"], stage, text + trace, _LEVELS.get(event["kind"], "info"))]


def _span(entry: dict[str, Any]) -> Line:
    return Line(entry["end"], entry["stage"], f"{entry['kind']} took {entry['end'] - entry['start']:.1f} s")


def _error(entry: dict[str, Any]) -> Line:
    return Line(entry["time"], entry["stage"], f"{entry['kind']}: {entry['text']}", "error")


def _level(number: int) -> Level:
    return "error" if number >= logging.ERROR else "warning" if number >= logging.WARNING else "info"
