"""Reading the weights of a trained stage."""

from pathlib import Path

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
