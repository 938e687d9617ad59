"""What a run shows while it goes on: a bar a stage on a terminal, plain lines elsewhere."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from infra.progress import RunEvents, StageView
from infra.runs import RunFolder

_LOOK_SECONDS = 0.5
_LINE_SECONDS = 10.0  # between two plain lines of a stage


@contextmanager
def following(folder: RunFolder, console: Console) -> Iterator[None]:
    """Shows the run's stages from another thread for as long as the block lasts."""
    ended = threading.Event()
    follow = _follow_bars if console.is_terminal else _follow_lines
    events = RunEvents(folder)
    list(events.new())  # an earlier process of this run has shown them
    thread = threading.Thread(target=follow, args=(events, console, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _follow_bars(events: RunEvents, console: Console, ended: threading.Event) -> None:
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:>6.0f}/{task.total:<6.0f}"),
        TextColumn("{task.fields[text]}"),
    )
    bars: dict[str, TaskID] = {}
    with Progress(*columns, console=console) as progress:
        for view, _ in _changes(events, ended):
            if view.name not in bars:
                bars[view.name] = progress.add_task(view.name, text="")
            text = "  ".join(part for part in (view.text, view.pace()) if part)
            progress.update(bars[view.name], total=max(1, view.total), completed=view.done, text=escape(text))


def _follow_lines(events: RunEvents, console: Console, ended: threading.Event) -> None:
    for view, event in _changes(events, ended):
        if (line := plain_line(view, event)) is not None:
            console.print(f"{view.name}: {line}", highlight=False, soft_wrap=True, markup=False)


def plain_line(view: StageView, event: dict[str, Any]) -> str | None:
    """What an event that the view has taken is worth telling; None where a line was told just before."""
    notable = event["kind"] in ("started", "finished", "failed", "warning", "log")
    if not notable and event["time"] - view.shown < _LINE_SECONDS:
        return None
    view.shown = event["time"]
    return str(event.get("text") or (f"{view.done}/{view.total} finished" if view.over else view.line()))


def _changes(events: RunEvents, ended: threading.Event) -> Iterator[tuple[StageView, dict[str, Any]]]:
    """Each new event with the view that it changed, until the block has ended and all is told."""
    views: dict[str, StageView] = {}
    last = False
    while not last:
        last = ended.wait(_LOOK_SECONDS)
        for stage, event in events.new():
            view = views.setdefault(stage, StageView(stage))
            view.take(event)
            yield view, event
