"""What docs/scaling.py stands on, measured on this machine: steps on 1, 2 and 4 workers, all-reduce, saving, Prefect.

    python benchmarks/scaling.py --card card/rows.jsonl      # of `orchard drill host --out card`

It writes docs/scaling.json. For a machine with nothing else to do; ten minutes on two cores. Steps are those of
RELAY's student, its network that of the paper and its data the laptop's, with one global batch whatever the number of
workers, in processes of one thread that average gradients with gloo.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.operating import until
from docs.scaling import MEASURED
from infra import artifacts, manifests
from infra.checkpoints import CheckpointStore
from infra.clusters import LAPTOP
from infra.drill.card import Row
from models.common import workloads
from models.common.contract import LearnerState
from models.common.loop import Progress
from tests.fixtures.ranks import run_ranks
from tests.fixtures.up import Up, start_up, stop_up
from tests.fixtures.worlds import world_of

WORKERS = (1, 2, 4)
WARM, STEPS, ROUNDS = 5, 20, 3
SAVED_BYTES = 200_000_000
VERSIONS = 20
LOOK_SECONDS = 60
PAPER: Any = workloads.preset("relay", "paper").trained_stages()["student"]
STAGE: Any = workloads.preset("relay", "laptop").trained_stages()["student"].but(network=PAPER.network)


def stage_of(items: int) -> Any:
    return STAGE.but(batch_size=items)


def steps(rank: int, inputs: dict[str, Path], items: int) -> tuple[float, float, float]:
    """Median seconds of a step, and of averaging its gradients alone; bytes of these."""
    cluster = LAPTOP.but(workers=dist.get_world_size())
    learner = stage_of(items).build(world_of(inputs, cluster=cluster))
    size = sum(each.numel() for each in learner.weights().values())
    gradients = torch.zeros(size)
    taken: dict[str, list[float]] = defaultdict(list)
    for number in range(WARM + STEPS):
        for name, act in (("step", learner.step), ("all-reduce", lambda: dist.all_reduce(gradients))):
            dist.barrier()
            began = time.perf_counter()
            act()
            if number >= WARM:
                taken[name].append(time.perf_counter() - began)
    return median(taken["step"]), median(taken["all-reduce"]), 4.0 * size


def layer(_rank: int) -> float:
    """Median seconds of a Transformer layer's pass forward and back, in processes that know nothing of each other."""
    network = torch.nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True)
    inputs = torch.randn(64, 16, 256)
    taken = []
    for number in range(WARM + 2 * STEPS):
        if number % STEPS == 0:
            dist.barrier()
        began = time.perf_counter()
        network(inputs).square().mean().backward()
        taken.append(time.perf_counter() - began)
    return median(taken[WARM:])


