"""The run page: progress of each stage, one picture of all their curves, the result, and links to what is elsewhere.

What the page shows is optional. It is sent from a thread of its own, so that a server that is away delays the page and
never the run.
"""

import base64
import json
import re
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run, task_run

from infra import links
from infra.json_lines import read_lines
from infra.launch import Event
from infra.pictures import as_markdown, draw_panels
from infra.progress import StageView
from infra.runs import RunFolder
from infra.settings import started_by_worker
from models.common.handles import Artifact
from models.common.report import Curve, Figure, Report

_SEND_SECONDS = 2.0
_LOOK_SECONDS = 5.0  # between two looks at whether somebody cancels the run
_CLOSE_SECONDS = 15.0  # that the end of a run waits for the page
_LOG_SECONDS = 10.0
_PICTURE_SECONDS = 10.0
_WORKER_SECONDS = 20.0  # in which a worker that is alive has cancelled the run that it watches over
_MOST_POINTS = 2000  # of a curve that are kept for the picture


def artifact_key(run_key: str, what: str) -> str:
    """A key as Prefect allows them: lowercase letters, digits and dashes."""
    return re.sub(r"[^a-z0-9-]", "-", f"{run_key}-{what}")


class Content(NamedTuple):
    """What an artifact is to show; `data` is made when it is sent. Without a task run it is the whole run's."""

    kind: str  # "progress" or "markdown"
    data: Callable[[], Any]
    description: str
    task_run: UUID | None


