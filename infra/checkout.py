"""Where a worker has this repository: what the relative paths of a deployed run are of."""

from infra.settings import ROOT


def enter() -> dict[str, str]:
    """The pull step of every deployment: the folder to work in. The code is that of the worker's own environment."""
    return {"directory": str(ROOT)}
