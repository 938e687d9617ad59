"""Deployments from a terminal."""

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.app import SERVICES, AsJson, Debug, app, say

_SIGNS = {"add": "+", "change": "~", "remove": "-"}


@app.command(
    rich_help_panel=SERVICES,
    epilog="Examples: orchard deploy --plan · orchard deploy · orchard deploy --file mine.yaml",
)
def deploy(
    plan: Annotated[bool, typer.Option("--plan", help="Show what would change, and change nothing.")] = False,
    file: Annotated[
        Path | None, typer.Option(help="The deployments; prefect.yaml of this repository if not given.")
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make the deployments, queues and automations of the Prefect server those of prefect.yaml."""
    from infra.settings import prepare_prefect

    prepare_prefect(quiet=True)
    from flows.deploying import FILE, deploy

    steps = deploy(file or FILE, plan=plan).steps
    if as_json:
        for step in steps:
            print(step.model_dump_json())
        return
    for step in steps:
        say(f"{_SIGNS[step.action]} {step.kind} {step.name}")
        for line in step.differences:
            say(f"    {line}")
    if not steps:
        say("the server is as the file says")
    elif plan:
        say("\nnothing was changed; `orchard deploy` makes it so")
