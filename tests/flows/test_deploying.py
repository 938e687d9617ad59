"""A real Prefect server is made what a file says, and nothing else on it is touched."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events import emit_event
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Crashed, Running

from flows.automations import DATA_CHANGED, Watch
from flows.deploying import FILE, deploy
from flows.plan import Plan
from flows.tidy import tidy
from models.common.errors import ClusterError, ConfigError
from tests.fixtures.commands import orchard
from tests.fixtures.workers import wait_for

POOL = {"name": "orchard"}
PULL = {"name": "pull", "entrypoint": "flows.pull.pull", "work_pool": POOL}
TIDY = {"name": "tidy", "entrypoint": "flows.tidy.tidy", "work_pool": POOL}
NIGHTLY = {"slug": "nightly", "cron": "0 3 * * 1", "timezone": "Europe/Berlin"}
PULL_NIGHTLY = PULL | {"parameters": {"spec": "relay"}, "schedules": [NIGHTLY]}


@pytest.fixture
def client(prefect: str) -> Iterator[SyncPrefectClient]:
    """A client of the session's server, which has nothing of ours at first."""
    with temporary_settings({PREFECT_API_URL: prefect}), get_client(sync_client=True) as client:
        for each in client.read_deployments():
            client.delete_deployment(each.id)
        for automation in client.read_automations():
            client.delete_automation(automation.id)
        yield client


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes deployments to a file like prefect.yaml."""

    def write(*deployments: dict[str, Any], **changed: Any) -> Path:
        file = tmp_path / "prefect.yaml"
        queues = {"laptop": 2, "default": 8}
        file.write_text(yaml.safe_dump({"name": "orchard", "queues": queues, "deployments": [*deployments], **changed}))
        return file

    return write


def tiny(workload: str) -> dict[str, Any]:
    return {
        "name": "tiny",
        "entrypoint": f"flows.{workload}.{workload}",
        "parameters": {"preset": "tiny"},
        "work_pool": POOL | {"work_queue_name": "laptop"},
    }


def retraining(workload: str) -> dict[str, Any]:
    return {
        "name": workload,
        "entrypoint": "flows.retrain.retrain",
        "parameters": {"workload": workload, "preset": "laptop"},
        "work_pool": POOL | {"work_queue_name": "laptop"},
    }


def names(plan: Plan) -> list[tuple[str, str, str]]:
    return [(step.action, step.kind, step.name) for step in plan.steps]


def found(client: SyncPrefectClient, name: str) -> DeploymentResponse:
    return client.read_deployment_by_name(name)


def test_the_repositorys_file_is_deployed_as_planned_and_then_nothing_differs(client: SyncPrefectClient) -> None:
    planned = deploy(FILE, plan=True)
    assert ("add", "deployment", "relay/tiny") in names(planned)
    assert client.read_deployments() == [], "a plan changes nothing"
    assert client.read_automations() == []
    assert names(deploy(FILE)) == names(planned)
    assert deploy(FILE).steps == ()
    assert deploy(FILE, plan=True).steps == ()
    automations = [automation.name for automation in client.read_automations()]
    assert len(automations) == len(set(automations)) == 7, automations
    queues = {found(client, name).work_queue_name for name in ("relay/tiny", "relay/gpu", "relay/paper")}
    assert queues == {"laptop", "one-gpu", "cluster"}


def test_a_terminal_says_what_would_change_and_then_that_nothing_does(
    client: SyncPrefectClient, written: Callable[..., Path]
) -> None:
    file = written(PULL)
    planned = orchard("deploy", "--plan", "--file", str(file))
    assert planned.returncode == 0, planned.stderr
    assert "+ deployment pull/pull" in planned.stdout
    assert "nothing was changed" in planned.stdout
    deploy(file)
    assert "the server is as the file says" in orchard("deploy", "--file", str(file)).stdout


def test_what_changes_is_told_and_made_so(client: SyncPrefectClient, written: Callable[..., Path]) -> None:
    deploy(written(PULL | {"description": "Pulls.", "concurrency_limit": 3}))
    before = found(client, "pull/pull")
    changed = written(PULL | {"description": "Pulls a version.", "tags": ["mine"]}, queues={"laptop": 1, "default": 8})
    (queue, deployment) = deploy(changed).steps
    assert (queue.kind, queue.name, queue.differences) == (
        "work queue", "orchard/laptop", ("concurrency_limit: 2 -> 1",),
    )  # fmt: skip
    assert 'description: "Pulls." -> "Pulls a version."' in deployment.differences
    assert "concurrency_limit: 3 -> null" in deployment.differences
    after = found(client, "pull/pull")
    assert after.id == before.id, "its runs stay its own"
    assert (after.description, after.tags, after.global_concurrency_limit) == (
        "Pulls a version.", ["mine", "orchard"], None,
    )  # fmt: skip


def test_what_left_the_file_is_removed_and_what_is_not_ours_stays(
    client: SyncPrefectClient, written: Callable[..., Path]
) -> None:
    deploy(written(PULL, TIDY))
    flow = client.create_flow_from_name("somebody-elses")
    client.create_deployment(flow_id=flow, name="own", tags=["orchard-like"])
    steps = names(deploy(written(PULL)))
    assert ("remove", "deployment", "tidy/tidy") in steps
    assert ("remove", "automation", "orchard: tidy up after a crash") in steps, "it would start what is gone"
    with pytest.raises(ObjectNotFound):
        found(client, "tidy/tidy")
    assert found(client, "somebody-elses/own").tags == ["orchard-like"]


def test_a_schedule_is_off_at_first_then_as_switched_and_gone_when_the_file_has_none(
    client: SyncPrefectClient, written: Callable[..., Path]
) -> None:
    file = written(PULL_NIGHTLY)
    deploy(file)
    (schedule,) = found(client, "pull/pull").schedules
    assert (schedule.active, schedule.slug) == (False, "nightly")
    client.update_deployment_schedule(found(client, "pull/pull").id, schedule.id, active=True)
    assert deploy(file).steps == (), "the switch in the UI is the user's"
    (step,) = deploy(written(PULL_NIGHTLY | {"schedules": [NIGHTLY | {"active": False}]})).steps
    assert step.differences == ("schedules[0].active: true -> false",), "a file that says it is off turns it off"
    deploy(written(PULL_NIGHTLY | {"schedules": []}))
    assert found(client, "pull/pull").schedules == []


BAD = {
    "a cron line that is none": (PULL | {"schedules": [NIGHTLY | {"cron": "0 25 * * *"}]}, "cron.*no cron line; fits"),
    "an unknown time zone": (
        PULL | {"schedules": [NIGHTLY | {"timezone": "Europe/Berln"}]}, "no such time zone; fits.*Europe/Berlin",
    ),
    "no time zone": (PULL | {"schedules": [{"slug": "a", "cron": "0 3 * * *"}]}, "timezone"),
    "a schedule without what it needs": (
        PULL | {"schedules": [NIGHTLY]}, "pull/pull.*'spec' is a required property",
    ),
    "a module that is not there": (PULL | {"entrypoint": "flows.pul.pull"}, "there is no flow flows.pul.pull"),
    "a flow that is not there": (PULL | {"entrypoint": "flows.pull.push"}, "there is no flow flows.pull.push"),
    "what is no flow": (PULL | {"entrypoint": "flows.pull.Path"}, "there is no flow flows.pull.Path"),
    "a parameter that is not there": (PULL | {"parameters": {"spek": "relay"}}, "no parameter 'spek'.*did you mean"),
    "a parameter that does not fit": (PULL | {"parameters": {"spec": "@"}}, "'spec'.*does not match"),
    "a queue that is not there": (
        PULL | {"work_pool": POOL | {"work_queue_name": "laptpo"}}, "no queue 'laptpo'.*did you mean 'laptop'",
    ),
    "a field that is none": (PULL | {"schedule": NIGHTLY}, "schedule.*Extra inputs"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_cannot_work_is_refused_before_anything_is_written(
    case: str, client: SyncPrefectClient, written: Callable[..., Path]
) -> None:
    deployment, told = BAD[case]
    with pytest.raises(ConfigError, match=f"(?s){told}"):
        deploy(written(TIDY, deployment))
    assert client.read_deployments() == []


def test_two_deployments_of_one_name_are_refused(written: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match="two deployments pull/pull"):
        deploy(written(PULL, PULL))


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        deploy(tmp_path / "none.yaml")
    (tmp_path / "broken.yaml").write_text("deployments: [")
    with pytest.raises(ConfigError, match="is not YAML"):
        deploy(tmp_path / "broken.yaml")


def test_without_a_server_nothing_is_deployed(written: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ClusterError, match="orchard up"):
        deploy(written(PULL))
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    with pytest.raises(ClusterError, match="does not answer"):
        deploy(written(PULL))


OUT_OF_RANGE = [
    ("relay/tiny", "teacher_steps", 0),
    ("relay/tiny", "seed", -1),
    ("relay/tiny", "preset", "huge"),
    ("relay/tiny", "cluster", "one-gpu"),
    ("relay/tiny", "run_key", "Not A Name"),
    ("relay/tiny", "overrides", {"no dotted field": 1}),
    ("nqs/tiny", "interaction", 101.0),
    ("nqs/tiny", "lattice", "four by two"),
    ("nqs/tiny", "unheard_of", 1),
]


def test_values_out_of_range_are_refused_by_the_api_and_make_no_run(
    client: SyncPrefectClient, written: Callable[..., Path]
) -> None:
    deploy(written(*(tiny(workload) for workload in ("relay", "nqs"))))
    told = {}
    for name, field, value in OUT_OF_RANGE:
        with pytest.raises(PrefectHTTPStatusError) as refused:
            client.create_flow_run_from_deployment(found(client, name).id, parameters={field: value})
        told[name, field] = refused.value.response
    assert {answer.status_code for answer in told.values()} <= {409, 422}
    assert "0 is less than the minimum of 1" in told["relay/tiny", "teacher_steps"].text
    assert runs_of(client, "relay/tiny") == runs_of(client, "nqs/tiny") == []

    empty = {"teacher_steps": None, "overrides": None, "run_key": "", "seed": 3}
    client.create_flow_run_from_deployment(found(client, "relay/tiny").id, parameters=empty)
    (run,) = runs_of(client, "relay/tiny")
    assert {name: run.parameters[name] for name in empty} == empty, "an empty field stays as the preset has it"


def runs_of(client: SyncPrefectClient, name: str) -> list[FlowRun]:
    deployment = DeploymentFilter(id=DeploymentFilterId(any_=[found(client, name).id]))
    return client.read_flow_runs(deployment_filter=deployment)


def test_a_run_whose_heart_stops_is_crashed_and_tidied_up_after(
    client: SyncPrefectClient, written: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    workload = PULL | {"tags": ["workload"]}
    deploy(written(workload, TIDY))
    (step,) = deploy(written(workload, TIDY), watch=Watch(heart=10)).steps  # the shortest that Prefect has
    assert (step.action, step.name) == ("change", "orchard: heart stopped")
    run = client.create_flow_run_from_deployment(
        found(client, "pull/pull").id, name="a-run", parameters={"spec": "relay"}
    )
    client.set_flow_run_state(run.id, Running())
    heartbeat(run)
    assert wait_for(lambda: [each.state_type for each in runs_of(client, "pull/pull")] == ["CRASHED"], 60)
    (tidying,) = wait_for(lambda: runs_of(client, "tidy/tidy"), 30)
    asked = tidying.parameters
    assert (asked["run_key"], asked["flow_run"], asked["state"]) == ("a-run", str(run.id), "Crashed")
    assert "its heart stopped" in asked["reason"]
    time.sleep(2)
    assert len(runs_of(client, "tidy/tidy")) == 1

    monkeypatch.setenv("ORCHARD_RESTARTS", "0")
    tidied = tidy(**asked)
    assert not tidied.goes_on
    assert [each.left for each in tidied.stopped.values()] == [()]
    event = wait_for(lambda: events(client, "orchard.run.failed", "orchard.run.a-run"), 30)
    assert [each["payload"]["reason"][:8] for each in event] == ["Crashed:"]


def test_a_run_that_crashes_is_started_again_as_often_as_that_is_allowed(
    client: SyncPrefectClient, written: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(written(PULL))
    run = client.create_flow_run_from_deployment(found(client, "pull/pull").id, parameters={"spec": "relay"})
    monkeypatch.setenv("ORCHARD_RESTARTS", "2")
    went_on, messages = [], []
    for _ in range(3):
        client.set_flow_run_state(run.id, Running(), force=True)
        client.set_flow_run_state(run.id, Crashed(message="killed"), force=True)
        went_on.append(tidy(run_key=run.name, flow_run=run.id, state="Crashed", reason="killed").goes_on)
        state = client.read_flow_run(run.id).state
        assert state is not None
        messages.append((state.name, state.message))
    assert went_on == [True, True, False]
    assert messages == [
        ("AwaitingRetry", "It crashed, and is started again, 1 of 2 times: killed"),
        ("AwaitingRetry", "It crashed, and is started again, 2 of 2 times: killed"),
        ("Crashed", "killed"),
    ]


def test_a_run_that_was_started_again_is_left_alone(client: SyncPrefectClient, written: Callable[..., Path]) -> None:
    deploy(written(PULL))
    run = client.create_flow_run_from_deployment(found(client, "pull/pull").id, parameters={"spec": "relay"})
    client.set_flow_run_state(run.id, Running())
    assert tidy(run_key=run.name, flow_run=run.id).goes_on
    assert events(client, "orchard.run.failed", f"orchard.run.{run.name}") == []


def test_new_data_start_the_retraining_of_their_workload(
    client: SyncPrefectClient, written: Callable[..., Path]
) -> None:
    deploy(written(retraining("relay"), retraining("nqs")))
    emit_event(DATA_CHANGED, resource={"prefect.resource.id": "orchard.data.relay"})
    (run,) = wait_for(lambda: runs_of(client, "retrain/relay"), 30)
    assert (run.parameters["workload"], run.parameters["preset"]) == ("relay", "laptop")
    assert runs_of(client, "retrain/nqs") == []


def heartbeat(run: FlowRun) -> None:
    """One sign of life, as the engine sends it."""
    related = [{"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"} for tag in run.tags]
    resource = {"prefect.resource.id": f"prefect.flow-run.{run.id}", "prefect.resource.name": run.name}
    emit_event("prefect.flow-run.heartbeat", resource=resource, related=related)


def events(client: SyncPrefectClient, event: str, resource: str) -> list[dict[str, Any]]:
    asked = {"event": {"name": [event]}, "resource": {"id": [resource]}}
    return client.request("POST", "/events/filter", json={"filter": asked}).json()["events"]
