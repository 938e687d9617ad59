"""Retraining from a terminal, as its deployment does on a schedule."""

from typing import Annotated

import typer

from flows.commands.app import RUNS, AsJson, Debug, OnCluster, Preset, Set, Workload, app, say, stderr
from flows.commands.changes import parse_changes


@app.command(
    rich_help_panel=RUNS,
    epilog="Examples: orchard retrain relay · orchard retrain nqs --preset tiny --set promotion.margin=0.01",
)
def retrain(
    workload: Workload,
    preset: Preset = "laptop",
    cluster: OnCluster = "laptop",
    changes: Set = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of everything random.")] = 0,
    approval: Annotated[
        bool, typer.Option("--approval", help="Ask on the run page before a better candidate is promoted.")
    ] = False,
    approval_hours: Annotated[
        float, typer.Option(min=0.001, max=168.0, help="How long an answer is waited for; without one nothing changes.")
    ] = 24.0,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Train again where code, lock, data or config changed; promote what is surely better than the champion."""
    from flows.running import run_retraining

    asking = {"approval": approval, "approval_hours": approval_hours}
    told = run_retraining(workload, preset, cluster, seed, parse_changes(changes), stderr, **asking)
    if as_json:
        print(told.model_dump_json(), flush=True)
        return
    decision = told.decision
    words = {"skip": "skipped", "keep": f"{decision.champion} stays champion", "promote": "promoted"}
    say(f"{words[decision.action]}: {decision.reason}")
