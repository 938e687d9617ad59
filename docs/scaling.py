"""From one GPU to a thousand: a model of what a step, a checkpoint and a fault cost, and the tables of docs/scaling.md.

    python -m docs.scaling            # the tables, and docs/pictures/scaling.png

What it stands on was measured by `benchmarks/scaling.py` (docs/scaling.json), or is stated: the rates of `CLUSTER`.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
MEASURED = HERE / "scaling.json"
PICTURE = HERE / "pictures" / "scaling.png"
COUNTS = (1, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Network:
    """What the workers have, in bytes and floating-point operations a second, and seconds."""

    operations: float  # of one worker, as trainings reach them
    workers_per_node: int
    inside: float  # bytes a second from a worker to its neighbours in the node
    between: float  # bytes a second from a node to the others
    latency: float  # of a message between nodes
    store_of_node: float  # bytes a second from a node to S3
    store: float  # bytes a second that S3 takes from one run
    hours_between_faults: float  # of one worker


# Stated, not measured. H100: 989 TFLOP/s of bf16, of which 40 % are reached; NVLink 450 GB/s and 8 NICs of 400 Gbit/s,
# each way; 2 GB/s to S3 from a node (a few hundred Gbit/s in sum). Faults: 419 in 54 days on 16,384 H100
# (The Llama 3 Herd of Models, arXiv 2407.21783, section 3.3.4).
CLUSTER = Network(
    operations=0.4 * 989e12,
    workers_per_node=8,
    inside=450e9,
    between=400e9,
    latency=20e-6,
    store_of_node=2e9,
    store=40e9,
    hours_between_faults=54 * 24 * 16384 / 419,
)


@dataclass(frozen=True)
class Job:
    """A stage in training."""

    name: str
    parameters: float
    items: int  # of the global batch, which no number of workers changes
    operations_per_item: float
    gradient_bytes: float
    checkpoint_bytes: float


def dense(name: str, parameters: float, items: int, tokens: float, passes: float) -> Job:
    """A Transformer in bf16 under ZeRO: 2 operations a parameter, token and pass; 12 bytes a parameter are kept.

    A backward counts as two passes. Attention's own operations are left out.
    """
    return Job(name, parameters, items, 2 * passes * parameters * tokens, 2 * parameters, 12 * parameters)


# Llama 3 8B; a pair is two sequences of 1,024 tokens, trained (3 passes) and read by the reference (1).
DPO = dense("RTO, DPO of 8B", 8_030_261_248, 256, 2 * 1024, 4)
JOBS = (DPO,)


def all_reduce_seconds(size: float, workers: int, network: Network) -> float:
    """A ring within each node, and one between the nodes: 2 (n - 1) / n of the bytes cross each link of n members.

    Bandwidth-optimal all-reduce: Patarasuk and Yuan, J. Parallel Distrib. Comput. 69 (2009) 117, equation 4.
    """
    inside = min(workers, network.workers_per_node)
    nodes = math.ceil(workers / network.workers_per_node)
    seconds = 2 * (inside - 1) / inside * size / network.inside
    return seconds + 2 * (nodes - 1) / nodes * size / network.between + 2 * (nodes - 1) * network.latency


def step_seconds(job: Job, workers: int, network: Network = CLUSTER) -> float:
    """Computing, then averaging gradients: what overlap would hide is counted."""
    share = math.ceil(job.items / workers)
    return share * job.operations_per_item / network.operations + all_reduce_seconds(
        job.gradient_bytes, workers, network
    )


def checkpoint_seconds(job: Job, workers: int, network: Network = CLUSTER) -> float:
    """Until S3 has it whole; training goes on beside it."""
    nodes = math.ceil(workers / network.workers_per_node)
    return job.checkpoint_bytes / min(nodes * network.store_of_node, network.store)


def interval_seconds(cost: float, workers: int, network: Network = CLUSTER) -> float:
    """Between checkpoints that each hold training up for `cost`: Young, Commun. ACM 17 (1974) 530, equation 4."""
    return math.sqrt(2 * cost * 3600 * network.hours_between_faults / workers)


def goodput(held_up: float, interval: float, restart: float, workers: int, network: Network = CLUSTER) -> float:
    """The share of time that trains: not copying checkpoints, nor repeating half an interval after a fault."""
    between_faults = 3600 * network.hours_between_faults / workers
    return interval / (interval + held_up) * max(0.0, 1 - (restart + interval / 2) / between_faults)


def predicted_here(measured: dict[str, Any], workers: int) -> float:
    """Seconds a step on the machine that was measured, where workers beside each other are slower than one."""
    compute = measured["seconds_fixed"] + measured["seconds_per_item"] * measured["items"] / workers
    return compute * measured["slowdown"][str(workers)] + measured["all_reduce_seconds"][str(workers)]


def rows(job: Job, measured: dict[str, Any]) -> list[list[str]]:
    """A line for each number of workers: step, efficiency, checkpoint, goodput."""
    alone = step_seconds(job, 1)
    lines = []
    for workers in COUNTS:
        step = step_seconds(job, workers)
        communicated = all_reduce_seconds(job.gradient_bytes, workers, CLUSTER) / step
        held_up = job.checkpoint_bytes / workers / measured["copy_bytes_per_second"]
        upload = checkpoint_seconds(job, workers)
        interval = max(interval_seconds(held_up, workers), upload)
        share = goodput(held_up, interval, measured["restart_seconds"], workers)
        lines.append(
            [
                f"{workers:,}",
                f"{step:.2f}",
                f"{100 * communicated:.1f} %",
                f"{100 * alone / (workers * step):.0f} %",
                f"{upload:.0f}",
                f"{interval / 60:.0f}",
                f"{CLUSTER.hours_between_faults / workers:,.0f}",
                f"{100 * share:.2f} %",
            ]
        )
    return lines


HEADINGS = (
    "GPUs", "s a step", "of it all-reduce", "efficiency", "s to S3", "min between checkpoints", "h between faults",
    "time that trains",
)  # fmt: skip


def table(headings: tuple[str, ...], lines: list[list[str]]) -> str:
    ruler = ["---:"] * len(headings)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [list(headings), ruler, *lines])


def check_table(measured: dict[str, Any]) -> str:
    """What the model says of this machine beside what was measured on it."""
    lines = []
    for workers, seconds in measured["step_seconds"].items():
        predicted = predicted_here(measured, int(workers))
        lines.append([workers, f"{1000 * predicted:.0f}", f"{1000 * seconds:.0f}", f"{predicted / seconds:.2f}"])
    return table(("workers", "ms a step, model", "ms a step, measured", "ratio"), lines)


def draw(measured: dict[str, Any]) -> None:
    """Seconds a step against the number of GPUs, with perfect scaling beside it; and the machine that was measured."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    here, there = figure.subplots(1, 2)
    counts = [int(workers) for workers in measured["step_seconds"]]
    here.plot(counts, list(measured["step_seconds"].values()), "o", label="measured")
    here.plot(counts, [predicted_here(measured, each) for each in counts], label="model")
    here.set(title=f"{measured['job']}, {measured['cores']} cores", xlabel="workers", ylabel="seconds a step")
    here.set(ylim=(0, None), xticks=counts)
    for job in JOBS:
        there.plot(COUNTS, [step_seconds(job, each) for each in COUNTS], "o-", label=job.name)
        there.plot(COUNTS, [step_seconds(job, 1) / each for each in COUNTS], "--", color="0.6", label="perfect")
    there.set(title="model", xlabel="GPUs", ylabel="seconds a step", xscale="log", yscale="log")
    for axes in (here, there):
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(PICTURE, dpi=110)


def main() -> None:
    measured = json.loads(MEASURED.read_text())
    draw(measured)
    for job in JOBS:
        print(f"{job.name}\n\n{table(HEADINGS, rows(job, measured))}\n")  # noqa: T201 its output
    print(check_table(measured))  # noqa: T201


if __name__ == "__main__":
    main()
