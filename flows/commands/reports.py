"""What versions found, from a terminal: one, two side by side, its report page, and a site of all of them."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from flows.commands import completing
from flows.commands.app import (
    REPORTS_PORT,
    SERVICES,
    VERSIONS,
    AsJson,
    Debug,
    app,
    minute,
    rich_table,
    say,
    stderr,
    stdout,
)
from models.common.errors import ConfigError, RegistryError

if TYPE_CHECKING:
    from infra.artifacts import Version
    from infra.report_site.comparison import Comparison, Group
    from infra.report_site.library import Facts

Spec = Annotated[
    str, typer.Argument(help="NAME (the latest), NAME@VERSION or NAME#STAGE.", autocompletion=completing.specs)
]
Open = Annotated[bool | None, typer.Option("--open/--no-open", help="In the browser; at a terminal if not given.")]
_MOST_ROWS = 20  # of metrics, configs or lineage


@app.command(
    rich_help_panel=VERSIONS,
    epilog="Examples: orchard report relay#champion · orchard report relay@v0.1.0 --out report.html",
)
def report(
    spec: Spec,
    out: Annotated[Path | None, typer.Option(help="File to write a copy to.")] = None,
    in_browser: Open = None,
    debug: Debug = False,
) -> None:
    """Open a version's report: one page, verified, that needs no network."""
    from infra.report_site.library import Library

    library = Library()
    version = library.find(spec)
    file = library.page_file(version)
    if out:
        try:
            out.write_bytes(file.read_bytes())
        except OSError as error:
            raise ConfigError(f"cannot write {out}: {error.strerror}\nname another file with --out") from None
    say(f"{version.name}@{version.version}  {out or file}")
    _open(str((out or file).absolute()), in_browser)


@app.command(rich_help_panel=SERVICES, epilog="Examples: orchard reports · orchard reports --port 8080 --no-open")
def reports(
    port: Annotated[
        int | None, typer.Option(help=f"Of this machine; {REPORTS_PORT} if not given, any free one for 0.")
    ] = None,
    in_browser: Open = None,
    debug: Debug = False,
) -> None:
    """Serve the reports of all versions: search them, compare two, see where they come from. Ctrl-C ends it."""
    from infra.local import ports
    from infra.local.state import running
    from infra.report_site.server import serve
    from infra.settings import settings

    services = running(settings().home)
    if port is None and services and services.reports:
        say(f"orchard up serves them already: {services.reports}")
        _open(services.reports, in_browser)
        return
    chosen = ports.choose(REPORTS_PORT if port is None else port, "the reports' site", "--port")
    with serve(port=chosen) as server:
        say(f"{server.address}   Ctrl-C ends it")
        _open(server.address, in_browser)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            stderr.print("ended", style="dim")


def _open(address: str, in_browser: bool | None) -> None:
    if stdout.is_terminal if in_browser is None else in_browser:
        typer.launch(address)


@app.command(rich_help_panel=VERSIONS, epilog="Examples: orchard show relay · orchard show relay#champion --json")
def show(spec: Spec, as_json: AsJson = False, debug: Debug = False) -> None:
    """Show what a version found and where it comes from, without fetching its weights."""
    from infra.report_site.library import Library

    library = Library()
    facts = library.facts(library.find(spec))
    if as_json:
        print(json.dumps(_as_json(facts)), flush=True)
    else:
        _show_version(facts.version)
        _show_facts(facts)
    if not facts.files:
        raise RegistryError(facts.problem)


