"""compare, contest, ask, carry_out: what a retraining does around the workload's own flow."""

from typing import Any

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from prefect.runtime import flow_run
from prefect.states import Completed, Running
from pydantic import Field

from infra import artifacts, fingerprint, manifests, retraining
from infra.retraining import STAGE, Champion, Retraining, spec_of
from infra.runs import new_key
from models.common.contest import CANDIDATE, CHAMPION, HELD_OUT, ContestStage
from models.common.contract import WorkloadConfig
from models.common.errors import ConfigError, OrchardError, RegistryError, TrainingError
from models.common.handles import Checkpoint, Dataset, Handle
from models.common.promotion import Approval, Case, Decision, Situation, after_asking
from tasks.data import prepare
from tasks.decision_page import as_numbers, as_page
from tasks.runs import Run, begin
from tasks.stages import is_worth_a_retry, run_stage

_LOOK_SECONDS = 5
_KINDS: dict[Case, type[OrchardError]] = {
    "registry unreachable": RegistryError,
    "champion damaged": RegistryError,
    "not comparable": ConfigError,
}


class Answer(RunInput):
    """The form on the run page of a retraining that waits."""

    promote: bool = Field(default=False, title="Promote the candidate", description="Off: the champion stays")
    name: str = Field(default="", title="Your name", max_length=80)
    comment: str = Field(default="", title="Comment", max_length=1000)


def name_of_retraining() -> str:
    """The name of a retraining's flow run; the run of its candidate has a key of its own."""
    asked = flow_run.parameters
    return new_key(f"retrain-{asked['workload']}", asked["preset"], asked["seed"])


@task(task_run_name="compare-with-champion")
def compare(asked: Retraining) -> tuple[Situation, Champion | None]:
    """What is known before anything is trained, and the champion, pulled and verified. Faults are part of it."""
    try:
        retraining.require_registry()
        version = retraining.champion_version(asked.workload)
    except RegistryError as fault:
        return Situation(registry_fault=str(fault)), None
    if not version:
        return Situation(judged_before=retraining.judged_before(asked.folder())), None
    spec = spec_of(asked.workload, version)
    try:
        champion = retraining.read_champion(asked.workload, version)
    except RegistryError as fault:
        return Situation(champion=spec, champion_fault=str(fault)), None
    changed = fingerprint.changes(champion.fingerprint, asked.fingerprint, champion.config, asked.config)
    situation = Situation(
        champion=spec,
        changed=changed,
        not_comparable=_why_not_comparable(asked.config, champion.config) if changed else "",
        taken_back=retraining.taken_back(asked.workload, asked.fingerprint) if changed else "",
        judged_before=retraining.judged_before(asked.folder(version)),
    )
    return situation, champion


def begin_candidate(asked: Retraining, situation: Situation, champion: Champion | None) -> Run:
    """The candidate's run, checked before anything starts; its lineage will say whose candidate it is."""
    folder = asked.folder(champion.version if champion else "")
    retraining.note_retraining(folder, situation.champion, situation.changed)
    run, _ = begin(asked.workload, asked.preset, asked.cluster, asked.seed, folder.key, asked.overrides)
    return run


def published_before(run: Run) -> State | None:
    """A state for the candidate that an earlier attempt, here or on another machine, has published; else None."""
    version = retraining.candidate_of(run.workload, run.key)
    return Completed(message=f"{spec_of(run.workload, version)} was published before") if version else None


def with_candidate(run: Run, situation: Situation, ended: State) -> Situation:
    """The situation with the version that the candidate's run has published, or with why there is none.

    ended: the state of the candidate's flow run.
    """
    run.folder.refuse_if_cancelled(run.started)
    try:
        version = retraining.candidate_of(run.workload, run.key)
    except RegistryError as fault:
        return situation.but(candidate_fault=f"the candidate of run {run.key} cannot be found: {fault}")
    if version:
        return situation.but(candidate=spec_of(run.workload, version))
    return situation.but(candidate_fault=f"the candidate's run {run.key} failed: {_first_error(run, ended)}")


