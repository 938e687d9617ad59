"""What `orchard down --reset` may delete."""

from pathlib import Path

import psutil

from infra import ray_head
from infra.settings import ROOT, settings
from models.common.errors import ClusterError, ConfigError

_SIGNS = {"prefect", "registry.git", "runs", "up"}  # an ORCHARD_HOME that was used has one of these


def require_resettable() -> Path:
    """ORCHARD_HOME, where all of it may be deleted.

    Raises ConfigError where it holds, or could hold, what is not Orchard's; ClusterError where a run still uses it.
    """
    home = settings().home
    for above in (ROOT, Path.home(), Path.cwd()):
        if above.is_relative_to(home):
            raise ConfigError(f"ORCHARD_HOME is {home}, which holds {above}\nfits: a folder that only Orchard uses")
    held = {each.name for each in home.iterdir()} if home.exists() else set()
    if held and not held & _SIGNS:
        raise ConfigError(
            f"ORCHARD_HOME is {home}, which holds {', '.join(sorted(held)[:5])}\n"
            f"fits: a folder that Orchard made, with one of {', '.join(sorted(_SIGNS))}\n"
            "delete it by hand, if you mean it"
        )
    if users := ray_head.users():
        names = ", ".join(f"{user} ({' '.join(psutil.Process(user).cmdline())[:60]})" for user in users)
        raise ClusterError(f"runs still use {home}: process {names}\nstop them first, with Ctrl-C or 'orchard cancel'")
    return home
