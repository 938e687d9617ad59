"""Deployments on a Prefect server: compared with prefect.yaml, and made the same.

What carries the tag `orchard` is ours: it is changed to what the file says, and removed where the file no longer has
it. Everything else on the server is left alone.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessWorker

from flows.automations import HEARTBEAT_SECONDS, USUAL, Watch, automation_differences
from flows.deployment_file import OURS, Deployment, Schedule, Wanted, read_deployments
from flows.plan import Difference, Plan, Step, unlike
from flows.server import connected
from infra.settings import ROOT

FILE = ROOT / "prefect.yaml"
_PAGE = 100
_TEMPLATE = ProcessWorker.get_default_base_job_template()
_DEFAULTS = {
    # Named, it is started straight away; else the worker first starts a Python that finds out what to start.
    "command": "python -m prefect.engine",
    "stream_output": False,  # every line is on the run page
    "env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS)},
}


def deploy(file: Path = FILE, *, plan: bool = False, watch: Watch = USUAL) -> Plan:
    """What differs between the file and the server; unless it is only planned, it has been made so.

    Raises ConfigError for a file that cannot work, before anything is written, and ClusterError where no server
    answers.
    """
    wanted = read_deployments(file)
    steps: list[Step] = []
    with connected() as client:
        # One after the other: what is found out later is read from a server where the earlier ones are made.
        for step, make in _differences(client, wanted, watch):
            steps.append(step)
            if not plan:
                make()
    return Plan(steps=tuple(steps))


def _differences(client: SyncPrefectClient, wanted: Wanted, watch: Watch) -> Iterator[Difference]:
    for pool in wanted.pools:
        yield from _pool_differences(client, pool, wanted.queues)
    found = _read_deployments(client)
    for name, deployment in wanted.deployments.items():
        yield from _deployment_differences(client, name, deployment, found.get(name))
    for name, deployment in found.items():
        if name not in wanted.deployments and OURS in deployment.tags:
            yield Step(action="remove", kind="deployment", name=name), partial(client.delete_deployment, deployment.id)
    ids = {name: deployment.id for name, deployment in _read_deployments(client).items()}
    yield from automation_differences(client, {name: ids.get(name) for name in wanted.deployments}, watch)


def _pool_differences(client: SyncPrefectClient, pool: str, queues: Mapping[str, int]) -> Iterator[Difference]:
    try:
        template = client.read_work_pool(pool).base_job_template
        found = _read_queues(client, pool)
    except ObjectNotFound:
        asked = WorkPoolCreate(name=pool, type="process", base_job_template=_with_defaults(_TEMPLATE))
        yield Step(action="add", kind="work pool", name=pool), partial(client.create_work_pool, asked)
        template, found = asked.base_job_template, {"default": None}  # a queue that the server makes with the pool
    if template != (wanted := _with_defaults(template or _TEMPLATE)):
        make = partial(client.update_work_pool, pool, WorkPoolUpdate(base_job_template=wanted))
        yield (
            Step(action="change", kind="work pool", name=pool, differences=unlike(_defaults(template), _DEFAULTS)),
            make,
        )
    for queue, limit in queues.items():
        name, values = f"{pool}/{queue}", {"concurrency_limit": limit}
        if queue not in found:
            make = partial(
                client.request,
                "POST",
                "/work_pools/{work_pool_name}/queues",
                path_params={"work_pool_name": pool},
                json={"name": queue, **values},
            )
            yield Step(action="add", kind="work queue", name=name), make
        elif found[queue] != limit:
            make = partial(
                client.request,
                "PATCH",
                "/work_pools/{work_pool_name}/queues/{name}",
                path_params={"work_pool_name": pool, "name": queue},
                json=values,
            )
            told = unlike({"concurrency_limit": found[queue]}, values)
            yield Step(action="change", kind="work queue", name=name, differences=told), make


def _with_defaults(template: Mapping[str, Any]) -> dict[str, Any]:
    """The template with what our runs need where nothing else is asked for; the rest of it stays."""
    variables = template["variables"]
    ours = {name: {**variables["properties"][name], "default": value} for name, value in _DEFAULTS.items()}
    return {**template, "variables": {**variables, "properties": {**variables["properties"], **ours}}}


def _defaults(template: Mapping[str, Any]) -> dict[str, Any]:
    fields = template.get("variables", {}).get("properties", {})
    return {name: fields.get(name, {}).get("default") for name in _DEFAULTS}


def _read_queues(client: SyncPrefectClient, pool: str) -> dict[str, int | None]:
    """How many runs each queue of the pool takes at once; None for any number."""
    answer = client.request(
        "POST",
        "/work_pools/{work_pool_name}/queues/filter",
        path_params={"work_pool_name": pool},
        json={"limit": _PAGE},
    )
    return {queue["name"]: queue["concurrency_limit"] for queue in answer.json()}


def _read_deployments(client: SyncPrefectClient) -> dict[str, DeploymentResponse]:
    """Every deployment on the server, by "FLOW/NAME"."""
    flows = {flow.id: flow.name for flow in _pages(client.read_flows)}
    return {f"{flows[each.flow_id]}/{each.name}": each for each in _pages(client.read_deployments)}


def _pages(read: Callable[..., list[Any]]) -> Iterator[Any]:
    """All of a list that the server gives in pages."""
    offset, page = 0, read(limit=_PAGE, offset=0)
    while page:
        yield from page
        offset += len(page)
        page = read(limit=_PAGE, offset=offset)


def _deployment_differences(
    client: SyncPrefectClient, name: str, wanted: Deployment, found: DeploymentResponse | None
) -> Iterator[Difference]:
    schedules = _schedules(wanted.entry.schedules, found)
    asked = _as_wanted(wanted, schedules)
    make = partial(_write, client, wanted, schedules)
    if found is None:
        yield Step(action="add", kind="deployment", name=name), make
    elif told := unlike(_as_found(found), asked):
        yield Step(action="change", kind="deployment", name=name, differences=told), make


def _schedules(asked: tuple[Schedule, ...], found: DeploymentResponse | None) -> list[DeploymentScheduleCreate]:
    """The schedules of the file; one that does not say whether it is on stays as it is, and begins switched off."""
    switched = {schedule.slug: schedule.active for schedule in found.schedules} if found else {}
    return [
        DeploymentScheduleCreate(
            schedule=CronSchedule(cron=schedule.cron, timezone=schedule.timezone),
            active=switched.get(schedule.slug, False) if schedule.active is None else schedule.active,
            slug=schedule.slug,
        )
        for schedule in asked
    ]


def _as_wanted(wanted: Deployment, schedules: list[DeploymentScheduleCreate]) -> dict[str, Any]:
    entry = wanted.entry
    return {
        "entrypoint": entry.entrypoint,
        "description": entry.description,
        "tags": sorted({OURS, *entry.tags}),
        "parameters": entry.parameters,
        "work_pool": entry.work_pool.name,
        "work_queue": entry.work_pool.work_queue_name,
        "concurrency_limit": entry.concurrency_limit,
        "pull": list(wanted.pull),
        "form": wanted.form,
        "form_enforced": True,
        "schedules": [_schedule_fields(schedule) for schedule in schedules],
    }


def _as_found(found: DeploymentResponse) -> dict[str, Any]:
    """The same fields of what the server has."""
    limit = found.global_concurrency_limit
    return {
        "entrypoint": found.entrypoint,
        "description": found.description or "",
        "tags": sorted(found.tags),
        "parameters": found.parameters,
        "work_pool": found.work_pool_name,
        "work_queue": found.work_queue_name,
        "concurrency_limit": limit.limit if limit else None,
        "pull": found.pull_steps or [],
        "form": found.parameter_openapi_schema,
        "form_enforced": found.enforce_parameter_schema,
        "schedules": [_schedule_fields(schedule) for schedule in sorted(found.schedules, key=lambda s: s.slug or "")],
    }


def _schedule_fields(schedule: Any) -> dict[str, Any]:
    return {
        **schedule.schedule.model_dump(mode="json"),
        "slug": schedule.slug,
        "active": schedule.active,
        "parameters": schedule.parameters,
    }


def _write(client: SyncPrefectClient, wanted: Deployment, schedules: list[DeploymentScheduleCreate]) -> None:
    """Adds or replaces the deployment, its schedules with it: none where the file has none."""
    entry = wanted.entry
    client.create_deployment(
        flow_id=client.create_flow(wanted.flow),
        name=entry.name,
        entrypoint=entry.entrypoint,
        description=entry.description,
        tags=sorted({OURS, *entry.tags}),
        parameters=entry.parameters,
        work_pool_name=entry.work_pool.name,
        work_queue_name=entry.work_pool.work_queue_name,
        concurrency_limit=entry.concurrency_limit,
        pull_steps=list(wanted.pull),
        parameter_openapi_schema=wanted.form,
        enforce_parameter_schema=True,
        schedules=schedules,
    )
