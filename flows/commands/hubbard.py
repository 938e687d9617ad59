"""Exact answers for small Hubbard models."""

import json
import time
from typing import Annotated

import typer
from rich.markup import escape

from flows.commands.app import METHODS, Debug, app, stdout
from models.common.errors import ConfigError


@app.command(
    rich_help_panel=METHODS,
    epilog="Examples:\n\n  orchard exact --lattice 4x2 --boundary periodic,open --filling 4,4 --U 8\n\n"
    "  orchard exact --lattice 10 --boundary periodic --filling 5,5 --U 4 --json\n\n"
    "  orchard exact --lattice 3x3 --boundary periodic --filling 4,4 --U 8 --t-prime -0.2 --twist 0.5,0",
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
    stdout.print(f"{escape(system.label)}\n", highlight=False)
    stdout.print(
        f"energy     [bold]{ground.energy:.10f}[/]  ({ground.energy / system.sites:.10f} a site)", highlight=False
    )
    stdout.print(f"states     {ground.dimension:,}, {degeneracy}", highlight=False)
    stdout.print(f"method     {ground.method}, {result['seconds']:.1f} s", highlight=False)
