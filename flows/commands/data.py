"""Datasets from a terminal."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from flows.commands import completing
from flows.commands.app import VERSIONS, Debug, Set, Workload, app, say, stdout
from flows.commands.changes import parse_changes
from infra.settings import ROOT
from models.common.errors import ConfigError

data_app = typer.Typer(no_args_is_help=True, help="Datasets: deterministic, pinned by data.dvc.")
app.add_typer(data_app, name="data", rich_help_panel=VERSIONS)


@data_app.command("prepare", epilog="Example: orchard data prepare relay --preset laptop   (then: dvc status data.dvc)")
def data_prepare(
    workload: Workload,
    preset: Annotated[str, typer.Option(help="Whose dataset.", autocompletion=completing.presets)] = "laptop",
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
    stdout.print(f"{escape(str(dataset.folder))}  {dataset.sha256[:12]}", highlight=False, soft_wrap=True)


@data_app.command(
    "changed", epilog="Example: orchard data changed relay   (then: orchard status, which shows the retrain)"
)
def data_changed(workload: Workload, debug: Debug = False) -> None:
    """Tell the Prefect server that a workload's data changed: an automation answers with a retrain."""
    from infra.settings import prepare_prefect
    from models.common import workloads

    workloads.preset_names(workload)  # refuses a workload that there is not
    prepare_prefect(quiet=True)
    from flows.operating import tell_data_changed

    tell_data_changed(workload)
    say(f"told: the data of {workload} changed; a retrain skips where its champion was made of the same")
