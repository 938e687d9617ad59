"""How far a stage is, from its events: what a terminal, the run page and `orchard status` show."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.json_lines import Reader
from infra.runs import RunFolder

_RATE_SECONDS = 10.0  # over which a rate is taken


@dataclass
class StageView:
    """What is known of one stage from its events."""

    name: str
    total: int = 0
    done: int = 0
    text: str = "starting"
    over: bool = False
    unit: str = "steps"
    shown: float = 0.0  # time of the last plain line
    recent: list[tuple[float, int]] = field(default_factory=list)  # (time, done)

    def take(self, event: dict[str, Any]) -> None:
        match event["kind"]:
            case "started":
                self.total, self.done, self.recent = event["max_steps"], event["step"], []
            case "step":
                self._advance(event["time"], event["step"])
                self.text = _metrics(event["metrics"])
            case "shards":
                self.total, self.unit, self.text = event["total"], "shards", ""
                self._advance(event["time"], event["done"])
            case "finished":
                self.over, self.done, self.total = True, event["step"], event["step"]
            case "failed":
                self.text = f"rank {event['rank']} failed" if event["rank"] >= 0 else "its job failed"

    def _advance(self, time: float, done: int) -> None:
        self.done = done
        self.recent = [point for point in self.recent if time - point[0] <= _RATE_SECONDS] + [(time, done)]

    def percent(self) -> float:
        return 100.0 if self.over else 100.0 * self.done / max(1, self.total)

    def pace(self) -> str:
        """Rate and time left, as far as they are known."""
        if self.over or len(self.recent) < 2:
            return ""
        (begin, first), (end, last) = self.recent[0], self.recent[-1]
        rate = (last - first) / (end - begin) if end > begin else 0.0
        if not rate:
            return ""
        return f"{rate:.3g} {self.unit}/s, at most {(self.total - self.done) / rate:.0f} s left"

    def line(self) -> str:
        """Such as "60 of 400 steps, loss 0.51, 20 steps/s, at most 17 s left"."""
        count = f"{self.done} of {self.total} {self.unit}" if self.total else ""
        parts = (count, self.text.replace("  ", ", "), self.pace())
        return ", ".join(part for part in parts if part)


class RunEvents:
    """What the stages of a run tell while it goes on, each event once."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder.folder
        self._readers: dict[Path, Reader] = {}

    def new(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each event that came since this was asked last, with its stage, stage by stage."""
        for file in sorted(self.folder.glob("*/events.jsonl")):
            for event in self._readers.setdefault(file, Reader(file)).new_lines():
                yield file.parent.name, event


def views(folder: RunFolder) -> list[StageView]:
    """How far each stage of the run is that has begun, in the order in which they began."""
    found: dict[str, tuple[float, StageView]] = {}
    for stage, event in RunEvents(folder).new():
        _, view = found.setdefault(stage, (event["time"], StageView(stage)))
        view.take(event)
    return [view for _, view in sorted(found.values(), key=lambda each: each[0])]


def _metrics(metrics: dict[str, float]) -> str:
    """The loss first, then at most two more."""
    names = sorted(metrics, key=lambda name: (name != "loss", list(metrics).index(name)))[:3]
    return "  ".join(f"{name} {metrics[name]:.4g}" for name in names)
