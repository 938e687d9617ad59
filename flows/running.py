"""A flow run from a terminal: refused early, started ahead, shown while it trains, stopped whole on Ctrl-C."""

import importlib
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rich.console import Console

from flows.progress import following
from infra import launch, lineage, preflight
from infra.doctor import require_prefect
from infra.runs import RunFolder, new_key
from infra.settings import prepare_prefect
from models.common.errors import Cancelled, ClusterError, OrchardError, TrainingError

_STOP_AGAIN_SECONDS = 0.5


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
    launch.start_ahead(shape)
    folder = RunFolder(key, shape.storage)
    console.print(f"run {key}   (stop with Ctrl-C; --run-key {key} goes on)", highlight=False, soft_wrap=True)
    with _stopped_by_signals(folder, console), following(folder, console):
        flow = _import_flow(workload)
        try:
            result = flow(preset=preset, cluster=cluster, seed=seed, run_key=key, overrides=overrides)
        except OrchardError:
            raise
        except Exception as error:
            # A flow fails with what follows from the failure; the stage has kept the failure itself.
            raise folder.first_error(since) or TrainingError(
                f"{workload} failed: {type(error).__name__}: {error}\nthis is a fault of ours; --debug shows where"
            ) from error
    return result.but(seconds=folder.seconds(since))


def _import_flow(workload: str) -> Any:
    prepare_prefect(quiet=True)
    return getattr(importlib.import_module(f"flows.{workload}"), workload)


@contextmanager
def _stopped_by_signals(folder: RunFolder, console: Console) -> Iterator[None]:
    """Ctrl-C and SIGTERM stop the run's Ray jobs, and the flow then ends as cancelled; a second one ends at once."""
    asked = threading.Event()

    def stop(number: int, _frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        console.print("stopping; checkpoints are kept. Once more ends at once.", highlight=False)
        threading.Thread(target=_stop_jobs, args=(folder,), daemon=True).start()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except BaseException as error:
        if asked.is_set():
            raise Cancelled(f"run '{folder.key}' was stopped\nit goes on with --run-key {folder.key}") from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop_jobs(folder: RunFolder) -> None:
    """Stops the run's jobs again and again, since the flow may be about to submit another."""
    while True:
        folder.cancel()
        with suppress(ClusterError):  # Ray is not up yet, or gone already
            launch.stop_run(folder.key)
        threading.Event().wait(_STOP_AGAIN_SECONDS)
