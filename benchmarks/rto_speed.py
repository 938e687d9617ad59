"""TRL, transformers and ours side by side on the same network; one JSON line a figure, a table for people on stderr.

    python benchmarks/rto_speed.py                       # all of it
    python benchmarks/rto_speed.py --quick               # three rounds of few calls
    python benchmarks/rto_speed.py --work dpo,generation # some of it
    python benchmarks/rto_speed.py --device cuda         # on a GPU; --trl-python then has a torch for it

Each side is a process that stays, its networks and data ready; they take turns, A B B A, so that both meet the same
machine. TRL runs in environments of its own, made at the first use; `--trl-python` and `--trl-ppo-python` name
others.
"""

import argparse
import json
import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from rto_work import WORK

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE.parent / ".orchard" / "benchmarks"
PINS = {
    "trl": ("torch==2.13.0", "trl==1.16.0", "transformers==5.23.0"),
    "trl-ppo": ("torch==2.13.0", "trl==1.12.0", "transformers==5.23.0"),  # the last one with a PPOTrainer
}

Line = dict[str, Any]


@dataclass(frozen=True)
class Comparison:
    """One figure of two sides; `goal` is what the ratio should be at least."""

    work: str
    ours: str = "fp32"
    theirs: str = "fp32"
    goal: float | None = None

    @property
    def peer(self) -> str:
        return "trl-ppo" if self.work.startswith("ppo") else "trl"


COMPARISONS = (
    Comparison("dpo", goal=1.15),
    Comparison("dpo", ours="bf16", goal=1.35),
    Comparison("dpo", ours="bf16", theirs="bf16"),
    Comparison("dpo-cached"),
    Comparison("dpo-mixed", goal=1.6),
    Comparison("dpo-mixed", ours="bf16"),
    Comparison("ppo", goal=1.5),
    Comparison("ppo-minibatches"),
    Comparison("generation", goal=1.7),
)


class Side:
    """A process that answers requests for timed calls."""

    def __init__(self, tool: str, python: Path, threads: int, device: str) -> None:
        script = HERE / ("rto_ours.py" if tool == "orchard" else "rto_trl.py")
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "RTO_DEVICE": device,
            "PYTHONPATH": str(HERE.parent) if tool == "orchard" else "",
            "HF_HUB_OFFLINE": "1",
            "TQDM_DISABLE": "1",
        }
        self.tool = tool
        self.process = subprocess.Popen(
            [python, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, work: str, precision: str, micro: int, calls: int) -> Line:
        """The seconds of each call, by the clock and of the process's threads."""
        assert self.process.stdin is not None, "it was opened with a pipe"
        assert self.process.stdout is not None, "it was opened with a pipe"
        request = {"work": work, "precision": precision, "micro": micro, "repeats": calls}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.tool} ended while it was asked for {work} in {precision}; its reason is above")
        return json.loads(answer)

    @cache  # noqa: B019 - there are three of them, and they live as long as the run
    def best_micro_batch(self, work: str, precision: str) -> int:
        """The micro batch with which this side is the fastest, by processor time, which others hardly change."""
        return min(
            WORK[work].micro_batches,
            key=lambda micro: min(self.ask(work, precision, micro, calls=3)["processor_seconds"]),
        )

    def close(self) -> None:
        assert self.process.stdin is not None, "it was opened with a pipe"
        self.process.stdin.close()
        self.process.wait()


def say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def python_of(peer: str, given: Path | None) -> Path:
    """The Python that has this peer; makes its environment where none is named."""
    if given is not None:
        return given
    folder = ENVIRONMENTS / peer
    wanted, made = "\n".join(PINS[peer]), folder / ".pins"
    if not made.exists() or made.read_text() != wanted:
        say(f"installing {PINS[peer][1]} into {folder}")
        venv.create(folder, with_pip=True, clear=True)
        install = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, *PINS[peer]], check=True)
        made.write_text(wanted)
    return folder / "bin" / "python"


@dataclass(frozen=True)
class Turn:
    """What one side of a comparison is asked."""

    side: Side
    precision: str
    micro: int


def turns_of(comparison: Comparison, sides: dict[str, Side]) -> dict[str, Turn]:
    """Both sides, networks and data made and the first calls behind them."""
    say(f"{comparison.work}, {comparison.ours} beside {comparison.theirs}: micro batches")
    asked = {
        "ours": (sides["orchard"], comparison.ours),
        "theirs": (sides[comparison.peer], comparison.theirs),
    }
    return {
        name: Turn(side, precision, side.best_micro_batch(comparison.work, precision))
        for name, (side, precision) in asked.items()
    }


