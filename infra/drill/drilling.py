"""All faults, one after another, on a cluster that is made for them."""

import json
from collections.abc import Callable
from pathlib import Path

from infra.drill.card import Row
from infra.drill.cluster import DrillCluster
from infra.drill.faults import DRILLS
from infra.drill.ground import missing
from infra.drill.scene import Scene
from models.common.config import unknown
from models.common.errors import ClusterError, ConfigError


def names(core: bool) -> list[str]:
    """The faults that there are, or those that fit into a quarter of an hour."""
    return [name for name, drill in DRILLS.items() if drill.core or not core]


def new_folder(folder: Path) -> Path:
    """The folder, made; raises ConfigError where something is there."""
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made: {error.strerror}\nfits: a folder that is not there yet") from None
    return folder.absolute()


def drill(folder: Path, wanted: list[str], repeats: int, seed: int, tell: Callable[[Row], None]) -> list[Row]:
    """Plays the faults on hosts of this machine; tells each row when it is there, and returns them all.

    Raises ConfigError for a fault that does not exist, ClusterError where this machine cannot make hosts.
    """
    for name in wanted:
        if name not in DRILLS:
            raise ConfigError(unknown("fault", name, list(DRILLS)))
    if reason := missing():
        raise ClusterError(reason)
    rows: list[Row] = []
    with DrillCluster(folder / "cluster") as cluster:
        scene = Scene(cluster, folder, seed)
        scene.measure()
        for name in wanted * repeats:
            scene.heal()
            rows.append(DRILLS[name].row(scene))
            with (folder / "rows.jsonl").open("a") as kept:
                kept.write(json.dumps(rows[-1].told()) + "\n")
            tell(rows[-1])
    return rows
