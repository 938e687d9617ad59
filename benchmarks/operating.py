"""`orchard up` in numbers: what it costs when nothing runs, how soon a run starts, whether a queue survives kills.

    python benchmarks/operating.py                       # all three, on a machine with nothing else to do
    python benchmarks/operating.py --what idle,latency

One JSON line a figure. Memory is told twice: `pss` counts a page that several processes share once, as the machine
does; `rss` counts it in each of them.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from infra import artifacts
from infra.local.prefect_api import PrefectApi
from tests.fixtures.up import Up, start_up, stop_up

IDLE_SECONDS = 60
SETTLE_SECONDS = 60
TRIGGERS = 10
QUEUED = 20
OVER = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


def say(figure: str, **values: Any) -> None:
    print(json.dumps({"figure": figure, **values}), flush=True)  # noqa: T201 its output


def family(up: Up) -> list[psutil.Process]:
    root = psutil.Process(up.services.pid)
    return [root, *root.children(recursive=True)]


def idle(up: Up) -> None:
    """Memory, and processor time over a minute, of `orchard up` and all below it."""
    time.sleep(SETTLE_SECONDS)

    def seconds() -> dict[int, float]:
        return {each.pid: sum(each.cpu_times()[:2]) for each in family(up)}

    before, began = seconds(), time.monotonic()
    time.sleep(IDLE_SECONDS)
    after, wall = seconds(), time.monotonic() - began
    share = {pid: 100 * (value - before.get(pid, 0.0)) / wall for pid, value in after.items()}
    largest = sorted(family(up), key=lambda each: -share.get(each.pid, 0.0))[:6]
    memory = [each.memory_full_info() for each in family(up)]
    say(
        "idle",
        pss_mb=round(sum(each.pss for each in memory) / 1e6),
        rss_mb=round(sum(each.rss for each in memory) / 1e6),
        percent_of_a_core=round(sum(share.values()), 2),
        largest={" ".join(each.cmdline())[-60:]: round(share[each.pid], 2) for each in largest},
        processes=len(memory),
        load=os.getloadavg()[0],
    )


def trigger(api: PrefectApi, deployment: str, **parameters: Any) -> str:
    """A run of this deployment, as the UI starts one."""
    found = api.get(f"/deployments/name/{deployment}")["id"]
    return api.post(f"/deployments/{found}/create_flow_run", {"parameters": parameters})["id"]


def log_lines(api: PrefectApi, run: str) -> list[dict[str, Any]]:
    """What the run's own process logged; the worker's lines are of another logger."""
    lines = api.post("/logs/filter", {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC"})
    return [line for line in lines if line["name"] == "prefect.flow_runs"]


def latency(up: Up) -> None:
    """From the trigger until the run's first log line can be read from the API."""
    waits = []
    for turn in range(TRIGGERS):
        began = time.monotonic()
        run = trigger(up.api, "pull/pull", spec="nothing")
        until(lambda run=run: log_lines(up.api, run), seconds=120)
        waits.append(round(time.monotonic() - began, 2))
        until(lambda run=run: up.api.get(f"/flow_runs/{run}")["state_type"] in OVER, seconds=120)
        time.sleep(0.37 * turn)  # not in step with the worker's polling
    say("trigger_to_first_log_line", median_seconds=median(waits), seconds=waits, load=os.getloadavg()[0])


def queue(up: Up) -> Up:
    """Twenty queued runs, each a pipeline; worker and server are killed in the middle, then `orchard up` itself."""
    began = time.monotonic()
    runs = [trigger(up.api, "nqs/tiny", run_key=f"queued-{seed}", seed=seed) for seed in range(QUEUED)]
    until(lambda: over(up.api, runs) >= QUEUED // 4, seconds=1800)
    for words in ("prefect worker start", "prefect server start"):
        next(each for each in family(up) if words in " ".join(each.cmdline())).kill()
    until(lambda: over(up.api, runs) >= QUEUED // 2, seconds=1800)
    os.kill(up.services.pid, signal.SIGKILL)
    again = start_up(up.home, "--port", up.services.ui.rsplit(":", 1)[1])
    until(lambda: over(again.api, runs) == QUEUED, seconds=1800)
    found = [again.api.get(f"/flow_runs/{run}") for run in runs]
    published = artifacts.versions("nqs")
    say(
        "queue_of_20_with_kills",
        seconds=round(time.monotonic() - began),
        states=Counter(each["state_type"] for each in found),
        starts=Counter(each["run_count"] for each in found),
        versions=len(published),
        runs_published=len({version.run_key for version in published}),
        load=os.getloadavg()[0],
    )
    return again


def over(api: PrefectApi, runs: list[str]) -> int:
    try:
        return sum(api.get(f"/flow_runs/{run}")["state_type"] in OVER for run in runs)
    except OSError:
        return 0


def until(what: Callable[[], Any], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {seconds:.0f} s in vain")
        time.sleep(0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", default="idle,latency,queue")
    asked = parser.parse_args().what.split(",")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ORCHARD_HOME"] = str(Path(folder) / "home")  # this process reads its registry
        up = start_up(Path(folder) / "home")
        try:
            if "idle" in asked:
                idle(up)
            if "latency" in asked:
                latency(up)
            if "queue" in asked:
                up = queue(up)
        finally:
            stop_up(up)


if __name__ == "__main__":
    main()
