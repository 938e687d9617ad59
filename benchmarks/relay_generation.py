"""Problems a second that RELAY's tasks draw and work off, rounds and answers included, on one thread; a JSON line each.

    python benchmarks/relay_generation.py                   # short lengths, and the longest of the paper
    python benchmarks/relay_generation.py --problems 64     # in batches as small as a training step's

A line's lengths have equally many problems. `drawn_per_second` is of drawing alone, `worked_per_second` of working off
alone, `problems_per_second` of both one after the other. Seconds are those of the processor.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence

import numpy as np

from models.relay.task import Task
from models.relay.tasks.addition import BinaryAddition
from models.relay.tasks.arithmetic import Arithmetic
from models.relay.tasks.edit_distance import EditDistance
from models.relay.tasks.increasing import LongestIncreasing
from models.relay.tasks.parity import Parity
from models.relay.tasks.permutations import WordProblem

PAPER = Arithmetic(modulus=11, operators=("+", "-", "*", "/"), brackets=True)
SETTINGS: dict[str, tuple[Task, Sequence[int]]] = {
    "arithmetic": (Arithmetic(), range(1, 6)),
    "arithmetic with brackets": (PAPER, range(1, 6)),
    "edit distance": (EditDistance(), range(1, 9)),
    "increasing subsequence": (LongestIncreasing(), range(10, 41)),
    "binary addition": (BinaryAddition(), range(1, 11)),
    "parity": (Parity(), range(1, 41)),
    "word problem": (WordProblem(), range(1, 11)),
    "arithmetic with brackets, longest": (PAPER, (25,)),
    "edit distance, longest": (EditDistance(), (40,)),
    "increasing subsequence, longest": (LongestIncreasing(), (120,)),
}


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Of the processor, the fewest of some repeats, as others may use the machine."""
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return min(times)


def speeds(task: Task, lengths: Sequence[int], problems: int, repeats: int) -> dict[str, float]:
    """Problems a second, each length alike."""
    drawing = working = 0.0
    for length in lengths:
        drawn = task.draw(np.random.default_rng(length), length, problems)
        drawing += seconds(lambda: task.draw(np.random.default_rng(length), length, problems), repeats)  # noqa: B023
        working += seconds(lambda: task.work(drawn, length), repeats)  # noqa: B023
    count = problems * len(lengths)
    both = {"problems": count / (drawing + working), "drawn": count / drawing, "worked": count / working}
    return {f"{name}_per_second": round(value) for name, value in both.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=4096, help="of each length, at once")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    for name, (task, lengths) in SETTINGS.items():
        line = {"task": name, "lengths": [min(lengths), max(lengths)], "batch": arguments.problems}
        print(json.dumps(line | speeds(task, lengths, arguments.problems, arguments.repeats)), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
