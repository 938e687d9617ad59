"""Time per proposal with full determinants and with updated ones, on one thread; one JSON line a figure.

    python benchmarks/nqs_low_rank.py                       # 8 to 224 electrons, the cheap kinds and SCALE
    python benchmarks/nqs_low_rank.py --electrons 56,112 --kinds mean_field

A proposal is one hop for each walker and its amplitude; half of them are accepted. Starting the updates is spread over
`--proposals`, as a sampler does it anew after each change of the parameters.
"""

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from models.nqs.ansatz import Ansatz
from models.nqs.ansatz_config import AnsatzConfig
from models.nqs.low_rank import UpdatedDeterminants, rows_of
from models.nqs.network import make_ansatz
from models.nqs.system import SystemConfig

LATTICES = {8: "3x3", 16: "6x3", 24: "7x4", 32: "6x6", 40: "9x5", 56: "8x8", 80: "10x9", 112: "16x8", 224: "16x16"}
KINDS = {
    "mean_field": AnsatzConfig(kind="mean_field"),
    "slater_jastrow": AnsatzConfig(kind="slater_jastrow"),
    "scale": AnsatzConfig(kind="scale", width=64, mlp_width=128, mlp_layers=4),
}


def walk(system: SystemConfig, walkers: int, proposals: int) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """A start, and proposals with the mask of those to accept: one hop to a neighbouring place of the same spin."""
    generator = np.random.default_rng(1)
    sites = system.sites
    occupied = np.concatenate(
        [generator.permuted(np.tile(np.arange(sites) < n, (walkers, 1)), axis=1) for n in system.particles], axis=1
    )
    start, moves = torch.from_numpy(occupied.copy()), []
    for _ in range(proposals):
        proposed = occupied.copy()
        for row in proposed:
            origin = generator.choice(np.flatnonzero(row))
            spin = slice(0, sites) if origin < sites else slice(sites, 2 * sites)
            free = spin.start + np.flatnonzero(~row[spin])
            row[origin], row[free[np.abs(free - origin).argmin()]] = False, True
        mask = generator.random(walkers) < 0.5
        occupied = np.where(mask[:, None], proposed, occupied)
        moves.append((torch.from_numpy(proposed), torch.from_numpy(mask)))
    return start, moves


def full(ansatz: Ansatz, start: Tensor, moves: list[tuple[Tensor, Tensor]]) -> None:
    with torch.no_grad():
        for proposed, _ in moves:
            ansatz(proposed)


def updated(ansatz: Ansatz, start: Tensor, moves: list[tuple[Tensor, Tensor]]) -> None:
    rows = rows_of(ansatz)
    assert rows is not None
    state = UpdatedDeterminants(rows, start)
    for proposed, mask in moves:
        state.propose(proposed)
        state.accept(mask)


def seconds(work: Callable[[], None], repeats: int) -> float:
    """The quickest of some repeats, as others may use the machine."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--electrons", default=",".join(map(str, LATTICES)))
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--walkers", type=int, default=64)
    parser.add_argument("--proposals", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for kind in arguments.kinds.split(","):
        for electrons in map(int, arguments.electrons.split(",")):
            filling = f"{electrons // 2},{electrons // 2}"
            system = SystemConfig(lattice=LATTICES[electrons], boundary="periodic", filling=filling, U=8.0)
            torch.manual_seed(0)
            ansatz = make_ansatz(KINDS[kind], system)
            start, moves = walk(system, arguments.walkers, arguments.proposals)
            per_proposal = 1e6 / (arguments.walkers * arguments.proposals)
            figures = {
                "full_us": seconds(lambda: full(ansatz, start, moves), arguments.repeats) * per_proposal,  # noqa: B023
                "updated_us": seconds(lambda: updated(ansatz, start, moves), arguments.repeats) * per_proposal,  # noqa: B023
            }
            line = {"kind": kind, "electrons": electrons, "lattice": system.lattice, "walkers": arguments.walkers}
            line |= {name: round(value, 2) for name, value in figures.items()}
            print(json.dumps(line | {"speedup": round(figures["full_us"] / figures["updated_us"], 2)}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
