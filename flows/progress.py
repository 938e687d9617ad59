"""What a run shows while it goes on: a bar a stage on a terminal, plain lines elsewhere."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from infra.runs import RunFolder, read_lines

_LOOK_SECONDS = 0.5
_LINE_SECONDS = 10.0  # between two plain lines of a stage
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
                self.text = f"rank {event['rank']} failed"

    def _advance(self, time: float, done: int) -> None:
        self.done = done
        self.recent = [point for point in self.recent if time - point[0] <= _RATE_SECONDS] + [(time, done)]

    def pace(self) -> str:
        """Rate and time left, as far as they are known."""
        if self.over or len(self.recent) < 2:
            return ""
        (begin, first), (end, last) = self.recent[0], self.recent[-1]
        rate = (last - first) / (end - begin) if end > begin else 0.0
        if not rate:
            return ""
        return f"{rate:.3g} {self.unit}/s, at most {(self.total - self.done) / rate:.0f} s left"


def _metrics(metrics: dict[str, float]) -> str:
    """The loss first, then at most two more."""
    names = sorted(metrics, key=lambda name: (name != "loss", list(metrics).index(name)))[:3]
    return "  ".join(f"{name} {metrics[name]:.4g}" for name in names)


@contextmanager
def following(folder: RunFolder, console: Console) -> Iterator[None]:
    """Shows the run's stages from another thread for as long as the block lasts."""
    ended = threading.Event()
    follow = _follow_bars if console.is_terminal else _follow_lines
    already = {file.parent.name: len(read_lines(file)) for file in folder.folder.glob("*/events.jsonl")}
    thread = threading.Thread(target=follow, args=(folder, console, ended, already), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _follow_bars(folder: RunFolder, console: Console, ended: threading.Event, seen: dict[str, int]) -> None:
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:>6.0f}/{task.total:<6.0f}"),
        TextColumn("{task.fields[text]}"),
    )
    views: dict[str, StageView] = {}
    bars: dict[str, TaskID] = {}
    with Progress(*columns, console=console) as progress:
        for view, _ in _changes(folder, ended, seen, views):
            if view.name not in bars:
                bars[view.name] = progress.add_task(view.name, text="")
            text = "  ".join(part for part in (view.text, view.pace()) if part)
            progress.update(bars[view.name], total=max(1, view.total), completed=view.done, text=escape(text))


def _follow_lines(folder: RunFolder, console: Console, ended: threading.Event, seen: dict[str, int]) -> None:
    for view, event in _changes(folder, ended, seen, {}):
        notable = event["kind"] in ("started", "finished", "failed", "warning", "log")
        if notable or event["time"] - view.shown >= _LINE_SECONDS:
            view.shown = event["time"]
            state = "finished" if view.over else ", ".join(part for part in (view.text, view.pace()) if part)
            told = event.get("text", state)
            console.print(
                f"{view.name}: {view.done}/{view.total} {told}", highlight=False, soft_wrap=True, markup=False
            )


def _changes(
    folder: RunFolder, ended: threading.Event, seen: dict[str, int], views: dict[str, StageView]
) -> Iterator[tuple[StageView, dict[str, Any]]]:
    """Each new event with the view that it changed, until the block has ended and all is told."""
    last = False
    while not last:
        last = ended.wait(_LOOK_SECONDS)
        for file in sorted(folder.folder.glob("*/events.jsonl")):
            name = file.parent.name
            lines = read_lines(file)
            view = views.setdefault(name, StageView(name))
            for event in lines[seen.get(name, 0) :]:
                view.take(event)
                yield view, event
            seen[name] = len(lines)