class RunPage:
    """The artifacts of one run, by what they show: what was put last is what is sent.

    The thread that sends also sees that somebody cancels a run which no worker watches over: one that was started from
    a terminal, or one whose worker has died.
    """

    def __init__(self, folder: RunFolder, flow_run_id: UUID) -> None:
        self.folder = folder
        self.flow_run_id = flow_run_id
        self.stages: dict[str, StagePage] = {}
        self._sent: dict[str, UUID] = {}
        self._wanted: dict[str, Content] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._keep_up, name=f"page of {folder.key}", daemon=True)
        self._thread.start()

    def put(self, what: str, kind: str, data: Callable[[], Any], description: str = "") -> None:
        """Shows this soon, in place of what the artifact showed before; progress is that of the task that tells it."""
        task = UUID(str(task_run.id)) if kind == "progress" else None
        with self._changed:
            self._wanted[artifact_key(self.folder.key, what)] = Content(kind, data, description, task)

    def close(self) -> None:
        """Sends what is left; a server that is away is not waited for."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(_CLOSE_SECONDS)

    def _keep_up(self) -> None:
        looked = float("-inf")
        with get_client(sync_client=True) as client:
            while not (self._closing and not self._wanted):
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, timeout=_SEND_SECONDS)
                    taken, self._wanted = self._wanted, {}
                try:
                    for key, content in taken.items():
                        self._send(client, key, content)
                    if time.monotonic() - looked >= _LOOK_SECONDS:
                        looked = time.monotonic()
                        self._look_for_cancel(client)
                except (httpx.HTTPError, ObjectNotFound):
                    with self._changed:
                        self._wanted = {**taken, **self._wanted}
                    time.sleep(_SEND_SECONDS)

    def _send(self, client: SyncPrefectClient, key: str, content: Content) -> None:
        data = content.data()
        if key in self._sent:
            client.update_artifact(self._sent[key], ArtifactUpdate(data=data, description=content.description))
            return
        artifact = ArtifactCreate(
            key=key,
            type=content.kind,
            description=content.description,
            data=data,
            flow_run_id=self.flow_run_id,
            task_run_id=content.task_run,
        )
        self._sent[key] = client.create_artifact(artifact).id

    def _look_for_cancel(self, client: SyncPrefectClient) -> None:
        asked = self.folder.asked()
        for watched in {asked.flow_run, asked.root_flow_run} - {None}:
            state = client.read_flow_run(UUID(watched)).state
            if state and state.type == StateType.CANCELLING:
                waited = (datetime.now(UTC) - state.timestamp).total_seconds()
                if waited > _WORKER_SECONDS or not started_by_worker():
                    self.folder.cancel()


_pages: dict[tuple[str, UUID], RunPage] = {}
_lock = threading.Lock()


def page_of(folder: RunFolder) -> RunPage:
    """The page of the run, as this process keeps it."""
    flow_run_id = UUID(str(flow_run.id))
    with _lock:
        if (folder.key, flow_run_id) not in _pages:
            _pages[folder.key, flow_run_id] = RunPage(folder, flow_run_id)
        return _pages[folder.key, flow_run_id]


def close_pages(run_key: str) -> None:
    """Sends what the pages of this run have not sent yet."""
    with _lock:
        closing = [_pages.pop(found) for found in list(_pages) if found[0] == run_key]
    for page in closing:
        page.close()


class StagePage:
    """One stage on the run page: its progress artifact, its log lines, and its curve in the picture."""

    def __init__(self, page: RunPage, stage: str) -> None:
        self.page = page
        self.view = StageView(stage)
        self.logger = get_run_logger()
        self.curve: list[tuple[int, float]] = []
        self.metric = ""
        self.moved = self.logged = self.drawn = float("-inf")
        self.link = ""
        for event in read_lines(page.folder.stage(stage).events):
            self._note_point(event)
        page.stages[stage] = self
        self._show_progress()

    def show(self, event: Event) -> None:
        """Takes what has happened."""
        self.view.take(event)
        self._note_point(event)
        name = self.view.name
        match event["kind"]:
            case "job":
                job = links.job_page(event["name"])
                self.link = f" · [Ray job]({job})" if job else ""
            case "started":
                self.logger.info("%s: step %d, %d workers", name, event["step"], event["workers"])
            case "log":
                self.logger.info("%s: %s", name, event["text"])
            case "warning" | "lost":
                self.logger.warning("%s: %s", name, event["text"])
            case "failed":
                self.logger.error("%s: %s\n%s", name, self.view.text, event["trace"])
            case "finished":
                self.logger.info("%s: finished at step %d", name, event["step"])
        self._keep_up()

    def done(self) -> None:
        """The stage has ended well; its result has the whole curve."""
        self.view.over = True
        file = self.page.folder.stage(self.view.name).result / "curves.json"
        if self.curve and file.exists():
            whole = json.loads(file.read_text())
            self.curve = list(zip(whole["steps"], whole["metrics"][self.metric], strict=True))
        self._show_progress()
        self._show_curves()

    def _keep_up(self) -> None:
        now = time.monotonic()
        if now - self.moved >= _SEND_SECONDS:
            self.moved = now
            self._show_progress()
        if now - self.logged >= _LOG_SECONDS and self.view.recent:
            self.logged = now
            self.logger.info("%s: %s", self.view.name, self.view.line())
        if now - self.drawn >= _PICTURE_SECONDS:
            self.drawn = now
            self._show_curves()

    def _show_progress(self) -> None:
        percent, line = self.view.percent(), "finished" if self.view.over else self.view.line()
        self.page.put(self.view.name, "progress", lambda: percent, f"**{self.view.name}**: {line}{self.link}")

    def _show_curves(self) -> None:
        if self.curve:
            stages = list(self.page.stages.values())
            self.page.put("curves", "markdown", lambda: _picture(stages), "Training curves, while they grow")

    def _note_point(self, event: Event) -> None:
        if event["kind"] == "started":  # what comes after the checkpoint is computed again
            self.curve = [point for point in self.curve if point[0] <= event["step"]]
        if event["kind"] == "step" and event["metrics"]:
            metrics = event["metrics"]
            self.metric = "loss" if "loss" in metrics else next(iter(metrics))
            self.curve.append((event["step"], metrics[self.metric]))
        if len(self.curve) > _MOST_POINTS:
            self.curve = self.curve[::2]


def show_result(folder: RunFolder, report: Report, artifact: Artifact | None = None) -> None:
    """Shows what was found: tables, pictures, and where version and report are once there are."""
    top = f"{_links(artifact)}\n\n" if artifact else ""
    page_of(folder).put("result", "markdown", lambda: top + as_markdown(report), report.title)


def _links(artifact: Artifact) -> str:
    spec = f"{artifact.name}@{artifact.version}"
    page = links.version_page(artifact.name, artifact.version)
    shown = f"[{spec}]({page})" if page else f"`{spec}`"  # else Markdown takes it for a mail address
    return f"Published as {shown} · report: `{artifact.folder / 'report.html'}` · `orchard pull {spec}`"


def _picture(stages: list[StagePage]) -> str:
    """Markdown with a panel for each stage that has a curve."""
    figures = [
        Figure(
            title=stage.view.name,
            x_label="step",
            y_label=stage.metric,
            curves=(Curve(label="", x=tuple(x for x, _ in points), y=tuple(y for _, y in points)),),
        )
        for stage in stages
        if (points := list(stage.curve))
    ]
    names = ", ".join(figure.title for figure in figures)
    picture = base64.b64encode(draw_panels(figures)).decode()
    return f"![Training curves of {names}](data:image/png;base64,{picture})\n"
