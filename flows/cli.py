"""`orchard`: the same flows from a terminal."""

import sys
import traceback
from typing import NoReturn

from rich.markup import escape

from flows.commands import (
    data,
    deploying,
    drilling,
    hubbard,
    machine,
    reports,
    retraining,
    runs,
    services,
    status,
    versions,
)
from flows.commands.app import app, debugging, stderr
from models.common.errors import OrchardError

__all__ = [
    "app",
    "data",
    "deploying",
    "drilling",
    "hubbard",
    "machine",
    "main",
    "reports",
    "retraining",
    "runs",
    "services",
    "status",
    "versions",
]


def main() -> NoReturn:
    """Runs the command of the command line; an error is one block on standard error, and an exit code."""
    try:
        app()
    except OrchardError as error:
        _leave(error)
    sys.exit(0)


def _leave(error: OrchardError) -> NoReturn:
    if debugging():
        traceback.print_exception(error)
    what, *rest = str(error).splitlines()
    stderr.print(f"[bold red]{type(error).__name__}[/]: {escape(what)}", highlight=False, soft_wrap=True)
    for line in rest:
        stderr.print(f"  {escape(line)}", highlight=False, soft_wrap=True)
    sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
