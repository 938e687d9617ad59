"""Handles: what flows pass between stages. A name, a folder and its fingerprint; never a tensor."""

from pathlib import Path

from models.common.config import Config


class Handle(Config):
    """A finished folder. `sha256` is the hash of its manifest, which holds the hash of every file in it."""

    name: str
    folder: Path
    sha256: str


class Dataset(Handle):
    """Prepared or generated data."""


class Checkpoint(Handle):
    """A trained stage: `weights.safetensors`, `config.json`, `curves.json`."""


class Evaluation(Handle):
    """An evaluated workload: `report.json`, read as `models.common.report.Report`."""


class Artifact(Config):
    """A published version."""

    name: str
    version: str  # such as "v0.3.0"
    commit: str  # of the registry
    folder: Path  # where this machine keeps a copy
