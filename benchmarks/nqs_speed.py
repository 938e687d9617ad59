"""NetKet and our side by side on the same network; one JSON line a figure, and a table for people on stderr.

    python benchmarks/nqs_speed.py                          # speed on both systems
    python benchmarks/nqs_speed.py --quick                  # minutes: 4x2, one variant of NetKet
    python benchmarks/nqs_speed.py --accuracy --systems 4x2 # seconds to a relative error of 1e-3 as well

Sides take turns, A B A B A B, each time in a new process, so that both meet the same machine. NetKet runs in an
environment of its own, made at the first use; `--netket-python` names another one.
"""

import argparse
import json
import os
import subprocess
import sys
import venv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from nqs_systems import SYSTEMS, emit

HERE = Path(__file__).resolve().parent
ENVIRONMENT = HERE.parent / ".orchard" / "benchmarks" / "netket"
PINS = (
    "netket==3.23.0",
    "jax==0.10.2",
    "jaxlib==0.10.2",
    "flax==0.12.8",
    "optax==0.2.8",
    "numpy==2.4.6",
    "scipy==1.17.1",
)
# The first of NetKet's is what --quick runs. On more than a few processors the best of NetKet's may be another one.
NETKET = ("512-packed-jacobian", "512-padded-jacobian", "512-packed-lazy", "64-packed-jacobian", "16-packed-jacobian")
OURS = ("network-1", "trained-1", "network-2", "trained-2")
SETTINGS = ("backflow-mixed", "backflow-spring", "spring-scheduled", "spring-mixed", "minsr-slow")
LARGER_IS_BETTER = ("proposals_per_second", "local_energies_per_second")
ATTEMPTS = 2  # NetKet's side once stood still: no error, and no more processor time

Line = dict[str, Any]


@dataclass(frozen=True)
class Side:
    """How a side is asked for its figures."""

    tool: str
    python: Path
    seconds: float

    def figures(self, arguments: list[str]) -> list[Line]:
        """The JSON lines of one run; [] where it failed, which is said on stderr."""
        script = HERE / ("nqs_netket.py" if self.tool == "netket" else "nqs_ours.py")
        command = [str(self.python), str(script), *arguments]
        for _ in range(ATTEMPTS):
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, timeout=self.seconds, env=self.environment()
                )
            except subprocess.TimeoutExpired:
                say(f"{self.tool} {' '.join(arguments)}: no result in {self.seconds:.0f} s")
                continue
            if done.returncode == 0:
                return [json.loads(line) for line in done.stdout.splitlines()]
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            say(f"{self.tool} {' '.join(arguments)}: exit status {done.returncode}: {last}")
        return []

    def environment(self) -> dict[str, str]:
        """jax takes all processors, as by default; our workers have one thread each."""
        ours = {"PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1"}
        return {**os.environ, **(ours if self.tool == "orchard" else {"PYTHONPATH": "", "JAX_PLATFORMS": "cpu"})}


def say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def netket_python(given: Path | None) -> Path:
    """The Python that has NetKet; makes its environment where none is named."""
    if given is not None:
        return given
    python = ENVIRONMENT / "bin" / "python"
    wanted, made = "\n".join(PINS), ENVIRONMENT / ".pins"
    if not made.exists() or made.read_text() != wanted:
        say(f"installing {PINS[0]} into {ENVIRONMENT}")
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PINS], check=True)
        made.write_text(wanted)
    return python


def our_arguments(variant: str) -> list[str]:
    kind, workers = variant.split("-")
    return ["--variant", kind, "--workers", workers]


def compare_speed(sides: dict[str, Side], system: str, rounds: int, repeats: int, *, quick: bool) -> list[Line]:
    """All variants in the first round; from then on those of NetKet's that were best at something, and all of ours."""
    found: list[Line] = []
    netket = list(NETKET[:1] if quick else NETKET)
    for number in range(rounds):
        plan = [("netket", variant, ["--variant", variant]) for variant in netket]
        plan += [("orchard", variant, our_arguments(variant)) for variant in OURS]
        for tool, variant, arguments in plan:
            say(f"{system}, round {number + 1} of {rounds}: {tool} {variant}")
            asked = ["--system", system, "--figures", "speed", "--repeats", str(repeats), *arguments]
            found += [{**line, "round": number} for line in sides[tool].figures(asked)]
        if number == 0:
            netket = sorted({best(found, figure)["variant"] for figure in figures_of(found, "netket")}) or netket
    return found


def figures_of(lines: list[Line], tool: str) -> list[str]:
    return list(dict.fromkeys(line["figure"] for line in lines if line["tool"] == tool))


def best(lines: list[Line], figure: str) -> Line:
    """NetKet's best variant of one figure, by the median, among those that were there in the most rounds."""
    summaries = [line for line in summarised(lines) if line["tool"] == "netket" and line["figure"] == figure]
    most = max(line["rounds"] for line in summaries)
    pick = max if figure in LARGER_IS_BETTER else min
    return pick((line for line in summaries if line["rounds"] == most), key=lambda line: line["value"])


