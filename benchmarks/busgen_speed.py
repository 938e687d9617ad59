"""Our U-Net beside the released layout and diffusers, at equal parameters; one JSON line a figure, a table on stderr.

    python benchmarks/busgen_speed.py                      # all of it, on the processor
    python benchmarks/busgen_speed.py --quick              # fewer rounds
    python benchmarks/busgen_speed.py --side 64            # smaller images
    python benchmarks/busgen_speed.py --device cuda        # the released size, --diffusers-python with a torch for it

Each network is a process that stays, and they take turns. diffusers runs in an environment of its own, made at the
first use; `--diffusers-python` names another.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import busgen_work as work
from rto_speed import PINS, python_of, say, spread

HERE = Path(__file__).resolve().parent
PINS["diffusers"] = ("torch==2.13.0", "diffusers==0.42.1", "numpy>=2,<3")
FIGURES = {
    "training": ("trained_images_per_second", work.BATCH),
    "sampling": ("evaluated_images_per_second", work.BATCH * work.EVALUATIONS),
}
GOALS = {"official": 3.0, "example": 1.2, "shape": None}  # ours over theirs, at least

Line = dict[str, Any]


class Side:
    """A process that has one network, and answers requests for timed calls of it."""

    def __init__(self, network: str, python: Path, arguments: argparse.Namespace) -> None:
        ours = network in ("ours", "official")
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(arguments.threads),
            "BUSGEN_DEVICE": arguments.device,
            "PYTHONPATH": str(HERE.parent) if ours else "",
            "HF_HUB_OFFLINE": "1",
        }
        self.network = network
        self.tool = "orchard" if ours else "diffusers"
        self.request = {"network": network, "side": arguments.side, "channels": 1, "precision": arguments.precision}
        self.process = subprocess.Popen(
            [python, HERE / f"busgen_{'ours' if ours else 'diffusers'}.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def ask(self, kind: str, calls: int) -> Line:
        assert self.process.stdin is not None, "it was opened with a pipe"
        assert self.process.stdout is not None, "it was opened with a pipe"
        self.process.stdin.write(json.dumps({**self.request, "work": kind, "repeats": calls}) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"the side of {self.network} ended while it was asked for {kind}; its reason is above")
        return json.loads(answer)

    def close(self) -> None:
        assert self.process.stdin is not None, "it was opened with a pipe"
        self.process.stdin.close()
        self.process.wait()


def official_parameters(arguments: argparse.Namespace) -> int:
    """What all networks should have; the official layout has as many at any side."""
    side = Side("official", Path(sys.executable), arguments)
    side.request["side"] = 32
    found = side.ask("sampling", 1)["parameters"]
    side.close()
    return found


def start(theirs: Path, wanted: int, arguments: argparse.Namespace) -> dict[str, Side]:
    """A process for each network."""
    sides = {name: Side(name, Path(sys.executable), arguments) for name in ("ours", "official")}
    for name in ("example", "shape"):
        sides[name] = Side(name, theirs, arguments)
        sides[name].request["parameters"] = wanted
    return sides


def measure(sides: dict[str, Side], kind: str, rounds: int, calls: int) -> dict[str, list[Line]]:
    """What each network answered in each round; they go forward and backward in turn."""
    found: dict[str, list[Line]] = {name: [] for name in sides}
    for number in range(rounds):
        say(f"{kind}: round {number + 1} of {rounds}")
        for name in list(sides) if number % 2 == 0 else list(sides)[::-1]:
            found[name].append(sides[name].ask(kind, 1 if name == "official" else calls))
    return found


def told(found: dict[str, list[Line]], kind: str, about: Line) -> list[Line]:
    """Each network's figure and memory, and ours over theirs round by round: above 1 we are faster."""
    figure, units = FIGURES[kind]
    speeds = {
        (name, clock): [units / median(line[clock]) for line in lines]
        for name, lines in found.items()
        for clock in ("seconds", "processor_seconds")
    }
    lines: list[Line] = [
        {
            "figure": figure,
            "network": name,
            "parameters": answers[0]["parameters"],
            **about,
            **spread(speeds[name, "seconds"]),
            "by_processor_time": median(speeds[name, "processor_seconds"]),
            "peak_mib": max(line["peak_mib"] for line in answers),
        }
        for name, answers in found.items()
    ]
    for name, goal in GOALS.items():
        both = {
            clock: [us / them for us, them in zip(speeds["ours", clock], speeds[name, clock], strict=True)]
            for clock in ("seconds", "processor_seconds")
        }
        lines.append(
            {
                "figure": f"{figure}_ratio",
                "against": name,
                **about,
                **spread(both["seconds"]),
                "by_processor_time": median(both["processor_seconds"]),
                "goal": goal,
            }
        )
    return lines


def table(lines: list[Line]) -> str:
    rows = [
        f"{'figure':36} {'network':9} {'million':>8} {'value':>8} {'low':>8} {'high':>8} {'by CPU':>8} {'MiB':>6} goal"
    ]
    for line in lines:
        million = f"{line['parameters'] / 1e6:8.2f}" if "parameters" in line else " " * 8
        numbers = " ".join(f"{line[key]:8.3f}" for key in ("value", "low", "high", "by_processor_time"))
        name = line.get("network") or line["against"]
        rows.append(
            f"{line['figure']:36} {name:9} {million} {numbers} {line.get('peak_mib', ''):>6} {line.get('goal') or ''}"
        )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two rounds of one call")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=3, help="of each network in a round; the official one makes one")
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1, help="of each network")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="bf16: autocast")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--diffusers-python", type=Path, help="has diffusers")
    arguments = parser.parse_args()
    rounds, calls = (2, 1) if arguments.quick else (arguments.rounds, arguments.calls)
    theirs = python_of("diffusers", arguments.diffusers_python)
    wanted = official_parameters(arguments)
    about = {key: getattr(arguments, key) for key in ("side", "device", "threads", "precision")}
    lines: list[Line] = []
    for kind in FIGURES:
        sides = start(theirs, wanted, arguments)  # anew, so that no work's memory is counted with another's
        new = told(measure(sides, kind, rounds, calls), kind, about)
        for line in new:
            sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        lines += new
        for side in sides.values():
            side.close()
    say(table(lines))


if __name__ == "__main__":
    main()
