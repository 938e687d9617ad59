"""What each part of the teacher's setting is worth: the laptop preset with one change at a time.

    python -m benchmarks.relay_ablations --task arithmetic --seeds 0 1 2 --jobs 2 --out ablations.jsonl
    python -m benchmarks.relay_ablations --task arithmetic --seeds 0 --steps 100 --variants base left

One JSON line for each variant and seed, then a table. Shares are of whole chains that are right, as the mean over
lengths: `within` training, at the `label` lengths, and `beyond` both. With --out, lines are added to that file, and
what it already holds for the same task, steps, setting and seed is not trained again.
"""

import argparse
import json
import multiprocessing
import tempfile
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import torch

from models.common import workloads
from models.common.in_process import train_in_process
from models.common.metrics import mean_interval
from models.relay.config import RelayConfig, TeacherConfig
from models.relay.network import LoopedTransformer, read_teacher
from models.relay.problems import Group, Problems
from models.relay.reading import read_problems
from models.relay.task import exact_matches
from tests.fixtures.worlds import world_of

Line = dict[str, Any]

PARTS = ("within", "label", "beyond")
_ROPE: dict[str, Any] = {"network.positions": "rope", "network.alibi_slopes": ()}
_PLAIN: dict[str, Any] = {"tied_head": False, "supervised_pads": "last", "curriculum_loss": None, "outer_norm": False}
# A change that says what the preset has already makes no variant.
VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "without alibi": _ROPE,
    "untied head": {"tied_head": False},
    "last pad": {"supervised_pads": "last"},
    "no curriculum": {"curriculum_loss": None},
    "no outer norm": {"outer_norm": False},
    "input injection": {"input_injection": True},
    "no input injection": {"input_injection": False},
    "one side pad": {"side_pads": 1},
    "no board": {"board": False},
    "no workspace": {"workspace": 0},
    "left": {"alignment": "left", "board": False, "workspace": 0},
    "detach": {"detach": True},
    "paper": {**_ROPE, **_PLAIN, "side_pads": 1, "board": False, "workspace": 0, "input_injection": False},
}


def teachers(config: RelayConfig, steps: int | None) -> dict[str, TeacherConfig]:
    """The teacher of each variant, of so many steps if told."""
    base = config.teacher
    if steps is not None:
        decay = max(1, steps - base.optimizer.warmup_steps)
        base = base.with_overrides({"max_steps": steps, "optimizer.decay_steps": decay})
    varied = {name: base.with_overrides(changes) for name, changes in VARIANTS.items()}
    return {name: teacher for name, teacher in varied.items() if name == "base" or teacher != base}


def run(config: RelayConfig, task: str, variant: str, teacher: TeacherConfig, seed: int) -> Line:
    """Trains one teacher on one thread, and reads its chains of all test problems."""
    torch.set_num_threads(1)
    begin = process_time()
    with tempfile.TemporaryDirectory() as folder:
        inputs = {"problems": Path(folder) / "problems"}
        inputs["problems"].mkdir()
        config.data.prepare(inputs["problems"])
        world, problems = world_of(inputs, seed=seed), Problems.read(inputs["problems"])
        trained = train_in_process(teacher, world, Path(folder) / "teacher", inputs)
        network = read_teacher(trained.folder, len(problems.vocabulary), world.device)
    of_length = {group: round(right(network, problems, group), 4) for group in problems.groups}
    groups = dict(zip(PARTS, (problems.train, problems.label, problems.untouched), strict=True))
    return {
        **key_of(task, variant, teacher, seed),
        **{part: round(float(np.mean([of_length[group] for group in groups[part]])), 4) for part in PARTS},
        "lengths": {str(group): share for group, share in of_length.items()},
        "loss": round(trained.metrics["loss"][-1], 4),
        "unrolled_rounds": trained.metrics["unrolled_rounds"][-1],
        "steps": len(trained.metrics["loss"]),
        "stopped": trained.stopped,
        "processor_seconds": round(process_time() - begin, 1),
    }


