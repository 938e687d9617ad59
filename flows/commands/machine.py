"""Is this machine fit?"""

import sys

from rich.markup import escape
from rich.table import Table as RichTable

from flows.commands.app import SERVICES, Debug, app, stderr, stdout


@app.command(rich_help_panel=SERVICES, epilog="Example: orchard doctor && orchard run relay")
def doctor(debug: Debug = False) -> None:
    """Check whether a run would work here; exit code 1 if it would not."""
    from infra.doctor import examine

    marks = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "fail": "[bold red]FAIL[/]"}
    failed = False
    table = RichTable(show_header=False, box=None, padding=(0, 2, 0, 0))
    for check in examine():
        table.add_row(marks[check.level], check.name, escape(check.text))
        failed = failed or check.level == "fail"
    stdout.print(table)
    if failed:
        stderr.print("a run would fail here", style="bold red")
        sys.exit(1)
    stdout.print("a run would work here; next: orchard run relay --preset tiny", highlight=False)
