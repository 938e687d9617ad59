"""Published versions from a terminal."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from flows.commands import completing
from flows.commands.app import VERSIONS, WIDE, Debug, app, minute, rich_table, say, stdout
from models.common.errors import ConfigError


@app.command(
    rich_help_panel=VERSIONS,
    epilog="Examples: orchard pull relay · orchard pull relay@v0.1.0 --out DIR · orchard pull relay#champion",
)
def pull(
    spec: Annotated[
        str, typer.Argument(help="NAME (the latest), NAME@VERSION or NAME#STAGE.", autocompletion=completing.specs)
    ],
    out: Annotated[Path | None, typer.Option(help="Folder to write; the state folder if not given.")] = None,
    debug: Debug = False,
) -> None:
    """Fetch a version, with every byte verified before it is put in place."""
    from infra import artifacts

    artifact = artifacts.pull(spec, out)
    stdout.print(f"{artifact.name}@{artifact.version}  {escape(str(artifact.folder))}", highlight=False, soft_wrap=True)


@app.command("list", rich_help_panel=VERSIONS, epilog="Examples: orchard list · orchard list relay --json")
def list_versions(
    name: Annotated[
        str | None, typer.Argument(help="One artifact; all if not given.", autocompletion=completing.artifacts)
    ] = None,
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
        stdout.print("nothing is published yet; next: orchard run relay --preset tiny", highlight=False)
    else:
        wide = stdout.width >= WIDE  # a run name made by Orchard tells preset and seed too
        columns = ("version", "stages", "published (UTC)", *(("preset", "seed") if wide else ()), "run name")
        rows = [
            (
                f"{v.name}@{v.version}",
                ", ".join(v.stages),
                minute(v.published),
                *((v.preset, "" if v.seed is None else str(v.seed)) if wide else ()),
                v.run_key,
            )
            for v in versions
        ]
        stdout.print(rich_table("", columns, rows))


@app.command(rich_help_panel=VERSIONS, epilog="Example: orchard verify .orchard/artifacts/relay/v0.1.0")
def verify(
    folder: Annotated[Path, typer.Argument(help="A pulled version.")],
    debug: Debug = False,
) -> None:
    """Check every byte of a version's folder against its manifest."""
    from infra import artifacts

    artifacts.verify(folder)
    stdout.print(f"{escape(str(folder))} is whole: every file is as its manifest says", highlight=False, soft_wrap=True)


@app.command(
    rich_help_panel=VERSIONS,
    epilog="Examples: orchard promote relay@v0.2.0 · orchard promote relay@v0.2.0 --stage shadow",
)
def promote(
    spec: Annotated[str, typer.Argument(help="NAME@VERSION.", autocompletion=completing.versions)],
    stage: Annotated[str, typer.Option(help="What the version becomes.")] = "champion",
    debug: Debug = False,
) -> None:
    """Give a version a stage, by which others pull it."""
    from infra import artifacts

    name, found, version = spec.partition("@")
    if not found:
        raise ConfigError(f"'{spec}' names no version\nfits: NAME@VERSION\ntry: orchard list {spec}")
    artifacts.promote(name, version, stage)
    stdout.print(f"{spec} is {stage}; pull it as {name}#{stage}", highlight=False)


@app.command(
    rich_help_panel=VERSIONS, epilog="Examples: orchard rollback relay · orchard rollback relay --stage shadow"
)
def rollback(
    name: Annotated[str, typer.Argument(help="The artifact, such as relay.", autocompletion=completing.artifacts)],
    stage: Annotated[str, typer.Option(help="Which stage goes back.")] = "champion",
    debug: Debug = False,
) -> None:
    """Give a stage back to the version that held it before."""
    from infra import artifacts

    version = artifacts.rollback(name, stage)
    say(f"{version.name}@{version.version} is {stage} again; pull it as {name}#{stage}")
