"""What the server does by itself when a run dies, waits too long, or its data change: Prefect automations.

The open Prefect server does not notice by itself that a run's process is gone: runs send heartbeats, and an automation
marks the run as crashed where they stop.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, DoNothing, RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

from flows.deployment_file import OURS
from flows.operating import DATA_CHANGED
from flows.plan import Difference, Step, unlike

HEARTBEAT_SECONDS = 30  # the shortest that Prefect has

_RUNS = {"prefect.resource.id": "prefect.flow-run.*"}
_TAGGED = {"prefect.resource.role": "tag"}
_NOBODY = UUID(int=0)  # stands for a deployment that is yet to be made, where a plan is only shown


@dataclass(frozen=True)
class Watch:
    """How long is too long, in seconds."""

    heart: float = 3.5 * HEARTBEAT_SECONDS  # without a heartbeat, or another state
    late: float = 1800.0  # for a run that no worker has taken, beyond its time


USUAL = Watch()


def automation_differences(
    client: SyncPrefectClient, deployments: Mapping[str, UUID | None], watch: Watch
) -> Iterator[Difference]:
    """What differs between our automations and the server's; those without our tag are left alone."""
    found = {each.name: each for each in client.read_automations() if OURS in each.tags}
    wanted = {
        each.name: each for each in _automations({name: id or _NOBODY for name, id in deployments.items()}, watch)
    }
    for name, automation in wanted.items():
        if name not in found:
            yield Step(action="add", kind="automation", name=name), partial(client.create_automation, automation)
        elif told := unlike(_fields(found[name]), _fields(automation)):
            # Whether it is switched on is said in the UI. The client sends what is set, and the server wants all of it.
            whole = AutomationCore.model_validate(
                automation.model_dump(exclude={"owner_resource"}) | {"enabled": found[name].enabled}
            )
            make = partial(client.update_automation, found[name].id, whole)
            yield Step(action="change", kind="automation", name=name, differences=told), make
    for name, automation in found.items():
        if name not in wanted:
            yield Step(action="remove", kind="automation", name=name), partial(client.delete_automation, automation.id)


def _automations(deployments: Mapping[str, UUID], watch: Watch) -> Iterator[AutomationCore]:
    yield AutomationCore(
        name="orchard: heart stopped",
        description="A run that sends no heartbeat any more, and did not end, is marked as crashed.",
        tags=[OURS],
        trigger=_silence("prefect.flow-run.heartbeat", watch.heart),
        actions=[
            ChangeFlowRunState(
                name=None,
                force=False,
                state=StateType.CRASHED,
                message=f"its heart stopped: no sign of life for {watch.heart:g} s; its process or machine is gone",
            )
        ],
    )
    yield AutomationCore(
        name="orchard: late",
        description="A run that no worker has taken long after its time shows in the event feed as triggering this.",
        tags=[OURS],
        trigger=_silence("prefect.flow-run.Late", watch.late),
        actions=[DoNothing()],
    )
    if tidy := deployments.get("tidy/tidy"):
        yield AutomationCore(
            name="orchard: tidy up after a crash",
            description="A crashed run is started again, or its Ray jobs are stopped and one event tells why.",
            tags=[OURS],
            trigger=EventTrigger(
                match=_RUNS, match_related=_tagged("workload"), expect={"prefect.flow-run.Crashed"}, threshold=1
            ),
            actions=[
                RunDeployment(
                    source="selected",
                    deployment_id=tidy,
                    job_variables=None,
                    parameters={
                        "run_key": _text_of("flow_run.name"),
                        "flow_run": _text_of("flow_run.id"),
                        "state": _text_of("flow_run.state.name"),
                        "reason": _text_of("flow_run.state.message"),
                    },
                )
            ],
        )
    for name, deployment in deployments.items():
        flow, _, workload = name.partition("/")
        if flow == "retrain":
            yield AutomationCore(
                name=f"orchard: data of {workload} changed",
                description=f"The event {DATA_CHANGED} of orchard.data.{workload} starts {name}.",
                tags=[OURS],
                trigger=EventTrigger(
                    match={"prefect.resource.id": f"orchard.data.{workload}"}, expect={DATA_CHANGED}, threshold=1
                ),
                actions=[
                    RunDeployment(source="selected", deployment_id=deployment, parameters=None, job_variables=None)
                ],
            )


def _silence(after: str, seconds: float) -> EventTrigger:
    """For each of our runs: this event, and then for so long neither a heartbeat nor any other state of the run."""
    return EventTrigger(
        match=_RUNS,
        match_related=_tagged(OURS),
        after={after},
        expect={"prefect.flow-run.*"},
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(seconds=seconds),
    )


def _text_of(what: str) -> dict[str, str]:
    """A parameter as text of what triggered; the shorter "{{ what }}" is made JSON, which an id cannot be."""
    return {"__prefect_kind": "jinja", "template": f"{{{{ {what} }}}}"}


def _tagged(tag: str) -> dict[str, str]:
    return {**_TAGGED, "prefect.resource.id": f"prefect.tag.{tag}"}


def _fields(automation: AutomationCore) -> dict[str, Any]:
    """What we say of it, in an order of its own: the server gives sets as lists."""
    said = automation.model_dump(mode="json", include={"description", "tags", "trigger", "actions"})
    said["trigger"] |= {name: sorted(said["trigger"][name]) for name in ("after", "expect", "for_each")}
    return said
