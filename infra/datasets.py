"""Prepared datasets: written whole, the same bytes for the same config, checked each time they are used."""

import hashlib
from pathlib import Path
from typing import Any

from infra import manifests
from infra.settings import settings
from models.common.contract import DataConfig
from models.common.errors import DataError
from models.common.handles import Dataset


def dataset_folder(workload: str, config: DataConfig, storage: Path | None) -> Path:
    """Where runs keep this dataset: one folder for each config, and for each content of the files that it names."""
    return (storage or settings().home) / "datasets" / f"{workload}-{_fingerprint(config)[:12]}"


def prepare_dataset(config: DataConfig, folder: Path) -> Dataset:
    """The dataset of this config in `folder`: verified where it is there already, else written.

    Raises DataError where the folder holds something else, or bytes that its manifest does not say.
    """
    about = _about(config)
    if folder.exists() and any(folder.iterdir()):
        try:
            found = manifests.verify(folder)["about"]
        except manifests.ManifestError as damage:
            raise DataError(f"dataset: {damage}\ndelete {folder} to prepare it again") from None
        if found != about:
            raise DataError(
                f"{folder} holds a dataset of another config\nfound: {found}\nasked for: {about}\n"
                "name another folder, or delete this one"
            )
    else:
        with manifests.committed(folder, about) as draft:
            config.prepare(draft)
    return Dataset(name=folder.name, folder=folder, sha256=manifests.fingerprint(folder))


def _about(config: DataConfig) -> dict[str, Any]:
    about = {"kind": type(config).__name__, "config": config.model_dump(mode="json")}
    return about | ({"sources": sources} if (sources := source_hashes(config)) else {})


def _fingerprint(config: DataConfig) -> str:
    """Of the config and, where it names files, of their bytes."""
    sources = source_hashes(config)
    if not sources:
        return config.fingerprint()
    return hashlib.sha256("\n".join([config.fingerprint(), *sources.values()]).encode()).hexdigest()


def require_sources(config: DataConfig) -> None:
    """Raises DataError where a file that the dataset is made of is not there."""
    for source in config.sources():
        if not source.is_file():
            raise DataError(
                f"{source} is no file\nfits: a path from {Path.cwd()}, or from the root\n"
                "the data's config names it as one of its sources"
            )


def source_hashes(config: DataConfig) -> dict[str, str]:
    """The SHA-256 of each file that the dataset is made of."""
    require_sources(config)
    found = {}
    for source in config.sources():
        with source.open("rb") as opened:
            found[str(source)] = hashlib.file_digest(opened, "sha256").hexdigest()
    return found