def measure(comparison: Comparison, turns: dict[str, Turn], rounds: int, calls: int) -> list[Line]:
    """A line for each round, with the seconds of each call on both sides."""
    found = []
    for number in range(rounds):
        say(f"{comparison.work}, {comparison.ours} beside {comparison.theirs}: round {number + 1} of {rounds}")
        in_turn = list(turns.items()) if number % 2 == 0 else list(turns.items())[::-1]
        found.append(
            {name: turn.side.ask(comparison.work, turn.precision, turn.micro, calls) for name, turn in in_turn}
        )
    return found


def told(comparison: Comparison, turns: dict[str, Turn], lines: list[Line], about: Line) -> list[Line]:
    """Both sides' figure, and ours over theirs round by round: above 1 we are faster. The spread is over rounds."""
    work = WORK[comparison.work]
    speeds = {
        (name, clock): [work.units / median(line[name][clock]) for line in lines]
        for name in ("ours", "theirs")
        for clock in ("seconds", "processor_seconds")
    }
    figures = [
        {
            "figure": work.figure,
            "tool": tool,
            "precision": turns[name].precision,
            "micro_batch": turns[name].micro,
            **about,
            **spread(speeds[name, "seconds"]),
            "by_processor_time": median(speeds[name, "processor_seconds"]),
        }
        for name, tool in (("ours", "orchard"), ("theirs", comparison.peer.split("-")[0]))
    ]
    ratios = [
        ours / theirs for ours, theirs in zip(speeds["ours", "seconds"], speeds["theirs", "seconds"], strict=True)
    ]
    ratio = {
        "figure": f"{work.figure}_ratio",
        "precision": comparison.ours,
        "against": comparison.theirs,
        **about,
        **spread(ratios),
        "by_processor_time": median(speeds["ours", "processor_seconds"])
        / median(speeds["theirs", "processor_seconds"]),
        "goal": comparison.goal,
    }
    return [*figures, ratio]


def spread(values: list[float]) -> Line:
    return {"value": median(values), "low": min(values), "high": max(values), "rounds": len(values)}


def table(lines: list[Line]) -> str:
    rows = [f"{'figure':44} {'ours':5} {'TRL':5} {'ratio':>6} {'low':>6} {'high':>6} {'by CPU':>6}  goal"]
    rows += [
        f"{line['figure']:44} {line['precision']:5} {line['against']:5} {line['value']:6.2f} {line['low']:6.2f} "
        f"{line['high']:6.2f} {line['by_processor_time']:6.2f}  {line['goal'] or ''}"
        for line in lines
        if "against" in line
    ]
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three rounds of three calls")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=5, help="of each side in a round")
    parser.add_argument("--work", default=",".join(WORK), help="some of " + ", ".join(WORK))
    parser.add_argument("--threads", type=int, default=1, help="of each side")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--trl-python", type=Path, help="has trl 1.16")
    parser.add_argument("--trl-ppo-python", type=Path, help="has trl 1.12")
    arguments = parser.parse_args()
    wanted = arguments.work.split(",")
    if unknown := sorted(set(wanted) - WORK.keys()):
        parser.error(f"no work is called {unknown[0]}; fits: {', '.join(WORK)}")
    comparisons = [comparison for comparison in COMPARISONS if comparison.work in wanted]
    given = {"trl": arguments.trl_python, "trl-ppo": arguments.trl_ppo_python}
    pythons = {"orchard": Path(sys.executable)}
    pythons |= {peer: python_of(peer, given[peer]) for peer in {comparison.peer for comparison in comparisons}}
    sides = {tool: Side(tool, python, arguments.threads, arguments.device) for tool, python in pythons.items()}
    rounds, calls = (3, 3) if arguments.quick else (arguments.rounds, arguments.calls)
    about = {"device": arguments.device, "threads": arguments.threads}
    lines: list[Line] = []
    for comparison in comparisons:
        turns = turns_of(comparison, sides)
        new = told(comparison, turns, measure(comparison, turns, rounds, calls), about)
        for line in new:
            sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        lines += new
    for side in sides.values():
        side.close()
    say(table(lines))


if __name__ == "__main__":
    main()
