"""Scheduled retraining: skip, or train a candidate, compare it with the champion, and promote it if it is better."""

import importlib
from typing import Annotated, Any

from prefect import Flow, flow
from prefect.client.schemas.objects import State
from pydantic import Field

from infra.retraining import Retraining, open_retraining
from models.common import workloads
from models.common.promotion import decide
from tasks.cancelling import STOPPABLE
from tasks.forms import ClusterName, Overrides, Seed
from tasks.retraining import (
    ask,
    begin_candidate,
    carry_out,
    compare,
    name_of_retraining,
    published_before,
    with_candidate,
    with_contest,
)
from tasks.runs import Run

Workload = Annotated[str, Field(json_schema_extra={"enum": workloads.names()})]
Hours = Annotated[float, Field(gt=0.0, le=168.0)]


@flow(name="retrain", flow_run_name=name_of_retraining, **STOPPABLE)
def retrain(
    workload: Workload,
    preset: str = "laptop",
    cluster: ClusterName = "laptop",
    seed: Seed = 0,
    approval: bool = False,
    approval_hours: Hours = 24.0,
    overrides: Overrides = None,
) -> State:
    """Fingerprint -> candidate -> contest with the champion -> decision -> promotion, or none.

    Args:
        workload: What is trained again.
        preset: What is run, and how large; compared with the champion's.
        cluster: Where: the shape of the machines. Results do not depend on it.
        seed: Of everything random in the candidate's run.
        approval: Whether a person is asked before a better candidate becomes champion.
        approval_hours: How long an answer is waited for; without one the champion stays.
        overrides: Fields of the preset to change, as in {"promotion.margin": 0.02}.
    """
    asked = open_retraining(workload, preset, cluster, seed, overrides or {}, approval=approval)
    situation, champion = compare(asked)
    if decide(situation).action == "run":
        run = begin_candidate(asked, situation, champion)
        ended = published_before(run) or _train_again(asked, run)
        situation = with_candidate(run, situation, ended)
        situation = with_contest(run, asked, situation, champion)
    decision = decide(situation)
    if approval and decision.action == "promote":
        decision = ask(decision, approval_hours)
    return carry_out(asked, decision)


def _train_again(asked: Retraining, run: Run) -> State:
    """How the workload's own flow has ended."""
    pipeline: Flow[..., Any] = getattr(importlib.import_module(f"flows.{asked.workload}"), asked.workload)
    made_of = {"preset": asked.preset, "cluster": asked.cluster, "seed": asked.seed, "overrides": asked.overrides}
    return pipeline(**made_of, run_key=run.key, return_state=True)
