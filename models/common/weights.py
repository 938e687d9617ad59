"""Reading the weights of a trained stage."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from models.common.errors import CheckpointError


def load_weights(folder: Path) -> dict[str, Tensor]:
    """The weights in a trained stage's folder, by parameter name, in float32 on the CPU."""
    file = folder / "weights.safetensors"
    if not file.exists():
        found = ", ".join(sorted(path.name for path in folder.iterdir())) if folder.is_dir() else "no such folder"
        raise CheckpointError(f"{folder} holds no {file.name}\nfound: {found or 'nothing'}\ngive a trained stage")
    return load_file(file)


def load_stage_config(folder: Path) -> dict[str, Any]:
    """The config that a stage was trained with, from its own folder, or from that of a version or of a part of one."""
    of_version, of_stage = folder / "stage.json", folder / "config.json"
    file = of_version if of_version.is_file() else of_stage
    if not file.is_file():
        raise CheckpointError(f"{folder} holds neither {of_stage.name} nor {of_version.name}\ngive a trained stage")
    return json.loads(file.read_text())
