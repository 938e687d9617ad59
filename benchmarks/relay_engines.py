"""How far ZeRO 0 to 3 and plain torch, on one worker and on two, part in RELAY's losses; one JSON line each.

    python -m benchmarks.relay_engines                  # 50 steps, teacher and student, three minutes

Three tasks jointly, several buckets, so that rows leave the loop at different iterations, and a worker may have none
left where another has. `largest` is the largest relative difference of a step's loss from plain torch on one worker,
`largest_norm` that of the gradient's norm.
"""

import argparse
import json
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from infra.clusters import Cluster
from models.relay.config import StudentConfig, TeacherConfig, TrainingConfig
from models.relay.data_config import ProblemsData, TaskLengths
from models.relay.network_config import MixConfig, NetworkConfig, OptimizerConfig
from models.relay.tasks.arithmetic import Arithmetic
from models.relay.tasks.increasing import LongestIncreasing
from models.relay.tasks.parity import Parity
from tests.fixtures.ranks import run_ranks
from tests.fixtures.worlds import world_of

ENGINES = ("torch", "zero-0", "zero-1", "zero-2", "zero-3")
STEPS, SEED = 50, 3
NETWORK = NetworkConfig(layers=1, width=32, heads=2, feed_forward_width=64, positions="rope+alibi")
TRAINING: dict[str, Any] = {
    "batch_size": 24,
    "mix": MixConfig(draws=24, buckets=3),
    "optimizer": OptimizerConfig(learning_rate=3e-3, warmup_steps=5, decay_steps=20),
    "task_weights": {"parity": 2.0},
}
STAGES: dict[str, TrainingConfig] = {
    "teacher": TeacherConfig(
        max_steps=STEPS,
        network=NETWORK,
        outer_norm=True,
        tied_head=True,
        supervised_pads="all",
        side_pads=3,
        **TRAINING,
    ),
    "student": StudentConfig(max_steps=STEPS, network=NETWORK.but(positions="rope"), **TRAINING),
}
DATA = ProblemsData(
    tasks=(
        TaskLengths(
            task=Arithmetic(brackets=True), train_lengths=(1, 2, 3, 4), label_lengths=(5,), untouched_lengths=()
        ),
        TaskLengths(
            task=LongestIncreasing(values=30, fold=2),
            train_lengths=(3, 5, 7, 9),
            label_lengths=(10,),
            untouched_lengths=(),
        ),
        TaskLengths(task=Parity(), train_lengths=(2, 3, 4, 5, 6), label_lengths=(7,), untouched_lengths=()),
    ),
    tests_per_length=2,
)


def cluster(engine: str, workers: int) -> Cluster:
    """The shape of machines on which this engine runs."""
    if engine == "torch":
        return Cluster(name="plain", workers=workers, engine="torch")
    return Cluster(name="zero", workers=workers).but(zero_stage=int(engine[-1]))


def curves(
    rank: int, problems: str, engines: tuple[str, ...], workers: int, steps: int
) -> dict[str, dict[str, list[float]]]:
    """Loss and gradient's norm of each step, by "STAGE ENGINE"; run on each rank."""
    found = {}
    for name, stage in STAGES.items():
        for engine in engines:
            learner = stage.build(world_of({"problems": Path(problems)}, cluster=cluster(engine, workers), seed=SEED))
            metrics = [learner.step() for _ in range(steps)]
            found[f"{name} {engine}"] = {key: [each[key] for each in metrics] for key in ("loss", "gradient_norm")}
    return found


def largest(found: list[float], reference: list[float]) -> float:
    """The largest relative difference of a step."""
    return max(abs(a - b) / abs(b) for a, b in zip(found, reference, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as problems:
        DATA.prepare(Path(problems))
        reference = curves(0, problems, ("torch",), 1, arguments.steps)
        for workers in (1, 2):
            begin = perf_counter()
            by_rank = run_ranks(curves, workers, problems, ENGINES, workers, arguments.steps)
            seconds = perf_counter() - begin
            for run, metrics in by_rank[0].items():
                stage, engine = run.split()
                expected = reference[f"{stage} torch"]
                line = {"stage": stage, "engine": engine, "workers": workers, "steps": arguments.steps}
                line |= {"first_loss": round(metrics["loss"][0], 6), "last_loss": round(metrics["loss"][-1], 6)}
                line |= {"largest": float(f"{largest(metrics['loss'], expected['loss']):.2g}")}
                line |= {"largest_norm": float(f"{largest(metrics['gradient_norm'], expected['gradient_norm']):.2g}")}
                print(json.dumps(line | {"seconds_of_all": round(seconds)}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
