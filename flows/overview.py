"""How everything stands, for `orchard status`: services, runs under way, runs that wait, champions."""

import time
from collections.abc import Iterator
from typing import Any

from infra import artifacts, ray_head
from infra.local.lost_runs import POOL
from infra.progress import views
from infra.runs import RunFolder, runs
from infra.settings import prepare_prefect, settings
from models.common import workloads
from models.common.config import Config
from models.common.errors import OrchardError


class Service(Config):
    """Something that runs, or that a run would start for itself."""

    name: str
    address: str | None
    text: str = ""


class Stage(Config):
    """How far a stage is that has begun and is not over."""

    name: str
    percent: float
    text: str


class UnderWay(Config):
    """A run that has begun and is not over. Times are seconds since 1970."""

    run_name: str
    state: str
    workload: str
    cluster: str
    started: float | None
    stages: tuple[Stage, ...] = ()
    why: str = ""
    page: str = ""  # in the UI


class Waiting(Config):
    """A run that has not begun."""

    run_name: str
    workload: str
    cluster: str
    due: float | None
    late: bool


class Holder(Config):
    """A version that holds a stage."""

    name: str
    version: str
    stage: str
    published: str
    latest: str  # version of the same name


class Overview(Config):
    """All of it; `problems` are the parts that could not be asked, each in its own words."""

    services: tuple[Service, ...]
    under_way: tuple[UnderWay, ...]
    queue: tuple[Waiting, ...]  # due by now, in the order in which they are to begin
    scheduled: tuple[Waiting, ...]  # due later
    holders: tuple[Holder, ...]
    problems: tuple[str, ...]


def look() -> Overview:
    """How everything stands now. What cannot be reached is told among the problems, and the rest is there."""
    problems: list[str] = []
    seen = _asked(problems, _of_server) or []
    now = time.time()
    waiting = [run for run in seen if run.is_waiting]
    begun = {run.run_name: run for run in seen if not run.is_waiting}
    folders = {folder.key: folder for folder in runs()}
    terminal = [folder for key, folder in folders.items() if key not in begun and folder.running_pid()]
    return Overview(
        services=tuple(_services()),
        under_way=(
            *(_on_server(run, folders.get(name)) for name, run in begun.items()),
            *(_in_terminal(folder) for folder in terminal),
        ),
        queue=tuple(_waiting(run) for run in waiting if (run.due or 0) <= now),
        scheduled=tuple(_waiting(run) for run in waiting if (run.due or 0) > now),
        holders=tuple(_asked(problems, _holders) or ()),
        problems=tuple(problems),
    )


def _asked(problems: list[str], ask: Any) -> Any:
    try:
        return ask()
    except OrchardError as error:
        problems.append(str(error))
        return None


def _of_server() -> list[Any]:
    """The flow runs of the server that are ours and not over; none where there is no server."""
    if settings().prefect_api is None:
        return []
    prepare_prefect(quiet=True)
    from flows import operating

    ours = workloads.names()
    return [run for run in operating.unfinished() if run.flow in ours or run.pool == POOL]


def _services() -> Iterator[Service]:
    from infra.local import state

    place = settings()
    if up := state.running(place.home):
        yield Service(name="Prefect", address=up.ui, text="of orchard up")
        yield Service(name="Ray", address=up.ray, text="of orchard up")
        yield from (
            Service(name=name, address=address, text="of orchard up")
            for name, address in (("reports", up.reports), ("S3", up.s3))
            if address
        )
        return
    api = place.prefect_api
    yield Service(name="Prefect", address=api, text="" if api else "none that lasts; start it with: orchard up")
    head = ray_head.current()
    address = place.ray_address or (head.address if head else None)
    yield Service(name="Ray", address=address, text="" if address else "none now; a run starts one for itself")


def _on_server(run: Any, folder: RunFolder | None) -> UnderWay:
    return UnderWay(
        run_name=run.run_name,
        state=run.state,
        workload=run.flow,
        cluster=run.parameters.get("cluster") or "",
        started=run.started,
        stages=_stages(folder) if folder else _stages_on_page(run),
        why=run.why,
        page=run.page,
    )


def _in_terminal(folder: RunFolder) -> UnderWay:
    asked = folder.asked()
    return UnderWay(
        run_name=folder.key,
        state="Running",
        workload=asked.workload,
        cluster=asked.cluster,
        started=asked.started,
        stages=_stages(folder),
        why="from a terminal",
    )


def _stages(folder: RunFolder) -> tuple[Stage, ...]:
    return tuple(
        Stage(name=view.name, percent=round(view.percent(), 1), text=view.line())
        for view in views(folder)
        if not view.over
    )


def _stages_on_page(run: Any) -> tuple[Stage, ...]:
    """Those of a run whose folder is on another machine, from its run page."""
    from flows import operating

    return tuple(Stage(name=name, percent=percent, text=text) for name, percent, text in operating.stages_shown(run))


def _waiting(run: Any) -> Waiting:
    return Waiting(
        run_name=run.run_name,
        workload=run.flow,
        cluster=run.parameters.get("cluster") or "",
        due=run.due,
        late=run.state == "Late",
    )


def _holders() -> list[Holder]:
    versions = artifacts.versions()
    latest: dict[str, str] = {}
    for version in versions:
        latest.setdefault(version.name, version.version)
    return [
        Holder(name=v.name, version=v.version, stage=stage, published=v.published, latest=latest[v.name])
        for v in versions
        for stage in v.stages
    ]
