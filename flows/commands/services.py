"""The services of this machine: up, and down."""

import shutil
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.app import REPORTS_PORT, SERVICES, Debug, app, say

if TYPE_CHECKING:
    from infra.local.state import Services

_DEPLOY = (sys.executable, "-m", "flows.cli", "deploy")
_DOWN_SECONDS = 60.0


@app.command(
    rich_help_panel=SERVICES,
    epilog="Examples:\n\n  orchard up\n\n  orchard up --s3 --port 4210\n\n"
    "  PREFECT_SERVER_DATABASE_CONNECTION_URL=postgresql+asyncpg://USER:PASSWORD@HOST/prefect orchard up",
)
def up(
    port: Annotated[int, typer.Option(help="Of Prefect's UI and API; 0 takes any that is free.")] = 4200,
    reports_port: Annotated[int, typer.Option(help="Of the reports' site.")] = REPORTS_PORT,
    s3: Annotated[bool, typer.Option("--s3", help="Keep versions in an S3 server of this machine.")] = False,
    s3_port: Annotated[int, typer.Option(help="Of the S3 server.")] = 9100,
    debug: Debug = False,
) -> None:
    """Start Prefect, its worker, the deployments, Ray and the reports, for this machine; Ctrl-C stops all of it."""
    from infra.local.supervisor import Wanted, up

    say("starting; the first time takes a minute")
    up(Wanted(port, reports_port, s3_port if s3 else None, _DEPLOY), say, _show)
    say("everything has ended; history is kept, and orchard up brings it back")


def _show(services: "Services") -> None:
    from infra.local import state
    from infra.settings import settings

    home = settings().home
    say(f"\nruns       {services.ui}   log in with  {state.auth_string(home)}")
    say(f"reports    {services.reports}")
    say(f"Ray        {services.ray}   its token is in {home / 'ray' / 'token'}")
    if services.s3:
        from infra.local.programs import S3

        say(f"S3         {services.s3}\n\nfor commands in another terminal, to reach its versions:")
        for name, value in S3(int(services.s3.rpartition(":")[2])).client_environment().items():
            say(f"  export {name}={value}")
    say(f"\nall is kept in {home}; logs in {state.folder(home)}. Runs of 'orchard run' in another terminal join.")
    say("Ctrl-C stops everything.")


@app.command(rich_help_panel=SERVICES, epilog="Examples: orchard down · orchard down --reset")
def down(
    reset: Annotated[
        bool, typer.Option("--reset", help="Then delete all that Orchard wrote here, after asking.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    debug: Debug = False,
) -> None:
    """Stop `orchard up`, wherever it was started, and what a killed one left."""
    from infra.local.supervisor import down

    say("everything has ended" if down(_DOWN_SECONDS) else "nothing was running")
    if reset:
        _reset(yes)


def _reset(yes: bool) -> None:
    from infra.local.reset import require_resettable

    home = require_resettable()
    if not home.exists():
        say(f"{home} is not there: nothing to delete")
        return
    kept = ", ".join(sorted(each.name for each in home.iterdir()))
    say(f"this deletes {home} for good: {kept}")
    if not yes:
        typer.confirm("delete it?", abort=True)
    shutil.rmtree(home)
    say(f"{home} is deleted")
