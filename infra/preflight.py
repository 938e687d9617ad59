"""All that can be known to fail before a run begins: config, cluster, disk, Ray, registry, the run key's past."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from infra import artifacts, clusters, launch
from infra.clusters import Cluster
from infra.runs import RunFolder
from infra.settings import settings
from models.common import workloads
from models.common.contract import WorkloadConfig
from models.common.errors import ConfigError, OrchardError

LEAST_FREE_BYTES = 1 << 30  # a run keeps checkpoints, a version and Ray's logs


def open_run(
    workload: str, preset: str, cluster: str, seed: int, run_key: str, overrides: dict[str, Any]
) -> tuple[WorkloadConfig, Cluster]:
    """The resolved config and the cluster of a run that can begin; its folder is claimed.

    Raises ConfigError for what cannot work, ClusterError and RegistryError for what cannot be reached, and
    CheckpointError where the key belongs to a run of another config. Nothing is started.
    """
    shape = clusters.named(cluster)
    config = workloads.preset(workload, preset).with_overrides(overrides)
    check_batches(config, shape)
    folder = RunFolder(run_key, shape.storage)
    require_space(shape.storage or settings().home)
    launch.require_feasible(shape)
    artifacts.require_access()
    folder.claim({"workload": workload, "seed": seed, "config": config.model_dump(mode="json")})
    return config, shape


def check_batches(config: WorkloadConfig, cluster: Cluster) -> None:
    """Raises ConfigError where a stage of the workload cannot be trained on the cluster."""
    for name, stage in config.trained_stages().items():
        cluster.check(stage, name)


def require_space(folder: Path) -> None:
    """Raises ConfigError where the folder cannot be written, or its disk is nearly full."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder) as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be written: {error.strerror}\n"
            "fits: a folder on a disk with space, owned by you\nset ORCHARD_HOME to such a folder"
        ) from None
    free = shutil.disk_usage(folder).free
    if free < LEAST_FREE_BYTES:
        raise ConfigError(
            f"the disk of {folder} has {free / 2**30:.2f} GiB free; a run needs {LEAST_FREE_BYTES / 2**30:.0f} GiB\n"
            "make room, or set ORCHARD_HOME to a folder on another disk"
        )


def problem(check: Any, *arguments: Any) -> str | None:
    """The text of what a check refuses, or None where it is content."""
    try:
        check(*arguments)
    except OrchardError as error:
        return str(error)
    return None
