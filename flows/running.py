"""A flow run from a terminal: refused early, started ahead, shown while it trains, stopped whole on Ctrl-C."""

import importlib
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rich.console import Console

from flows.progress import following
from infra import lineage, preflight, ray_client, stopping
from infra.doctor import require_prefect
from infra.retraining import Record, champion_version, open_retraining, require_registry
from infra.runs import RunFolder, new_key
from infra.settings import prepare_prefect
from models.common.errors import Cancelled, ClusterError, OrchardError, TrainingError


def run_flow(
    workload: str,
    preset: str,
    cluster: str,
    seed: int,
    run_key: str | None,
    overrides: dict[str, Any],
    console: Console,
) -> Any:
    """The flow's summary, its seconds counted from the start of this process.

    Raises the OrchardError that ended the run; what can be known before is refused before anything starts.
    """
    since = lineage.process_start()
    key = run_key or new_key(workload, preset, seed)
    _, shape = preflight.open_run(workload, preset, cluster, seed, key, overrides)
    require_prefect()
    ray_client.start_ahead(shape)
    folder = RunFolder(key, shape.storage)
    console.print(f"run {key}   (stop with Ctrl-C; --run-key {key} goes on)", highlight=False, soft_wrap=True)
    asked = {"preset": preset, "cluster": cluster, "seed": seed, "overrides": overrides}
    result = _followed(workload, folder, since, console, **asked, run_key=key)
    return result.but(seconds=folder.seconds(since))


def run_retraining(
    workload: str,
    preset: str,
    cluster: str,
    seed: int,
    overrides: dict[str, Any],
    console: Console,
    *,
    approval: bool,
    approval_hours: float,
) -> Record:
    """What was decided. Raises the OrchardError that ended the retraining; the champion is as it was then."""
    since = lineage.process_start()
    asked = open_retraining(workload, preset, cluster, seed, overrides, approval=approval)
    require_registry()
    require_prefect()
    folder = asked.folder(champion_version(workload))
    parameters = {"workload": workload, "preset": preset, "cluster": cluster, "seed": seed, "overrides": overrides}
    asking = {"approval": approval, "approval_hours": approval_hours}
    return _followed("retrain", folder, since, console, **parameters, **asking)


def _followed(name: str, folder: RunFolder, since: float, console: Console, **parameters: Any) -> Any:
    """What the flow of this name returns, with its stages shown while they run."""
    with _stopped_by_signals(folder, since, console), following(folder, console):
        flow = _import_flow(name)
        try:
            return flow(**parameters)
        except OrchardError:
            raise
        except Exception as error:
            # A flow fails with what follows from the failure; the stage has kept the failure itself.
            raise folder.first_error(since) or TrainingError(
                f"{name} failed: {type(error).__name__}: {error}\nthis is a fault of ours; --debug shows where"
            ) from error


def _import_flow(name: str) -> Any:
    prepare_prefect(quiet=True)
    return getattr(importlib.import_module(f"flows.{name}"), name)


@contextmanager
def _stopped_by_signals(folder: RunFolder, since: float, console: Console) -> Iterator[None]:
    """Ctrl-C and SIGTERM stop the run's Ray jobs, and the flow then ends as cancelled; a second one ends at once.

    While the flow runs SIGTERM is Prefect's, whose threads mark the run as cancelled just the same.
    """
    asked = threading.Event()

    def stop(number: int, _frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        folder.cancel()
        console.print("stopping; checkpoints are kept. Once more ends at once.", highlight=False)
        threading.Thread(target=_stop_jobs, args=(folder,), daemon=True).start()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except BaseException as error:
        if not folder.was_cancelled(since):
            raise
        if not isinstance(error, KeyboardInterrupt):
            _stop_jobs(folder)  # once more, since the flow may have submitted another just before it ended
        raise Cancelled(f"run '{folder.key}' was stopped\nit goes on with --run-key {folder.key}") from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop_jobs(folder: RunFolder) -> None:
    with suppress(ClusterError):  # Ray is not up yet, or gone already
        stopping.stop_run(folder.key)
