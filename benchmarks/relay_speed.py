"""RELAY's training and decoding beside transformers and the machine's own limit; one JSON line a figure.

    python benchmarks/relay_speed.py                          # all of it, five rounds
    python benchmarks/relay_speed.py --quick                  # three rounds at the laptop's shape
    python benchmarks/relay_speed.py --work student,decoding  # some of it

Ours and transformers are a process each that stays, on one thread, and they take turns, forward and backward.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from relay_work import SHAPES, WIDTHS
from rto_speed import say, spread

HERE = Path(__file__).resolve().parent

Line = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """What a side is asked."""

    side: str
    work: str
    about: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        return " ".join([self.side, self.work, *(str(value) for _, value in self.about)])


@dataclass(frozen=True)
class Comparison:
    """A figure of several requests; the first one is held against each of the others."""

    figure: str
    about: Line
    requests: dict[str, Request]
    unit: str = "tokens"
    goals: tuple[tuple[str, float], ...] = ()  # what the ratio against each should be at least


def comparisons() -> dict[str, list[Comparison]]:
    """All of them, by the word that asks for them."""
    found: dict[str, list[Comparison]] = {"student": [], "decoding": [], "teacher": [], "precision": []}
    for shape in SHAPES:

        def ours(work: str, shape: str = shape) -> Request:
            return Request("ours", work, (("shape", shape),))

        def theirs(work: str, model: str, shape: str = shape) -> Request:
            return Request("transformers", work, (("shape", shape), ("model", model)))

        mixed = SHAPES[shape].draws > 1
        models = ("gpt_neox",) if mixed else ("gpt_neox", "llama")
        student = {"ours": ours("student"), **{model: theirs("student", model) for model in models}}
        about = {"shape": shape}
        found["student"].append(
            Comparison("student_tokens_per_second", about, student, goals=tuple((model, 1.2) for model in models))
        )
        if mixed:
            continue
        decoding = {"ours": ours("decoding"), "gpt_neox": theirs("decoding", "gpt_neox"), "anew": ours("anew")}
        found["decoding"].append(
            Comparison("decoded_tokens_per_second", about, decoding, goals=(("gpt_neox", 2.0), ("anew", 20.0)))
        )
        teacher = {"ours": ours("teacher"), "matmuls": ours("limit")}
        found["teacher"].append(Comparison("teacher_token_iterations_per_second", about, teacher))
    for width in WIDTHS:
        asked = {
            precision: Request("ours", "width", (("width", width), ("precision", precision)))
            for precision in ("bf16", "fp32")
        }
        found["precision"].append(Comparison("student_tokens_per_second", {"width": width}, asked))
    return found


class Side:
    """A process that answers requests for timed calls."""

    def __init__(self, script: str, shared: str) -> None:
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(HERE.parent),
            "RELAY_SHARED": shared,
            "HF_HUB_OFFLINE": "1",
        }
        self.script = script
        self.process = subprocess.Popen(
            [sys.executable, HERE / script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, request: Request, calls: int) -> Line:
        assert self.process.stdin is not None, "it was opened with a pipe"
        assert self.process.stdout is not None, "it was opened with a pipe"
        self.process.stdin.write(json.dumps({"work": request.work, **dict(request.about), "repeats": calls}) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.script} ended while it was asked for {request.name}; its reason is above")
        return json.loads(answer)

    def close(self) -> None:
        assert self.process.stdin is not None, "it was opened with a pipe"
        self.process.stdin.close()
        self.process.wait()


def measure(comparison: Comparison, sides: dict[str, Side], rounds: int) -> dict[str, list[Line]]:
    """What each request was answered in each round, a call each; they go forward and backward in turn."""
    for request in comparison.requests.values():  # the first one leaves for the others what they read
        sides[request.side].ask(request, 0)
    found: dict[str, list[Line]] = {name: [] for name in comparison.requests}
    for number in range(rounds):
        say(f"{comparison.figure} {comparison.about}: round {number + 1} of {rounds}")
        in_turn = list(comparison.requests.items())
        for name, request in in_turn if number % 2 == 0 else in_turn[::-1]:
            found[name].append(sides[request.side].ask(request, 1))
    return found


def told(comparison: Comparison, found: dict[str, list[Line]]) -> list[Line]:
    """Each one's speed, and the first one's over it round by round: above 1 the first one is faster."""
    first, *others = comparison.requests
    done = {name: units_of(comparison, found, name) for name in comparison.requests}
    speeds = {
        (name, clock): [done[name] / line[clock][0] for line in lines]
        for name, lines in found.items()
        for clock in ("seconds", "processor_seconds")
    }
    lines = [
        {
            "figure": comparison.figure,
            "of": name,
            **comparison.about,
            **spread(speeds[name, "seconds"]),
            "by_processor_time": median(speeds[name, "processor_seconds"]),
            **{key: found[name][-1][key] for key in ("same_tokens", "operations") if key in found[name][-1]},
        }
        for name in comparison.requests
    ]
    for name in others:
        ratios = {
            clock: [us / them for us, them in zip(speeds[first, clock], speeds[name, clock], strict=True)]
            for clock in ("seconds", "processor_seconds")
        }
        lines.append(
            {
                "figure": f"{comparison.figure}_ratio",
                "of": first,
                "against": name,
                **comparison.about,
                **spread(ratios["seconds"]),
                "by_processor_time": median(ratios["processor_seconds"]),
                "goal": dict(comparison.goals).get(name),
            }
        )
    return lines


def units_of(comparison: Comparison, found: dict[str, list[Line]], name: str) -> float:
    """How much a call does: its own count, or that of the first one where the work is the same."""
    first = next(iter(comparison.requests))
    return found[name][0].get(comparison.unit, found[first][0][comparison.unit])


def table(lines: list[Line]) -> str:
    rows = [
        f"{'figure':44} {'at':>8} {'of':9} {'against':9} {'value':>12} {'low':>12} {'high':>12} {'by CPU':>12} goal"
    ]
    for line in lines:
        at = line.get("shape") or line.get("width")
        numbers = " ".join(f"{line[key]:12.4g}" for key in ("value", "low", "high", "by_processor_time"))
        against, goal = line.get("against", ""), line.get("goal") or ""
        rows.append(f"{line['figure']:44} {at!s:>8} {line['of']:9} {against:9} {numbers} {goal}")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = comparisons()
    parser.add_argument("--quick", action="store_true", help="three rounds, at the laptop's shape and width 64")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", default=",".join(known), help="some of " + ", ".join(known))
    arguments = parser.parse_args()
    wanted = arguments.work.split(",")
    if unknown := sorted(set(wanted) - known.keys()):
        parser.error(f"no work is called {unknown[0]}; fits: {', '.join(known)}")
    lines: list[Line] = []
    with tempfile.TemporaryDirectory() as shared:
        sides = {"ours": Side("relay_ours.py", shared), "transformers": Side("relay_peers.py", shared)}
        for comparison in (each for name in wanted for each in known[name]):
            if arguments.quick and comparison.about not in ({"shape": "laptop"}, {"width": 64}):
                continue
            rounds = 3 if arguments.quick else arguments.rounds
            new = told(comparison, measure(comparison, sides, rounds))
            for line in new:
                sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()
            lines += new
        for side in sides.values():
            side.close()
    say(table(lines))


if __name__ == "__main__":
    main()
