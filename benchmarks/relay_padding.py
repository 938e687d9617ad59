"""What joint training computes for nothing: padding at several counts of buckets, and operations; one JSON line each.

    python -m benchmarks.relay_padding                              # the preset `paper`, 50 steps
    python -m benchmarks.relay_padding --preset gpu --steps 20

No network: batches are drawn as learners draw them. `padded_share` is of positions, times iterations for the teacher.
`largest` is the largest bucket's share of a mean step. `teraflop` is of a step forward and backward, with 6 a parameter
of the blocks and position, and 12 S D a layer and position for attention over S positions.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import process_time

import numpy as np

from models.common import workloads
from models.relay.chains import Labels, chains_batches, draw_chains, with_chain
from models.relay.config import RelayConfig, StudentConfig, TeacherConfig
from models.relay.mixing import padded_share
from models.relay.network_config import NetworkConfig
from models.relay.problems import Problems
from models.relay.rounds import draw_rounds, rounds_batches
from models.relay.streams import STUDENT
from tests.fixtures.worlds import world_of

BUCKETS = (1, 2, 4, 8, 16)
_LABELS = 32  # of each length, which are drawn from with repetition


@dataclass(frozen=True)
class Part:
    """A bucket of a batch: positions computed and filled, and its width."""

    computed: int
    filled: int
    width: int


def teacher_parts(problems: Problems, config: TeacherConfig, step: int) -> list[Part]:
    rounds, rng = draw_rounds(problems, config, 0, step)
    every = rounds_batches(rounds, config, 1_000_000, rng, world_of({}))
    return [Part(batch.computed, batch.filled, batch.tokens_BS.shape[1]) for batch in every]


def student_parts(problems: Problems, labels: Labels, config: StudentConfig, step: int) -> list[Part]:
    chains = draw_chains(problems, labels if config.reads_labels else None, config, 0, STUDENT, step)
    return [
        Part(batch.computed, batch.filled, batch.tokens_BS.shape[1])
        for batch in chains_batches(chains, config, world_of({}))
    ]


def solved(problems: Problems) -> Labels:
    """Labels of the lengths to label, as wide as right ones."""
    rng, rows = np.random.default_rng(1), {}
    for group in problems.label:
        drawn = problems.draw(rng, group, _LABELS)
        rows[group] = with_chain(problems, group, drawn, problems.solutions(group, drawn))
    return Labels(rows, problems.vocabulary)


def teraflop(parts: list[Part], network: NetworkConfig) -> float:
    """Operations of these buckets, forward and backward, attention's two products included."""
    of_position = 6 * network.block_parameters()
    attention = 12 * network.layers * network.width
    return sum(part.computed * (of_position + attention * part.width) for part in parts) / 1e12


def measured(name: str, network: NetworkConfig, steps: int, parts_of: Callable[[int], list[Part]]) -> dict[str, object]:
    begin = process_time()
    drawn = [parts_of(step) for step in range(steps)]
    seconds = process_time() - begin
    parts = [part for of_step in drawn for part in of_step]
    computed = sum(part.computed for part in parts)
    return {
        "stage": name,
        "padded_share": round(padded_share(computed, sum(part.filled for part in parts)), 4),
        "positions": round(computed / steps),
        "largest": round(max(part.computed for part in parts) / computed * steps, 3),
        "teraflop": round(sum(teraflop(of_step, network) for of_step in drawn) / steps, 3),
        "seconds_to_draw": round(seconds / steps, 4),
    }


def lines(config: RelayConfig, problems: Problems, buckets: int, steps: int) -> Iterator[dict[str, object]]:
    """A line for each stage that is trained."""
    labels = solved(problems)
    teacher = config.teacher.with_overrides({"mix.buckets": buckets})
    yield measured("teacher", teacher.network, steps, lambda step: teacher_parts(problems, teacher, step))
    for name in ("student", "fine_tuning"):
        stage = getattr(config, name).with_overrides({"mix.buckets": buckets})
        yield measured(name, stage.network, steps, lambda step: student_parts(problems, labels, stage, step))  # noqa: B023


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--buckets", default=",".join(map(str, BUCKETS)))
    arguments = parser.parse_args()
    config = workloads.preset("relay", arguments.preset)
    assert isinstance(config, RelayConfig)
    with tempfile.TemporaryDirectory() as folder:
        config.data.but(tests_per_length=4).prepare(Path(folder))
        problems = Problems.read(Path(folder))
    for buckets in map(int, arguments.buckets.split(",")):
        for line in lines(config, problems, buckets, arguments.steps):
            print(json.dumps({"preset": arguments.preset, "buckets": buckets} | line), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