def right(network: LoopedTransformer, problems: Problems, group: Group) -> float:
    """The share of a group's test problems whose whole chain is right."""
    tests = problems.tests(group)
    written = read_problems(network, problems, group, tests).written(problems.tasks[group.task])
    return float(exact_matches(written, problems.solutions(group, tests)).mean())


def key_of(task: str, variant: str, teacher: TeacherConfig, seed: int) -> Line:
    """What tells a run from others."""
    return {
        "task": task,
        "variant": variant,
        "seed": seed,
        "most_steps": teacher.max_steps,
        "config": teacher.fingerprint(),
    }


def table(lines: Iterable[Line]) -> str:
    """Mean [least, most] over seeds for each variant, and its difference to the base, seed by seed."""
    by_variant: dict[str, dict[int, Line]] = {}
    for line in lines:
        by_variant.setdefault(line["variant"], {})[line["seed"]] = line
    base = by_variant.get("base", {})
    columns = [*PARTS, *(f"{part} - base" for part in PARTS)]
    rows = [f"| variant | seeds | {' | '.join(columns)} |", "|---" * (len(columns) + 2) + "|"]
    for variant, of_seed in by_variant.items():
        seeds = sorted(of_seed)
        cells = [spread([100 * of_seed[seed][part] for seed in seeds]) for part in PARTS]
        paired = [seed for seed in seeds if seed in base and variant != "base"]
        cells += [interval([100 * (of_seed[seed][part] - base[seed][part]) for seed in paired]) for part in PARTS]
        rows.append(f"| {variant} | {len(seeds)} | {' | '.join(cells)} |")
    return "\n".join(rows)


def spread(values: list[float]) -> str:
    return f"{np.mean(values):.1f} [{min(values):.1f}, {max(values):.1f}]"


def interval(differences: list[float]) -> str:
    """The mean difference, and half of Student's interval; nothing where there is no pair."""
    if not differences:
        return ""
    if len(differences) == 1:
        return f"{differences[0]:+.1f}"
    mean, _, high = mean_interval(differences)
    return f"{mean:+.1f} ± {high - mean:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="arithmetic", help="arithmetic: the preset laptop; else laptop_TASK")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--steps", type=int, help="instead of the preset's")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()

    preset = "laptop" if arguments.task == "arithmetic" else f"laptop_{arguments.task}"
    config = workloads.preset("relay", preset)
    assert isinstance(config, RelayConfig)
    wanted = {
        json.dumps(key_of(arguments.task, variant, teacher, seed), sort_keys=True): (variant, teacher, seed)
        for seed in arguments.seeds
        for variant, teacher in teachers(config, arguments.steps).items()
        if variant in arguments.variants
    }
    done = {key: line for key, line in _lines(arguments.out) if key in wanted}
    with ProcessPoolExecutor(arguments.jobs, multiprocessing.get_context("spawn")) as pool:
        missing = {key: work for key, work in wanted.items() if key not in done}
        running = {pool.submit(run, config, arguments.task, *work): key for key, work in missing.items()}
        for future in as_completed(running):
            done[running[future]] = line = future.result()
            print(json.dumps(line), flush=True)  # noqa: T201
            if arguments.out is not None:
                with arguments.out.open("a") as file:
                    file.write(json.dumps(line) + "\n")
    print(table(done[key] for key in sorted(done, key=list(wanted).index)))  # noqa: T201


def _lines(file: Path | None) -> list[tuple[str, Line]]:
    """What a file of results holds, with what tells one from another."""
    if file is None or not file.exists():
        return []
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    names = ("task", "variant", "seed", "most_steps", "config")
    return [(json.dumps({name: line[name] for name in names}, sort_keys=True), line) for line in lines]


if __name__ == "__main__":
    main()
