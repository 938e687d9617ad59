"""All that can be known to fail before a run begins: config, cluster, disk, Ray, registry, the run key's past."""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from infra import artifacts, carrying, clusters, datasets, launch, lineage
from infra.clusters import Cluster
from infra.runs import RunFolder, work_from
from infra.settings import settings
from models.common import workloads
from models.common.contract import DataConfig, StageConfig, WorkerGroup, WorkloadConfig
from models.common.errors import ConfigError, OrchardError

LEAST_FREE_BYTES = 1 << 30  # a run keeps checkpoints, a version and Ray's logs


def open_run(
    workload: str, preset: str, cluster: str, seed: int, run_key: str, overrides: dict[str, Any]
) -> tuple[WorkloadConfig, Cluster]:
    """The resolved config and the cluster of a run that can begin; its folder is claimed.

    Raises ConfigError for what cannot work, DataError for files that are not there, ClusterError and RegistryError
    for what cannot be reached, and CheckpointError where the key belongs to a run of another config. Nothing is
    started.
    """
    shape = clusters.named(cluster)
    config = workloads.preset(workload, preset).with_overrides(overrides)
    work_from(Path.cwd())
    config.check_here()
    check_batches(config, shape)
    check_memory(config, shape)
    check_sources(config)
    folder = RunFolder(run_key, shape.storage)
    require_space(shape.storage or settings().home)
    launch.require_feasible(shape)
    carrying.require_storage()
    artifacts.require_access()
    require_versions(config)
    folder.claim({"workload": workload, "seed": seed, "config": config.model_dump(mode="json")})
    return config, shape


def check_batches(config: WorkloadConfig, cluster: Cluster) -> None:
    """Raises ConfigError where a stage of the workload cannot be trained on the cluster."""
    for name, stage in config.trained_stages().items():
        cluster.check(stage, name)


def check_sources(config: WorkloadConfig) -> None:
    """Raises DataError where a file that the data are made of is not there."""
    for _, value in config:
        if isinstance(value, DataConfig):
            datasets.require_sources(value)


def check_memory(config: WorkloadConfig, cluster: Cluster) -> None:
    """Raises ConfigError where a stage is known to need more memory than a worker has."""
    has = (cluster.memory_gib_per_worker or lineage.memory_gib() / cluster.workers) * 2**30
    group = WorkerGroup(cluster.least_workers, cluster.zero_stage, cluster.precision)
    for name, stage in config.trained_stages().items():
        needs = stage.bytes_per_worker(group)
        if needs > has:
            fits = _largest_batch(stage, group, has)
            raise ConfigError(
                f"{name}: a batch of {stage.batch_size} needs {needs / 2**30:.3g} GiB on each worker, and a worker of "
                f"{cluster.name} has {has / 2**30:.3g} GiB\n"
                + (
                    f"fits: a batch of {fits}\ntry: --set {name}.batch_size={fits}"
                    if fits
                    else "fits: no smaller batch; take a cluster of more workers or of a higher ZeRO stage, or a "
                    "smaller model"
                )
            )


def _largest_batch(stage: StageConfig, group: WorkerGroup, has: float) -> int:
    """A batch that fits into so many bytes a worker, found by halving; 0 where none does."""
    fits = stage.batch_size
    while fits and stage.but(batch_size=fits).bytes_per_worker(group) > has:
        fits = fits // 2 // group.workers * group.workers
    return fits


def require_versions(config: WorkloadConfig) -> None:
    """Raises RegistryError where a version that the run reads cannot be had, ConfigError where it does not fit."""
    for purpose, spec in config.versions().items():
        version = artifacts.pull(spec)
        config.check_version(purpose, json.loads((version.folder / "config.json").read_text()))


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