def measure_steps(folder: Path) -> dict[str, Any]:
    inputs = STAGE.rehearse(folder).folders
    whole = STAGE.batch_size
    spread: dict[int, list[float]] = defaultdict(list)
    reduced: dict[int, list[float]] = defaultdict(list)
    alone: dict[int, list[float]] = defaultdict(list)
    beside: dict[int, list[float]] = defaultdict(list)
    size = 0.0
    for _ in range(ROUNDS):
        for workers in WORKERS:
            beside[workers].append(max(run_ranks(layer, workers)))
            [(seconds, reduce_seconds, size), *_] = run_ranks(steps, workers, inputs, whole)
            spread[workers].append(seconds)
            reduced[workers].append(reduce_seconds)
        for items in (whole // 4, whole // 2, whole):
            [(seconds, _, size)] = run_ranks(steps, 1, inputs, items)
            alone[items].append(seconds)
    items, seconds = zip(*((each, median(found)) for each, found in alone.items()), strict=True)
    per_item, fixed = (
        torch.linalg.lstsq(torch.tensor([[float(each), 1.0] for each in items]), torch.tensor(seconds)[:, None])
        .solution.flatten()
        .tolist()
    )
    return {
        "job": "RELAY's student",
        "items": whole,
        "cores": psutil.cpu_count(),
        "gradient_bytes": size,
        "seconds_fixed": fixed,
        "seconds_per_item": per_item,
        "slowdown": {str(each): median(found) / median(beside[1]) for each, found in beside.items()},
        "step_seconds": {str(each): median(found) for each, found in spread.items()},
        "all_reduce_seconds": {"1": 0.0} | {str(each): median(found) for each, found in reduced.items() if each > 1},
    }


def measure_saving(folder: Path) -> dict[str, float]:
    """How long training waits for a checkpoint on this machine's disk, its SHA-256 included."""
    store = CheckpointStore(folder, identity="this", keep=2, warn=lambda text: None)
    state = LearnerState({"weights": torch.randn(SAVED_BYTES // 4)})
    taken = []
    for number in range(5):
        began = time.perf_counter()
        store.save(Progress(number + 1), state)
        taken.append(time.perf_counter() - began)
    return {"copy_bytes_per_second": SAVED_BYTES / median(taken)}


def measure_publishing(folder: Path) -> dict[str, list[float]]:
    """Seconds of each of some versions in a row, each of a megabyte."""
    taken = []
    for number in range(VERSIONS):
        version = folder / str(number)
        with manifests.committed(version, {"workload": "scaling"}) as draft:
            (draft / "weights.safetensors").write_bytes(os.urandom(1_000_000))
        began = time.perf_counter()
        artifacts.publish(version, "scaling", run_key=f"scaling-{number}", summary={})
        taken.append(round(time.perf_counter() - began, 2))
    return {"publish_seconds": taken}


def measure_prefect(up: Up) -> dict[str, list[float]]:
    """Share of a core that Prefect's server takes with no run, one, and two."""
    server = next(each for each in psutil.Process(up.services.pid).children(recursive=True) if _serves(each))
    deployment = up.api.get("/deployments/name/nqs/tiny")["id"]
    shares = []
    for runs in range(3):
        if runs:
            asked = {"parameters": {"run_key": f"scaling-{runs}", "training_steps": 1_000_000}}
            run = up.api.post(f"/deployments/{deployment}/create_flow_run", asked)["id"]
            until(lambda run=run: up.api.get(f"/flow_runs/{run}")["state_type"] == "RUNNING", seconds=120)
        time.sleep(LOOK_SECONDS)
        before, began = sum(server.cpu_times()[:2]), time.monotonic()
        time.sleep(LOOK_SECONDS)
        shares.append(round((sum(server.cpu_times()[:2]) - before) / (time.monotonic() - began), 3))
    return {"prefect_core_share": shares}


def _serves(process: psutil.Process) -> bool:
    return "prefect server start" in " ".join(process.cmdline())


def restart_seconds(card: Path) -> dict[str, float]:
    """The longest time to train again after a host was killed."""
    rows = [Row(**json.loads(line)) for line in card.read_text().splitlines()]
    return {"restart_seconds": max(row.resume_seconds or 0.0 for row in rows if row.fault == "SIGKILL a whole host")}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--card", type=Path, required=True, help="rows.jsonl of a drill with the fault 'host'")
    measured: dict[str, Any] = restart_seconds(options.parse_args().card)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name in ("problems", "checkpoints", "versions"):
            (place / name).mkdir()
        os.environ["ORCHARD_HOME"] = str(place / "home")
        measured |= measure_steps(place / "problems")
        measured |= measure_saving(place / "checkpoints")
        measured |= measure_publishing(place / "versions")
        up = start_up(place / "home")
        try:
            measured |= measure_prefect(up)
        finally:
            stop_up(up)
    MEASURED.write_text(json.dumps(measured, indent=1) + "\n")
    print(json.dumps(measured))  # noqa: T201 its output


if __name__ == "__main__":
    main()
