"""Runs from a terminal: started, read, cancelled, gone on with."""

import json
import time
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from flows.commands import completing
from flows.commands.app import (
    RUNS,
    AsJson,
    Debug,
    OnCluster,
    Preset,
    Set,
    Workload,
    app,
    rich_table,
    say,
    stderr,
    stdout,
)
from flows.commands.changes import parse_changes
from models.common.errors import ClusterError

if TYPE_CHECKING:
    from flows.run_log import Line

RunName = Annotated[
    str, typer.Argument(metavar="RUN", help="Run name, as in orchard status.", autocompletion=completing.run_names)
]
_LOOK_SECONDS = 0.5
_LEVELS = {"info": "", "warning": "yellow", "error": "bold red"}


@app.command(
    rich_help_panel=RUNS,
    epilog="Examples:\n\n  orchard run relay --preset tiny\n\n"
    "  orchard run relay --set teacher.max_steps=2000 --set teacher.optimizer.learning_rate=0.001\n\n"
    "  orchard run relay --run-name first\n\n"
    "  RAY_ADDRESS=http://head:8265 orchard run relay --cluster node-8",
)
def run(
    workload: Workload,
    preset: Preset = "laptop",
    cluster: OnCluster = "laptop",
    changes: Set = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of weights, batches and generated data.")] = 0,
    run_key: Annotated[
        str | None,
        typer.Option(
            "--run-name",
            "--run-key",
            help="Run name; empty makes one. That of a run that was stopped goes on with it.",
            autocompletion=completing.run_names,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object on standard output.")] = False,
    debug: Debug = False,
) -> None:
    """Run a workload's pipeline, from its data to a published version."""
    from flows.running import run_flow

    result = run_flow(workload, preset, cluster, seed, run_key, parse_changes(changes), stderr)
    if as_json:
        print(json.dumps(result.model_dump(mode="json", exclude={"headline"})), flush=True)
    else:
        _show_result(result)


@app.command(
    rich_help_panel=RUNS,
    epilog="Examples: orchard logs RUN · orchard logs RUN --follow · orchard logs RUN --stage teacher",
)
def logs(
    run_name: RunName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run is over.")] = False,
    stage: Annotated[
        str | None, typer.Option(help="One stage; all if not given.", autocompletion=completing.stages)
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Read what a run has said, and its errors."""
    from flows.finding import find_run
    from flows.run_log import log_of

    found = find_run(run_name, server_may_be_down=True)
    log = log_of(found, stage)
    while True:
        goes_on = follow and found.is_under_way  # asked first, so that the last lines are not missed
        for line in log.new_lines():
            if as_json:
                print(json.dumps(asdict(line)), flush=True)
            else:
                _show_line(line)
        if not goes_on:
            return
        time.sleep(_LOOK_SECONDS)
        found = found.again()


@app.command(rich_help_panel=RUNS, epilog="Example: orchard cancel relay-laptop-0-20261121-093000-1f2e")
def cancel(run_name: RunName, debug: Debug = False) -> None:
    """Cancel a run, wherever it was started, and wait until all of its workers are gone."""
    from flows.ending import cancel_run

    ended = cancel_run(run_name, say)
    if ended.left:
        raise ClusterError(
            f"run '{run_name}' is cancelled, and Ray still has {len(ended.left)} of its processes\n"
            + "\n".join(ended.left[:8])
            + f"\nfits: none\nrepeat this: orchard cancel {run_name}"
        )
    if ended.had_begun:
        say(f"none of its workers is left; its checkpoints are kept\ngo on with: orchard resume {run_name}")
    else:
        say("it had not begun, and will not")


@app.command(rich_help_panel=RUNS, epilog="Example: orchard resume relay-laptop-0-20261121-093000-1f2e")
def resume(
    run_name: RunName,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object on standard output.")] = False,
    debug: Debug = False,
) -> None:
    """Go on with a run that was stopped or failed: with the options that it began with, from its checkpoints."""
    from flows.finding import begun_with
    from flows.running import run_flow
    from infra.runs import work_from

    asked = begun_with(run_name)
    work_from(asked.started_in)
    result = run_flow(asked.workload, asked.preset, asked.cluster, asked.seed, run_name, asked.overrides, stderr)
    if as_json:
        print(json.dumps(result.model_dump(mode="json", exclude={"headline"})), flush=True)
    else:
        _show_result(result)


def _show_line(line: "Line") -> None:
    at = time.strftime("%m-%d %H:%M:%S", time.localtime(line.time))
    first, *rest = line.text.splitlines() or [""]
    stage = f"{line.stage}: " if line.stage else ""
    print_line = partial(stdout.print, highlight=False, soft_wrap=True)
    print_line(f"[dim]{at}[/]  {escape(stage + first)}", style=_LEVELS[line.level])
    for each in rest:
        print_line(f"{' ' * len(at)}  {escape(each)}", style=_LEVELS[line.level])


def _show_result(result: Any) -> None:
    if result.headline:
        stdout.print(rich_table(result.headline.title, result.headline.columns, result.headline.rows))
        if result.headline.caption:
            stdout.print(escape(result.headline.caption), style="dim")
    spans = [f"{kind} {seconds:.0f} s" for kind, seconds in result.seconds.items() if kind != "until_first_step"]
    stdout.print(f"\npublished  [bold]{result.artifact}@{result.version}[/]", highlight=False)
    stdout.print(f"report     {escape(str(result.report))}", highlight=False, soft_wrap=True)
    stdout.print(f"time       {', '.join(spans)}", highlight=False, soft_wrap=True)
    stdout.print(
        f"\nnext       orchard pull {result.artifact}@{result.version} --out {result.artifact}-{result.version}",
        highlight=False,
        soft_wrap=True,
    )
