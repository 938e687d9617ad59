"""All faults, one after another, on a cluster that is made for them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from infra.drill.card import Drill, Row
from infra.drill.cluster import DrillCluster, Shape
from infra.drill.flow_faults import FLOW_DRILLS
from infra.drill.ground import missing
from infra.drill.guard_faults import GUARD_DRILLS
from infra.drill.hosts import Sizes
from infra.drill.pipeline import Pipeline
from infra.drill.prefect_nodes import missing_database
from infra.drill.registry_faults import REGISTRY_DRILLS
from infra.drill.scene import Scene
from infra.drill.stage_faults import STAGE_DRILLS
from infra.drill.store_faults import STORE_DRILLS
from models.common.config import unknown
from models.common.errors import ClusterError, ConfigError

_ROOM = Sizes(disk=4096)  # megabytes: a run asks for space before it begins
_OF_STAGES = {**STAGE_DRILLS, **STORE_DRILLS, **GUARD_DRILLS, **REGISTRY_DRILLS}
DRILLS: dict[str, Drill[Any]] = {**_OF_STAGES, **FLOW_DRILLS}


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


def require_playable(wanted: list[str]) -> None:
    """Raises ConfigError for a fault that does not exist, ClusterError where this machine cannot make hosts."""
    for name in wanted:
        if name not in DRILLS:
            raise ConfigError(unknown("fault", name, list(DRILLS)))
    of_flows = FLOW_DRILLS.keys() & set(wanted)
    if reason := missing() or (missing_database() if of_flows else None):
        raise ClusterError(reason)


def drill(folder: Path, wanted: list[str], repeats: int, seed: int, tell: Callable[[Row], None]) -> list[Row]:
    """Plays the faults on hosts of this machine; tells each row when it is there, and returns them all."""
    require_playable(wanted)
    of_flows = [name for name in wanted if name in FLOW_DRILLS]
    rows: list[Row] = []

    def play(ground: Scene | Pipeline, chosen: list[str]) -> None:
        ground.measure()
        for name in chosen * repeats:
            ground.heal()
            rows.append(DRILLS[name].row(ground))
            with (folder / "rows.jsonl").open("a") as kept:
                kept.write(json.dumps(rows[-1].told()) + "\n")
            tell(rows[-1])

    if of_stages := [name for name in wanted if name in _OF_STAGES]:
        with DrillCluster(folder / "cluster") as cluster:
            play(Scene(cluster, folder, seed), of_stages)
    if of_flows:
        with DrillCluster(folder / "cluster-with-prefect", Shape(prefect=True, sizes=_ROOM)) as cluster:
            play(Pipeline(cluster, folder, seed), of_flows)
    return rows
