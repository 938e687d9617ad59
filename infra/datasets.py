"""Prepared datasets: written whole, the same bytes for the same config, checked each time they are used."""

from pathlib import Path
from typing import Any

from infra import manifests
from infra.settings import settings
from models.common.contract import DataConfig
from models.common.errors import DataError
from models.common.handles import Dataset


def dataset_folder(workload: str, config: DataConfig, storage: Path | None) -> Path:
    """Where runs keep this dataset: one folder for each config."""
    return (storage or settings().home) / "datasets" / f"{workload}-{config.fingerprint()[:12]}"


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
    return {"kind": type(config).__name__, "config": config.model_dump(mode="json")}
