"""What both sides of the comparison run, and how they say what they measured.

Standard library only: it is read by this project's Python and by the one that has NetKet.
"""

import json
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median, quantiles
from time import perf_counter, process_time

WIDTH, HEADS, LAYERS = 24, 4, 2  # of the transformer; one determinant, float64
TABLE_SCALE, HEAD_SCALE = 0.3, 0.02  # standard deviations at the start; the head's is divided by sqrt(WIDTH)
SAMPLES = 512  # of a step
TOLERANCE = 1e-3  # relative error to reach
SMOOTHED = 20  # steps over which the energy is averaged before it is judged

_FIGURES = sys.stdout  # as it is at the start: libraries that print are sent elsewhere


@dataclass(frozen=True)
class System:
    """A Hubbard model at t = 1 on an Lx x Ly lattice, and the proposals to each walker in a step."""

    lattice: tuple[int, int]
    periodic: tuple[bool, bool]
    particles: tuple[int, int]
    U: float
    proposals: int
    exact: float

    @property
    def sites(self) -> int:
        return self.lattice[0] * self.lattice[1]


# Exact energies are from exact diagonalisation; that of 4x4 is also in varbench (github.com/varbench/varbench).
SYSTEMS = {
    "4x2": System((4, 2), (True, False), (4, 4), U=8.0, proposals=10, exact=-3.4671734372),
    "4x4": System((4, 4), (True, True), (5, 5), U=4.0, proposals=40, exact=-19.5809375254),
}


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: the median, and the quartiles that show how steady the machine was."""

    seconds: float
    low: float
    high: float
    processor_seconds: float  # of all threads of this process; hardly changed by who else uses the machine

    @property
    def spread(self) -> float:
        return (self.high - self.low) / self.seconds


def timed(work: Callable[[], object], repeats: int, warm_up: int = 3) -> Timing:
    """Times calls of `work`, which returns when the result is there, after some that compile and fill caches."""
    for _ in range(warm_up):
        work()
    wall, processor = [], []
    for _ in range(repeats):
        begin, begin_processor = perf_counter(), process_time()
        work()
        wall.append(perf_counter() - begin)
        processor.append(process_time() - begin_processor)
    low, _, high = quantiles(wall, n=4, method="inclusive") if len(wall) > 1 else [wall[0]] * 3
    return Timing(median(wall), low, high, median(processor))


class Smoothed:
    """The mean energy of the last steps against the exact one."""

    def __init__(self, exact: float) -> None:
        self.exact = exact
        self.last: deque[float] = deque(maxlen=SMOOTHED)

    def take(self, energy: float) -> float:
        """The relative error after this step's energy; infinite until there are enough steps."""
        self.last.append(energy)
        if len(self.last) < SMOOTHED:
            return float("inf")
        return abs(sum(self.last) / SMOOTHED - self.exact) / abs(self.exact)


def emit(**figure: object) -> None:
    """One figure as a JSON line on stdout; what is not finite becomes null."""
    safe = {key: None if isinstance(value, float) and value - value != 0.0 else value for key, value in figure.items()}
    _FIGURES.write(json.dumps(safe) + "\n")
    _FIGURES.flush()


def emit_speed(work: dict[str, tuple[float, Timing]], /, **about: object) -> None:
    """The figures of a step's parts; `work` has how many proposals, local energies or steps a call does."""
    names = {"proposals": "proposals_per_second", "local energies": "local_energies_per_second"}
    for part, (amount, timing) in work.items():
        value = amount / timing.seconds if part in names else timing.seconds
        emit(
            **about,
            figure=names.get(part, "seconds_per_step"),
            value=value,
            spread=timing.spread,
            processor_seconds=timing.processor_seconds,
        )
