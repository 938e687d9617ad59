"""What all commands share: the application that they are commands of, their options, and how they print."""

from collections.abc import Iterable
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

from flows.commands import completing

completing.use_own_bash_script()
RUNS, VERSIONS, SERVICES, METHODS = "Runs", "Versions and data", "Services and this machine", "Methods"


class _Ordered(TyperGroup):
    """Commands in the order of their groups, and in each first what it is mostly for."""

    def list_commands(self, ctx: Any) -> list[str]:
        groups = [RUNS, VERSIONS, SERVICES, METHODS]

        def place(name: str) -> tuple[int, bool]:
            group = getattr(self.commands[name], "rich_help_panel", None)
            return groups.index(group) if group in groups else len(groups), name not in ("run", "pull", "up")

        return sorted(super().list_commands(ctx), key=place)


app = typer.Typer(
    cls=_Ordered,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Research methods as training pipelines that a lab can run again.\n\n"
    "First steps:\n\n"
    "  orchard doctor                           would a run work here?\n\n"
    "  orchard run relay --preset tiny          the whole pipeline in a minute\n\n"
    "  orchard run relay --preset laptop        the method's effect in minutes\n\n"
    "  orchard pull relay --out mine            the latest version, verified\n\n"
    "  orchard up                               server, forms and schedules",
)

REPORTS_PORT = 4201  # beside the 4200 of Prefect's server
WIDE = 100  # columns of a terminal that has room for more than what is asked for
stdout, stderr = Console(), Console(stderr=True)
_debugging = False


def _set_debugging(value: bool) -> None:
    global _debugging  # noqa: PLW0603 main() asks for it when a command has failed
    _debugging = _debugging or value


def debugging() -> bool:
    """Whether the command line asked for the traceback of an error."""
    return _debugging


Workload = Annotated[str, typer.Argument(help="The method, such as relay.", autocompletion=completing.workloads)]
Preset = Annotated[
    str,
    typer.Option(
        help="What is run, and how large: tiny, laptop, and what else the workload has.",
        autocompletion=completing.presets,
    ),
]
OnCluster = Annotated[
    str, typer.Option(help="Where: laptop, one-gpu, node-8, cluster.", autocompletion=completing.clusters)
]
Debug = Annotated[
    bool, typer.Option("--debug", callback=_set_debugging, is_eager=True, help="Show the traceback of an error.")
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="STAGE.FIELD=VALUE",
        help="Change one field of the preset; can be repeated.",
        autocompletion=completing.fields,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line on standard output.")]


def say(text: str) -> None:
    """A line on standard output, as it is: no markup, no highlighting, no wrapping."""
    stdout.print(escape(text), highlight=False, soft_wrap=True)


def rich_table(title: str, columns: tuple[str, ...], rows: Iterable[Iterable[str]]) -> Table:
    """The table as a terminal shows it."""
    table = Table(title=escape(title) or None, title_justify="left", box=SIMPLE_HEAD)
    for place, column in enumerate(columns):
        table.add_column(escape(column), no_wrap=place == 0, overflow="fold")  # a name is whole, to be copied
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    return table


def minute(published: str) -> str:
    """A version's time without its seconds, in UTC as all of them are."""
    return published[:16].replace("T", " ")


def duration(seconds: float) -> str:
    """Such as "40 s", "12 min", "3 h 5 min", "2 d 4 h"."""
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if minutes < 1:
        return f"{max(0, int(seconds))} s"
    if hours < 1:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60} min" if days < 1 else f"{days} d {hours % 24} h"