@app.command(
    rich_help_panel=VERSIONS,
    epilog="Examples: orchard compare relay@v0.1.0 relay@v0.2.0 · orchard compare relay#champion relay --json",
)
def compare(
    first: Spec,
    second: Spec,
    every: Annotated[bool, typer.Option("--all", help="Every value that differs.")] = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Compare two versions: gates, metrics, configs and lineage; differences are second minus first."""
    from infra.report_site.comparison import compare as compared
    from infra.report_site.library import Library

    library = Library()
    comparison = compared(*(library.facts(library.find(spec)) for spec in (first, second)))
    if as_json:
        print(json.dumps(_comparison_as_json(comparison)), flush=True)
    else:
        _show_comparison(comparison, None if every else _MOST_ROWS)
    for facts in (comparison.first, comparison.second):
        if not facts.files:
            raise RegistryError(facts.problem)


def _as_json(facts: "Facts") -> dict[str, Any]:
    gates = facts.report.gates if facts.report else ()
    return {
        **facts.version.model_dump(mode="json"),
        "metrics": facts.metrics,
        "gates": {gate.name: gate.model_dump(exclude_none=True) | {"passed": gate.passed} for gate in gates},
        "config": facts.config,
        "lineage": facts.lineage,
        "files": facts.files,
        "problem": facts.problem,
    }


def _show_version(version: "Version") -> None:
    """What the registry says of a version."""
    stages = f"  {', '.join(version.stages)}" if version.stages else ""
    stdout.print(f"[bold]{version.name}@{version.version}[/]{escape(stages)}", highlight=False)
    if version.summary:
        stdout.print(escape(version.summary), highlight=False)
    seed = "" if version.seed is None else f", seed {version.seed}"
    _line("published", f"{minute(version.published)} UTC")
    _line("run name", version.run_key)
    _line("preset", f"{version.preset}{seed}" if version.preset else "")


def _show_facts(facts: "Facts") -> None:
    """What a version says of itself."""
    from infra.report_site.lineage_graph import words_of

    if facts.report:
        passed = sum(gate.passed for gate in facts.report.gates)
        _line("gates", f"{passed} of {len(facts.report.gates)} passed" if facts.report.gates else "")
    if facts.report and facts.report.headline:
        stdout.print(rich_table(facts.report.headline.title, facts.report.headline.columns, facts.report.headline.rows))
    words = words_of(facts)
    _line("code", words.code)
    _line("made of", ", ".join(words.inputs))
    _line("retrained", f"after {words.champion}" if words.champion else "")
    seconds = facts.lineage.get("seconds")
    if isinstance(seconds, dict) and isinstance(total := seconds.get("total"), int | float):
        _line("time", f"{total:.0f} s, {facts.lineage.get('gpu_hours', 0)} GPU-hours")
    if facts.files:
        _line("files", f"{len(facts.files)}, {sum(facts.files.values()) / 1e6:.1f} MB")
        _line("next", f"orchard pull {facts.spec} · orchard report {facts.spec}")
    if facts.files and facts.problem:
        _line("problem", facts.problem)


def _line(name: str, text: str) -> None:
    if text:
        stdout.print(f"{name:<10} {escape(text)}", highlight=False, soft_wrap=True)


def _comparison_as_json(comparison: "Comparison") -> dict[str, Any]:
    def differing(groups: "tuple[Group, ...]") -> list[dict[str, str]]:
        return [
            {"name": _path(group, row.name), "first": row.first, "second": row.second, "difference": row.difference}
            for group in groups
            for row in group.differing
        ]

    return {
        "first": comparison.first.spec,
        "second": comparison.second.spec,
        "cannot": comparison.cannot,
        "gates": [
            {
                "name": row.name,
                "first": row.first.value if row.first else None,
                "second": row.second.value if row.second else None,
                "better": row.better,
            }
            for row in comparison.gates
        ],
        **{part: differing(getattr(comparison, part)) for part in ("metrics", "config", "lineage")},
    }


def _show_comparison(comparison: "Comparison", most: int | None) -> None:
    first, second = comparison.first, comparison.second
    for told in comparison.cannot:
        stdout.print(f"[bold yellow]care[/]  {escape(told)}", highlight=False)
    named_alike = first.version.name == second.version.name
    columns = tuple(each.version.version if named_alike else each.spec for each in (first, second))
    if comparison.gates:
        rows = [
            (row.name, *(_gate(gate) for gate in (row.first, row.second)), _short(row.difference))
            for row in comparison.gates
        ]
        stdout.print(rich_table("gates", ("gate", *columns, "change"), rows))
    for part in ("metrics", "config", "lineage"):
        _show_part(part, getattr(comparison, part), columns, most)
    say(f"figures    orchard reports, then /compare?a={first.spec}&b={second.spec}")


def _gate(gate: Any) -> str:
    return f"{gate.value:.4g}{gate.unit}{'' if gate.passed else ' (failed)'}" if gate else "–"


def _show_part(part: str, groups: "tuple[Group, ...]", columns: tuple[str, ...], most: int | None) -> None:
    rows = [
        (_path(group, row.name), *(_short(text) for text in (row.first, row.second, row.difference)))
        for group in groups
        for row in group.differing
    ]
    if groups and not rows:
        say(f"{part}: equal")
    elif rows:
        stdout.print(rich_table(part, ("value", *columns, "change"), rows[:most]))
    if most and len(rows) > most:
        say(f"and {len(rows) - most} more in {part} differ: --all")


def _short(text: str) -> str:
    """A hash by its first letters, and a difference without its part in percent; anything else as it is."""
    return f"{text[:10]}…" if re.fullmatch("[0-9a-f]{32,}", text) else re.sub(r" \([+−][^)]* %\)$", "", text)


def _path(group: "Group", name: str) -> str:
    return f"{group.name}.{name}" if group.name else name
