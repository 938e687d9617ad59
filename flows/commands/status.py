"""How everything stands, at a glance."""

import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from flows.commands.app import SERVICES, WIDE, Debug, app, duration, minute, stderr, stdout

_BAR = 12


@app.command(
    rich_help_panel=SERVICES,
    epilog="Examples: orchard status · orchard status --json · watch -n 5 orchard status",
)
def status(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
    debug: Debug = False,
) -> None:
    """Show services, runs under way, runs that wait, and which versions hold a stage."""
    from flows.overview import look

    found = look()
    if as_json:
        print(found.model_dump_json(), flush=True)
        return
    now = time.time()
    _show("Services", (_service(each) for each in found.services))
    _show("Runs under way", (row for run in found.under_way for row in _run(run, now)), "none; next: orchard run relay")
    if found.queue:
        _show("Queue", (_waiting(run, now) for run in found.queue))
    if found.scheduled:
        _show("Scheduled", (_waiting(run, now) for run in found.scheduled))
    _show("Stages", (_holder(each) for each in found.holders), "none is held; next: orchard promote NAME@VERSION")
    for problem in found.problems:
        first, *rest = problem.splitlines()
        stderr.print(f"[bold red]not known[/]: {escape(first)}", highlight=False, soft_wrap=True)
        for line in rest:
            stderr.print(f"  {escape(line)}", highlight=False, soft_wrap=True)


def _show(title: str, rows: Iterator[tuple[str, ...]], empty: str = "") -> None:
    """A heading, and under it the rows in columns; the first column is never broken."""
    stdout.print(f"[bold]{title}[/]", highlight=False)
    table = Table.grid(padding=(0, 2, 0, 0))
    for row in rows:
        if not table.columns:
            for place in range(len(row)):
                table.add_column(no_wrap=place == 0)
        table.add_row("  " + row[0], *row[1:])
    if table.rows:
        stdout.print(table, highlight=False)
    else:
        stdout.print(f"  {empty}", highlight=False, style="dim")
    stdout.print()


def _service(each: Any) -> tuple[str, ...]:
    return each.name, " ".join(part for part in (escape(each.address or ""), f"[dim]{escape(each.text)}[/]") if part)


def _run(run: Any, now: float) -> Iterator[tuple[str, ...]]:
    since = f"{run.state} for {duration(now - run.started)}" if run.started else run.state
    told = ", ".join(part for part in (since, f"on {run.cluster}" if run.cluster else "", run.why) if part)
    name = escape(run.run_name)
    yield f"[bold]{f'[link={run.page}]{name}[/link]' if run.page else name}[/]", escape(told)
    for stage in run.stages:
        done = round(_BAR * stage.percent / 100)
        bar = f"[green]{'━' * done}[/][dim]{'─' * (_BAR - done)}[/] " if stdout.width >= WIDE else ""
        yield f"  {escape(stage.name)} {bar}{stage.percent:.0f} %", escape(stage.text)


def _waiting(run: Any, now: float) -> tuple[str, ...]:
    wait = (
        ""
        if run.due is None
        else f"in {duration(run.due - now)}"
        if run.due > now
        else f"for {duration(now - run.due)}"
    )
    late = "  [bold yellow]late[/]" if run.late else ""
    return escape(run.run_name), escape(run.workload), escape(run.cluster), f"{wait}{late}"


def _holder(each: Any) -> tuple[str, ...]:
    latest = "the latest" if each.latest == each.version else f"the latest is {each.latest}"
    return (
        f"{each.name}@{each.version}",
        f"[bold]{escape(each.stage)}[/]",
        f"published {minute(each.published)} UTC",
        latest,
    )
