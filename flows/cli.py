"""`orchard`: the same flows from a terminal."""

import json
import sys
import time
import traceback
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from infra.settings import ROOT
from models.common.errors import ConfigError, OrchardError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Research methods as training pipelines that a lab can run again.\n\n"
    "First steps:\n\n"
    "  orchard doctor                                   would a run work here?\n\n"
    "  orchard run relay --preset tiny                  the whole pipeline in a minute\n\n"
    "  orchard run relay --preset laptop --seed 1       the method's effect in minutes\n\n"
    "  orchard pull relay --out mine                    the latest version, verified",
)
data_app = typer.Typer(no_args_is_help=True, help="Datasets: deterministic, pinned by data.dvc.")
app.add_typer(data_app, name="data")

_out, _err = Console(), Console(stderr=True)
_debugging = False


def _set_debugging(value: bool) -> None:
    global _debugging  # noqa: PLW0603 main() reads it when a command has failed
    _debugging = _debugging or value


Debug = Annotated[
    bool, typer.Option("--debug", callback=_set_debugging, is_eager=True, help="Show the traceback of an error.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="STAGE.FIELD=VALUE", help="Change one field of the preset; can be repeated."),
]


def main() -> NoReturn:
    """Runs the command of the command line; an error is one block on standard error, and an exit code."""
    try:
        app()
    except OrchardError as error:
        _leave(error)
    sys.exit(0)


def _leave(error: OrchardError) -> NoReturn:
    if _debugging:
        traceback.print_exception(error)
    what, *rest = str(error).splitlines()
    _err.print(f"[bold red]{type(error).__name__}[/]: {escape(what)}", highlight=False, soft_wrap=True)
    for line in rest:
        _err.print(f"  {escape(line)}", highlight=False, soft_wrap=True)
    sys.exit(error.exit_code)


@app.command(
    epilog="Examples:\n\n  orchard run relay --preset tiny\n\n"
    "  orchard run relay --set teacher.max_steps=2000 --set teacher.optimizer.learning_rate=0.001\n\n"
    "  orchard run relay --run-key relay-laptop-0-20261121-093000-1f2e     (go on with a run that was stopped)\n\n"
    "  RAY_ADDRESS=http://head:8265 orchard run relay --cluster node-8"
)
def run(
    workload: Annotated[str, typer.Argument(help="The method, such as relay.")],
    preset: Annotated[str, typer.Option(help="How large: tiny, laptop, and what else the workload has.")] = "laptop",
    cluster: Annotated[str, typer.Option(help="Where: laptop, one-gpu, node-8, cluster.")] = "laptop",
    changes: Set = None,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, batches and generated data.")] = 0,
    run_key: Annotated[str | None, typer.Option(help="Name of the run; an old one goes on where it stopped.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON object on standard output.")] = False,
    debug: Debug = False,
) -> None:
    """Run a workload's pipeline, from its data to a published version."""
    from flows.running import run_flow

    result = run_flow(workload, preset, cluster, seed, run_key, parse_changes(changes), _err)
    if as_json:
        print(json.dumps(result.model_dump(mode="json", exclude={"headline"})), flush=True)
    else:
        _show_result(result)


def _show_result(result: Any) -> None:
    if result.headline:
        _out.print(_rich(result.headline.title, result.headline.columns, result.headline.rows))
        if result.headline.caption:
            _out.print(escape(result.headline.caption), style="dim")
    spans = [f"{kind} {seconds:.0f} s" for kind, seconds in result.seconds.items() if kind != "until_first_step"]
    _out.print(f"\npublished  [bold]{result.artifact}@{result.version}[/]", highlight=False)
    _out.print(f"report     {escape(str(result.report))}", highlight=False, soft_wrap=True)
    _out.print(f"time       {', '.join(spans)}", highlight=False, soft_wrap=True)
    _out.print(
        f"\nnext       orchard pull {result.artifact}@{result.version} --out {result.artifact}-{result.version}",
        highlight=False,
        soft_wrap=True,
    )


def parse_changes(changes: list[str] | None) -> dict[str, Any]:
    """`["teacher.max_steps=50"]` as `{"teacher.max_steps": 50}`; values are JSON, or else text."""
    parsed: dict[str, Any] = {}
    for change in changes or []:
        path, found, value = change.partition("=")
        if not found or not path:
            raise ConfigError(f"--set {change} has no value\nfits: STAGE.FIELD=VALUE, as in teacher.max_steps=50")
        try:
            parsed[path] = json.loads(value)
        except ValueError:
            parsed[path] = value
    return parsed


@data_app.command("prepare", epilog="Example: orchard data prepare relay --preset laptop   (then: dvc status data.dvc)")
def data_prepare(
    workload: Annotated[str, typer.Argument(help="The method, such as relay.")],
    preset: Annotated[str, typer.Option(help="Whose dataset.")] = "laptop",
    out: Annotated[Path | None, typer.Option(help="Folder to write; data/WORKLOAD-PRESET if not given.")] = None,
    changes: Set = None,
    debug: Debug = False,
) -> None:
    """Write a workload's dataset, the same bytes on any machine; or verify the one that is there."""
    from infra.datasets import prepare_dataset
    from models.common import workloads
    from models.common.contract import DataConfig

    config = workloads.preset(workload, preset).with_overrides(parse_changes(changes))
    data = [value for _, value in config if isinstance(value, DataConfig)]
    if not data:
        raise ConfigError(f"{workload} has no dataset: it makes its data while it trains\nuse: orchard run {workload}")
    dataset = prepare_dataset(data[0], out or ROOT / "data" / f"{workload}-{preset}")
    _out.print(f"{escape(str(dataset.folder))}  {dataset.sha256[:12]}", highlight=False, soft_wrap=True)


@app.command(epilog="Examples: orchard pull relay · orchard pull relay@v0.1.0 --out DIR · orchard pull relay#champion")
def pull(
    spec: Annotated[str, typer.Argument(help="NAME (the latest), NAME@VERSION or NAME#STAGE.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write; the state folder if not given.")] = None,
    debug: Debug = False,
) -> None:
    """Fetch a version, with every byte verified before it is put in place."""
    from infra import artifacts

    artifact = artifacts.pull(spec, out)
    _out.print(f"{artifact.name}@{artifact.version}  {escape(str(artifact.folder))}", highlight=False, soft_wrap=True)


@app.command("list", epilog="Examples: orchard list · orchard list relay --json")
def list_versions(
    name: Annotated[str | None, typer.Argument(help="One artifact; all if not given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    debug: Debug = False,
) -> None:
    """List the published versions, newest first."""
    from infra import artifacts

    versions = artifacts.versions(name)
    if as_json:
        for version in versions:
            print(version.model_dump_json())
    elif not versions:
        _out.print("nothing is published yet; next: orchard run relay --preset tiny", highlight=False)
    else:
        columns = ("version", "stages", "published", "preset", "seed", "run")
        rows = [
            (f"{v.name}@{v.version}", ", ".join(v.stages), v.published[:16], v.preset, str(v.seed), v.run_key)
            for v in versions
        ]
        _out.print(_rich("", columns, rows))


@app.command(epilog="Example: orchard verify .orchard/artifacts/relay/v0.1.0")
def verify(
    folder: Annotated[Path, typer.Argument(help="A pulled version.")],
    debug: Debug = False,
) -> None:
    """Check every byte of a version's folder against its manifest."""
    from infra import artifacts

    artifacts.verify(folder)
    _out.print(f"{escape(str(folder))} is whole: every file is as its manifest says", highlight=False, soft_wrap=True)


@app.command(epilog="Examples: orchard promote relay@v0.2.0 · orchard promote relay@v0.2.0 --stage shadow")
def promote(
    spec: Annotated[str, typer.Argument(help="NAME@VERSION.")],
    stage: Annotated[str, typer.Option(help="What the version becomes.")] = "champion",
    debug: Debug = False,
) -> None:
    """Give a version a stage, by which others pull it."""
    from infra import artifacts

    name, found, version = spec.partition("@")
    if not found:
        raise ConfigError(f"'{spec}' names no version\nfits: NAME@VERSION\ntry: orchard list {spec}")
    artifacts.promote(name, version, stage)
    _out.print(f"{spec} is {stage}; pull it as {name}#{stage}", highlight=False)


@app.command(
    epilog="Examples:\n\n  orchard exact --lattice 4x2 --boundary periodic,open --filling 4,4 --U 8\n\n"
    "  orchard exact --lattice 10 --boundary periodic --filling 5,5 --U 4 --json\n\n"
    "  orchard exact --lattice 3x3 --boundary periodic --filling 4,4 --U 8 --t-prime -0.2 --twist 0.5,0"
)
def exact(
    lattice: Annotated[str, typer.Option(help="LxxLy, or the length of a chain.")],
    boundary: Annotated[str, typer.Option(help="Along x and y, of periodic, antiperiodic, open; one word means both.")],
    filling: Annotated[str, typer.Option(help="Electrons with spin up and down, as in 4,4.")],
    U: Annotated[float, typer.Option("--U", help="Interaction, in units of the hopping t.")],
    t_prime: Annotated[float, typer.Option(help="Hopping across the diagonals.")] = 0.0,
    twist: Annotated[str, typer.Option(help="Phases through periodic boundaries, in units of pi.")] = "0,0",
    wrap_bond: Annotated[str, typer.Option(help="A periodic length of 2 has its bond once, or twice.")] = "once",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
    debug: Debug = False,
) -> None:
    """Diagonalise a small Hubbard model: the exact energy that a neural state is measured against."""
    from pydantic import ValidationError

    from models.common.config import explain_validation
    from models.nqs.system import SystemConfig

    fields = {"lattice": lattice, "boundary": boundary, "filling": filling, "U": U}
    try:
        system = SystemConfig.model_validate({**fields, "t_prime": t_prime, "twist": twist, "wrap_bond": wrap_bond})
    except ValidationError as error:
        raise ConfigError(explain_validation(error, "the system")) from None
    from models.nqs.exact import ground_state

    began = time.perf_counter()
    ground = ground_state(system)
    result = {
        "energy": ground.energy,
        "energy_per_site": ground.energy / system.sites,
        "states": ground.dimension,
        "degeneracy": ground.degeneracy,
        "method": ground.method,
        "seconds": round(time.perf_counter() - began, 3),
    }
    if as_json:
        print(json.dumps({**result, "system": system.model_dump(mode="json")}), flush=True)
        return
    degeneracy = "degeneracy not counted" if ground.degeneracy is None else f"degeneracy {ground.degeneracy}"
    _out.print(f"{escape(system.label)}\n", highlight=False)
    _out.print(
        f"energy     [bold]{ground.energy:.10f}[/]  ({ground.energy / system.sites:.10f} a site)", highlight=False
    )
    _out.print(f"states     {ground.dimension:,}, {degeneracy}", highlight=False)
    _out.print(f"method     {ground.method}, {result['seconds']:.1f} s", highlight=False)


@app.command(epilog="Example: orchard doctor && orchard run relay")
def doctor(debug: Debug = False) -> None:
    """Check whether a run would work here; exit code 1 if it would not."""
    from infra.doctor import examine

    marks = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "fail": "[bold red]FAIL[/]"}
    failed = False
    table = RichTable(show_header=False, box=None, padding=(0, 2, 0, 0))
    for check in examine():
        table.add_row(marks[check.level], check.name, escape(check.text))
        failed = failed or check.level == "fail"
    _out.print(table)
    if failed:
        _err.print("a run would fail here", style="bold red")
        sys.exit(1)
    _out.print("a run would work here; next: orchard run relay --preset tiny", highlight=False)


def _rich(title: str, columns: tuple[str, ...], rows: Any) -> RichTable:
    table = RichTable(title=escape(title) or None, title_justify="left", box=SIMPLE_HEAD)
    for place, column in enumerate(columns):
        table.add_column(escape(column), no_wrap=place == 0)
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    return table


if __name__ == "__main__":
    main()
