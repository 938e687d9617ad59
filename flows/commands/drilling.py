"""What happens when machines fail?"""

import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from flows.commands.app import SERVICES, Debug, app, stdout
from flows.commands.completing import faults


@app.command(
    rich_help_panel=SERVICES,
    epilog="Examples: orchard drill worker · orchard drill · orchard drill --all --repeats 3 --out card",
)
def drill(
    fault: Annotated[
        list[str] | None,
        typer.Argument(help="The faults to play; else those of a quarter of an hour.", autocompletion=faults),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Play every fault that there is.")] = False,
    repeats: Annotated[int, typer.Option(min=1, help="How often each is played, at another moment every time.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the random moments.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="A new folder for the card and all logs; else a temporary one.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Let a cluster lose workers, hosts, links and its S3 while it trains; exit code 1 if a promise breaks.

    The cluster is made of hosts in Linux namespaces, which takes root. Nothing outside of them is touched.
    """
    from infra.drill.card import as_markdown
    from infra.drill.drilling import drill as play
    from infra.drill.drilling import names, new_folder, require_playable

    wanted = fault or names(core=not everything)
    require_playable(wanted)
    folder = new_folder(out or Path(tempfile.mkdtemp(prefix="orchard-drill-")) / "drill")
    stdout.print(f"{len(wanted) * repeats} faults; logs are in {folder}", highlight=False)
    rows = play(folder, wanted, repeats, seed, tell=_tell)
    card = folder / "card.md"
    card.write_text(as_markdown(rows, f"Played with seed {seed}: {', '.join(wanted)}."))
    stdout.print(f"\n{sum(row.kept for row in rows)} of {len(rows)} promises kept; the card is {card}", highlight=False)
    if not all(row.kept for row in rows):
        sys.exit(1)


def _tell(row: Any) -> None:
    seconds = {"noticed after": row.notice_seconds, "training again after": row.resume_seconds}
    told = [f"{words} {number:.1f} s" for words, number in seconds.items() if number is not None]
    lost = [f"{row.steps_lost} steps lost"] if row.steps_lost is not None else []
    mark = "[green]kept[/]" if row.kept else "[bold red]BROKEN[/]"
    stdout.print(f"{mark} {escape(row.fault)}: {escape(', '.join([*told, *lost]) or row.promise)}", highlight=False)
    if not row.kept:
        stdout.print(f"       {escape(row.verdict)}", highlight=False)