def with_contest(run: Run, asked: Retraining, situation: Situation, champion: Champion | None) -> Situation:
    """The situation with what candidate and champion scored on the same items, or with why that is not known."""
    if champion is None or not situation.candidate:
        return situation
    stage = asked.config.contest().but(seed=retraining.seed_of(run.key))
    data = stage.held_out()
    held_out = prepare.submit(run, data) if data else None
    state = contest(run, stage, situation.candidate, champion.checkpoint, held_out, return_state=True)
    run.folder.refuse_if_cancelled(run.started)
    if state.is_completed():
        return situation.but(contest=state.result())
    return situation.but(contest_fault=f"the contest of run {run.key} failed: {_first_error(run, state)}")


@task(task_run_name="contest", retries=2, retry_delay_seconds=5, retry_condition_fn=is_worth_a_retry)
def contest(
    run: Run, stage: ContestStage, candidate: str, champion: Checkpoint, held_out: Dataset | None
) -> dict[str, Any]:
    """What the job that scores both versions has left, as it is: the decision says whether it is whole."""
    with run.folder.timed("evaluate", "contest"):
        folder = artifacts.pull(candidate).folder
    challenger = Checkpoint(name=candidate, folder=folder, sha256=manifests.fingerprint(folder))
    inputs: dict[str, Handle] = {CANDIDATE: challenger, CHAMPION: champion}
    if held_out:
        inputs[HELD_OUT] = held_out
    return retraining.read_contest(run_stage(run, "evaluate", "contest", stage, inputs).folder)


def ask(decision: Decision, hours: float) -> Decision:
    """The decision once a person was asked on the run page, or when nobody has answered for so many hours."""
    told = f"# Promote {decision.candidate}?\n\n{decision.reason}\n\n"
    numbers = as_numbers(decision.contest) if decision.contest else ""
    form = Answer.with_initial_data(description=told + numbers)
    try:
        answer = pause_flow_run(wait_for_input=form, timeout=max(1, round(hours * 3600)), poll_interval=_LOOK_SECONDS)
    except FlowPauseTimeout:
        _run_on()
        return after_asking(decision, None)
    return after_asking(decision, Approval(promote=answer.promote, name=answer.name, comment=answer.comment))


def carry_out(asked: Retraining, decision: Decision) -> State:
    """The state that the retraining ends in, once its decision is carried out, kept and shown on the run page.

    Raises an OrchardError where something is broken; the champion is as it was then.
    """
    version, refused = decision.champion.partition("@")[2], None
    if decision.action == "promote":
        state = promote(decision.candidate, version, return_state=True)
        refused = None if state.is_completed() else state.result(raise_on_failure=False)
    folder, done = asked.folder(version), refused is None
    told = retraining.record(asked.workload, asked.preset, asked.seed, folder, decision, carried_out=done)
    create_markdown_artifact(key=f"retrain-{asked.workload}", markdown=as_page(told), description=decision.case)
    get_run_logger().info("%s: %s", decision.action, decision.reason)
    if isinstance(refused, Exception):
        raise refused
    if decision.is_a_fault:
        kind = _KINDS.get(decision.case, TrainingError)
        raise kind(f"{decision.reason}\n{decision.champion or 'nobody'} is champion, as before")
    names = {"skip": "Skipped", "keep": "Kept", "promote": "Promoted"}
    return Completed(name=names[decision.action], message=decision.reason, data=told)


@task(task_run_name="promote", retries=2, retry_delay_seconds=5)
def promote(candidate: str, instead_of: str) -> None:
    """Makes the candidate champion, unless somebody has made another version champion meanwhile."""
    name, _, version = candidate.partition("@")
    artifacts.promote(name, version, STAGE, instead_of=instead_of)


def _why_not_comparable(config: WorkloadConfig, champion: dict[str, Any]) -> str:
    try:
        config.contest().check_versions(config.model_dump(mode="json"), champion)
    except ConfigError as fault:
        return str(fault)
    except NotImplementedError:
        return (
            f"{config.name} has no contest, by which its versions are compared\nfits: a workload whose config has a "
            "`contest`, as models/common/contract.py says\npromote by hand: orchard promote NAME@VERSION"
        )
    return ""


def _first_error(run: Run, ended: State) -> str:
    """What a stage of the run has raised first, else what its flow or task has."""
    error = run.folder.first_error(since=run.started) or ended.result(raise_on_failure=False)
    return f"{type(error).__name__}: {error}" if isinstance(error, Exception) else ended.message or "see its log"


def _run_on() -> None:
    """Lets this flow run go on after a pause that nobody ended: Prefect would now fail it, whatever it does."""
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(flow_run.id, Running(), force=True)
