"""The workloads and presets that there are: found in `models/`, so that a new one is registered nowhere."""

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from models.common.config import unknown
from models.common.contract import WorkloadConfig
from models.common.errors import ConfigError

_MODELS = Path(__file__).resolve().parent.parent


def names() -> list[str]:
    """The folders of `models/` that have presets."""
    return sorted(file.parent.name for file in _MODELS.glob("*/presets.py"))


def preset_names(workload: str) -> list[str]:
    """The workload's presets, in the order of its file: smallest first. Raises ConfigError for an unknown workload."""
    return list(_presets(workload))


def preset(workload: str, preset: str) -> WorkloadConfig:
    """The config of this preset; raises ConfigError, naming the nearest, where workload or preset does not exist."""
    presets = _presets(workload)
    if preset not in presets:
        raise ConfigError(unknown("preset", preset, list(presets), where=workload))
    return presets[preset]()


def preset_text(workload: str, preset: str) -> str:
    """What the preset is for, in the words of its docstring's first sentence."""
    return (inspect.getdoc(_presets(workload)[preset]) or "").partition("\n\n")[0].replace("\n", " ")


def _presets(workload: str) -> dict[str, Callable[[], WorkloadConfig]]:
    if workload not in names():
        raise ConfigError(unknown("workload", workload, names()))
    module = importlib.import_module(f"models.{workload}.presets")
    return {name: function for name, function in vars(module).items() if _is_preset(module, name, function)}


def _is_preset(module: ModuleType, name: str, value: object) -> bool:
    """A public function that the module itself defines and that takes nothing."""
    return (
        inspect.isfunction(value)
        and not name.startswith("_")
        and value.__module__ == module.__name__
        and not inspect.signature(value).parameters
    )
