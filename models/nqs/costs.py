"""What the parts of a step cost, and how that grows with sites, walkers and parameters.

W walkers   M spin-orbitals   N sites   d width   P parameters
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch

from models.common.contract import World
from models.nqs.config import CompareConfig, StateConfig
from models.nqs.hamiltonian import Hubbard, local_energy
from models.nqs.natural_gradient import NaturalGradient
from models.nqs.optimizer_config import OptimizerConfig
from models.nqs.sampling import Chains
from models.nqs.start import make_state

PARTS = ("proposals", "local energies", "update")
# What grows, and what theory says of the largest sizes: the exponent that each part tends to.
AXES = {
    # N attention rows of N, and determinants of N^3, for each proposal; N times as many for a local energy.
    "sites": {"proposals": 3.0, "local energies": 4.0, "update": 3.0},
    # Equations among W samples: a matrix of W^2 P, solved in W^3.
    "walkers": {"proposals": 1.0, "local energies": 1.0, "update": 2.0},
    # P grows as d^2: so does a pass through the network, and the matrix is W^2 P.
    "parameters": {"proposals": 1.0, "local energies": 1.0, "update": 1.0},
}


@dataclass(frozen=True)
class Size:
    """A step's size along one axis; the other two stay at their smallest."""

    axis: str
    lattice: str
    walkers: int
    width: int

    @property
    def filling(self) -> str:
        """Half filled."""
        length_x, length_y = (int(length) for length in self.lattice.split("x"))
        return f"{length_x * length_y // 2},{length_x * length_y // 2}"


@dataclass(frozen=True)
class Cost:
    """Seconds of each part of a step at one size, as medians."""

    size: Size
    sites: int
    parameters: int
    seconds: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def along(self) -> float:
        """Where the size stands on its axis."""
        return float({"sites": self.sites, "walkers": self.size.walkers, "parameters": self.parameters}[self.size.axis])


def sizes() -> list[dict[str, Any]]:
    """Four sizes along each axis, as JSON."""
    along = [Size("sites", lattice, 32, 16) for lattice in ("4x2", "4x4", "8x4", "8x8")]
    along += [Size("walkers", "4x4", walkers, 16) for walkers in (64, 128, 256, 512)]
    along += [Size("parameters", "4x4", 32, width) for width in (16, 32, 64, 128)]
    return [asdict(size) for size in reversed(along)]


def measure(config: CompareConfig, size: Size, world: World) -> Cost:
    """Times the parts of a step without the memory of amplitudes, which would hide what an amplitude costs."""
    state = StateConfig(
        system=config.training.state.system.but(
            lattice=size.lattice, boundary="periodic", filling=size.filling, twist="0,0", pinning={}
        ),
        ansatz=config.training.state.ansatz.but(kind="transformer", width=size.width, complex=False),
    )
    torch.manual_seed(0)
    network = make_state(state).to(world.device)
    hubbard = Hubbard(state.system, world.device)
    chains = Chains(hubbard, first=0, walkers=size.walkers, seed=0, moves=("hop",), alpha=1.0)
    natural = NaturalGradient(OptimizerConfig(), network, world)
    occupied_WM = chains.advance(network, 1, 0).occupied_WM
    energy_W = local_energy(hubbard, network, occupied_WM)
    weights_W = torch.full((size.walkers,), 1.0 / size.walkers, dtype=torch.float64, device=world.device)
    work: dict[str, Callable[[int], object]] = {
        "proposals": lambda step: chains.advance(network, 1, step),
        "local energies": lambda step: local_energy(hubbard, network, occupied_WM),
        "update": lambda step: natural.step(occupied_WM, weights_W, energy_W, step),
    }
    seconds = {part: _median_seconds(task, config.cost_repeats, world) for part, task in work.items()}
    count = sum(parameter.numel() for parameter in network.parameters())
    return Cost(size, state.system.sites, count, seconds)


def _median_seconds(task: Callable[[int], object], repeats: int, world: World) -> float:
    seconds = []
    for step in range(1, repeats + 2):  # the first warms up
        since = world.clock()
        task(step)
        if world.device.type == "cuda":
            torch.cuda.synchronize(world.device)
        seconds.append(world.clock() - since)
    return median(seconds[1:])