def summarised(lines: list[Line]) -> list[Line]:
    """Over rounds: the median of each figure of each variant, with the smallest and largest round."""
    groups: dict[tuple[str, str, str], list[Line]] = defaultdict(list)
    for line in lines:
        groups[line["tool"], line["variant"], line["figure"]].append(line)
    return [summary(group) for group in groups.values()]


def summary(group: list[Line]) -> Line:
    """One figure of one variant, over rounds."""
    values = [line["value"] for line in group]
    about = {key: value for key, value in group[0].items() if key not in ("round", "spread")}
    whole = {**about, "value": median(values), "low": min(values), "high": max(values), "rounds": len(values)}
    for detail in ("spread", "processor_seconds"):
        whole |= {detail: median(line[detail] for line in group)} if detail in group[0] else {}
    return whole


def ratios(lines: list[Line]) -> list[Line]:
    """Ours against NetKet's best of each figure, round by round: above 1 we are better. The spread is over rounds."""
    compared = []
    for ours in summarised(lines):
        if ours["tool"] != "orchard" or ours["figure"] not in figures_of(lines, "netket"):
            continue
        theirs = best(lines, ours["figure"])
        each = paired(rounds_of(lines, ours), rounds_of(lines, theirs), ours["figure"])
        if each:
            about = {"system": ours["system"], "variant": ours["variant"], "against": theirs["variant"]}
            values = {"value": median(each), "low": min(each), "high": max(each), "rounds": len(each)}
            compared.append({"figure": f"{ours['figure']}_ratio", **about, **values})
    return compared


def paired(ours: dict[int, float], theirs: dict[int, float], figure: str) -> list[float]:
    """How much better we are in each round that has both."""
    both = [(value, theirs[number]) for number, value in ours.items() if number in theirs]
    return [own / other if figure in LARGER_IS_BETTER else other / own for own, other in both]


def rounds_of(lines: list[Line], like: Line) -> dict[int, float]:
    """The figure by round."""
    same = [line for line in lines if all(line[key] == like[key] for key in ("tool", "variant", "figure"))]
    return {line["round"]: line["value"] for line in same}


def compare_accuracy(sides: dict[str, Side], system: str, seeds: int, limit: float, *, quick: bool) -> list[Line]:
    """Seconds to the tolerance, side after side for each seed."""
    found: list[Line] = []
    for seed in range(seeds):
        common = ["--system", system, "--figures", "accuracy", "--seed", str(seed), "--limit", str(limit)]
        for setting in SETTINGS[:1] if quick else SETTINGS:
            say(f"{system}, seed {seed}: netket {setting}")
            found += sides["netket"].figures([*common, "--settings", setting])
        for variant in ("trained-1",) if quick else ("trained-1", "trained-2"):
            say(f"{system}, seed {seed}: orchard {variant}")
            found += sides["orchard"].figures([*common, *our_arguments(variant)])
    return found


def table(lines: list[Line]) -> str:
    """Figures for people, in columns."""
    rows = [("system", "figure", "tool", "variant", "value", "range of rounds")]
    for line in lines:
        about = (line["system"], line["figure"], line.get("tool", "ours / netket"), line["variant"])
        value = "not reached" if line["value"] is None else f"{line['value']:.4g}"
        steady = f"{line['low']:.4g} to {line['high']:.4g}" if line.get("low") is not None else ""
        rows.append((*about, value, steady))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", default=",".join(SYSTEMS))
    parser.add_argument("--rounds", "--repeats", type=int, default=3, dest="rounds", help="turns of each side")
    parser.add_argument("--calls", type=int, default=15, help="timed calls of each part within a turn")
    parser.add_argument("--quick", action="store_true", help="4x2 only, two rounds of few calls, one variant of NetKet")
    parser.add_argument("--accuracy", action="store_true", help="also seconds to a relative error of 1e-3, on 4x2")
    parser.add_argument("--seeds", type=int, default=1, help="optimisations of each setting")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for an optimisation or a turn")
    parser.add_argument("--netket-python", type=Path, help="a Python that has NetKet; default: one made here")
    arguments = parser.parse_args()
    patience = arguments.limit + 300.0  # compiling and starting come on top
    sides = {
        "netket": Side("netket", netket_python(arguments.netket_python), patience),
        "orchard": Side("orchard", Path(sys.executable), patience),
    }
    rounds, calls = (2, 5) if arguments.quick else (arguments.rounds, arguments.calls)
    told: list[Line] = []
    for system in ["4x2"] if arguments.quick else arguments.systems.split(","):
        lines = compare_speed(sides, system, rounds, calls, quick=arguments.quick)
        told += [*summarised(lines), *ratios(lines)]
    if arguments.accuracy:
        told += compare_accuracy(sides, "4x2", arguments.seeds, arguments.limit, quick=arguments.quick)
    for line in told:
        emit(**line)
    say(table(told))


if __name__ == "__main__":
    main()
