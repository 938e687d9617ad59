"""A run by its name: its folder on this machine, and its flow run on the server."""

from dataclasses import dataclass, replace
from types import ModuleType
from typing import TYPE_CHECKING, Self

from infra.runs import Asked, RunFolder, runs
from infra.settings import prepare_prefect, settings
from models.common.errors import ClusterError, ConfigError

if TYPE_CHECKING:
    from flows.operating import Seen


@dataclass(frozen=True)
class Found:
    """A run by its name: its folder, where this machine keeps one, and the flow run, where a server knows of it."""

    run_name: str
    folder: RunFolder | None
    seen: "Seen | None"

    @property
    def pid(self) -> int | None:
        """The process of this machine that runs it now."""
        return self.folder.running_pid() if self.folder else None

    @property
    def is_under_way(self) -> bool:
        return self.pid is not None or (self.seen is not None and not self.seen.is_over)

    def again(self) -> Self:
        """The run as it is now."""
        operating = server()
        if self.pid is not None or operating is None or self.seen is None:
            return self  # the folder is read each time it is asked
        return replace(self, seen=operating.read(self.seen.id))

    def state(self) -> str:
        """How it stands, in a word or two."""
        if self.seen and not (self.seen.is_over and self.pid):
            return self.seen.state
        return self.folder.state() if self.folder else "unknown"


def find_run(run_name: str, *, server_may_be_down: bool = False) -> Found:
    """The run of this name; raises ConfigError where neither this machine nor the server knows one.

    server_may_be_down: a run whose folder is here is found without a server that does not answer.
    """
    folder = next((each for each in runs() if each.key == run_name), None)
    operating = server()
    try:
        seen = operating.find(run_name) if operating else None
    except ClusterError:
        if folder is None or not server_may_be_down:
            raise
        operating = seen = None
    if folder is None and seen is None:
        where = f"{settings().runs} or on {settings().prefect_api}" if operating else str(settings().runs)
        raise ConfigError(f"there is no run '{run_name}' in {where}\nfits: a run name\ntry: orchard status")
    return Found(run_name, folder, seen)


def server() -> ModuleType | None:
    """What the Prefect server can be asked with; None where no server is named, and nothing is loaded."""
    if settings().prefect_api is None:
        return None
    prepare_prefect(quiet=True)
    from flows import operating

    return operating


def begun_with(run_name: str) -> Asked:
    """How a run was started that can be gone on with; raises ConfigError where it cannot."""
    found = find_run(run_name)
    if found.is_under_way:
        raise ConfigError(
            f"run '{run_name}' is under way: {found.state()}\nfits: a run that was stopped, or failed\n"
            f"see what it does: orchard logs {run_name} --follow"
        )
    if found.folder is None:
        raise ConfigError(
            f"run '{run_name}' is not in {settings().runs}: it began on another machine\n"
            "fits: a run of this machine\nresume it there, or start it from the UI with the same run name"
        )
    return found.folder.asked()
