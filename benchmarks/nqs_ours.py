"""Our side of the comparison, as `models/nqs` trains; one JSON line a figure.

    python benchmarks/nqs_ours.py --system 4x2 --figures speed --variant network --workers 1
    python benchmarks/nqs_ours.py --system 4x2 --figures accuracy --workers 2

Variant `network` does NetKet's work: every proposal moves an electron, drawn among the allowed hops, and every
amplitude is evaluated. `trained` is what a training does: hops and swaps in turn, and amplitudes are remembered as long
as the parameters stay, where the sector is small enough for a table. Workers are processes of one thread each, as on
the laptop cluster; they share the walkers.
"""

import argparse
import resource
import tempfile
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from time import monotonic, perf_counter, process_time

import torch
import torch.distributed as dist
import torch.multiprocessing as processes
from nqs_systems import (
    HEAD_SCALE,
    HEADS,
    LAYERS,
    SAMPLES,
    SYSTEMS,
    TABLE_SCALE,
    TOLERANCE,
    WIDTH,
    Smoothed,
    System,
    Timing,
    emit,
    emit_speed,
    timed,
)

from infra import collectives
from infra.clusters import Cluster
from infra.engine import engine_factory
from models.common.contract import World
from models.nqs import presets
from models.nqs.amplitudes import Amplitudes
from models.nqs.ansatz_config import AnsatzConfig
from models.nqs.config import VmcConfig
from models.nqs.hamiltonian import local_energy
from models.nqs.system import SystemConfig
from models.nqs.vmc import VmcLearner

MOVES = {"network": ("weighted",), "trained": ("hop", "swap")}


def make_config(system: System, variant: str) -> VmcConfig:
    """The laptop preset's training, on this system and with the network both sides have."""
    boundary = ",".join("periodic" if periodic else "open" for periodic in system.periodic)
    preset = presets.laptop()
    sampler = preset.training.sampler.but(moves=MOVES[variant], proposals_per_site=system.proposals / system.sites)
    return preset.but(
        system=SystemConfig(
            lattice="x".join(map(str, system.lattice)),
            boundary=boundary,
            filling=",".join(map(str, system.particles)),
            U=system.U,
        ),
        ansatz=AnsatzConfig(width=WIDTH, heads=HEADS, layers=LAYERS, table_scale=TABLE_SCALE, head_scale=HEAD_SCALE),
        training=preset.training.but(batch_size=SAMPLES, sampler=sampler),
    ).vmc


def make_world(seed: int) -> World:
    """This process's, with the plain engine, whose steps are those of DeepSpeed's."""
    rank, size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    device = torch.device("cpu")
    return World(
        rank=rank,
        size=size,
        device=device,
        seed=seed,
        inputs={},
        start_from=None,
        fingerprints={},
        make_engine=engine_factory(Cluster(name="benchmark", workers=size, engine="torch"), device),
        mean=collectives.mean,
        sum=collectives.total,
        gather=collectives.gather,
        exchange=collectives.exchange,
        clock=monotonic,
    )


def measure_speed(world: World, system: System, variant: str, repeats: int, /, **about: object) -> None:
    """Proposals, local energies and whole steps; the learner's own parts, one after the other."""
    learner = VmcLearner(make_config(system, variant), world)
    if variant == "network":
        learner.psi = Amplitudes(learner.network, None, chunk=learner.config.amplitudes_at_once)
    learner.step()  # burns the chains in
    numbers = iter(range(10**6, 10**7))

    def sample() -> None:
        learner.psi.forget()
        learner.chains.advance(learner.psi, system.proposals, next(numbers))

    def energies() -> None:
        learner.psi.forget()
        local_energy(learner.hubbard, learner.psi, learner.chains.occupied_WM, chunk=4096)

    work: dict[str, tuple[float, Callable[[], object]]] = {
        "proposals": (float(SAMPLES * system.proposals), sample),
        "local energies": (float(SAMPLES), energies),
        "steps": (1.0, learner.step),
    }
    timings = {
        part: (amount, slowest(world, timed(together(world, task), repeats))) for part, (amount, task) in work.items()
    }
    memory = float(world.sum(torch.tensor(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)))
    if world.rank == 0:
        about = {**about, "parameters": sum(parameter.numel() for parameter in learner.network.parameters())}
        emit_speed(timings, **about)
        emit(**about, figure="peak_rss_mib", value=memory)


def together(world: World, task: Callable[[], object]) -> Callable[[], None]:
    """The task on all workers, over when the last one is."""

    def run() -> None:
        task()
        world.sum(torch.zeros(()))

    return run


def slowest(world: World, timing: Timing) -> Timing:
    """Rank 0's times, which include the wait for the others, and the processor's seconds of all."""
    return replace(
        timing, processor_seconds=float(world.sum(torch.tensor(timing.processor_seconds, dtype=torch.float64)))
    )


def measure_accuracy(
    world: World, system: System, variant: str, steps: int, seed: int, limit: float, /, **about: object
) -> None:
    """Seconds of steps until the mean energy of the last steps is within the tolerance."""
    torch.manual_seed(seed)
    learner = VmcLearner(make_config(system, variant), world)
    smoothed, least, seconds, processor_seconds, reached = Smoothed(system.exact), float("inf"), 0.0, 0.0, None
    error, step, metrics = float("inf"), 0, {"acceptance": 0.0}
    for step in range(1, steps + 1):
        begin, begin_processor = perf_counter(), process_time()
        metrics = learner.step()
        seconds += perf_counter() - begin
        processor_seconds += process_time() - begin_processor
        error = smoothed.take(metrics["loss"])
        least = min(least, error)
        if error < TOLERANCE:
            reached = step
        if reached or float(world.mean(torch.tensor(seconds))) > limit:
            break
    processor_seconds = float(world.sum(torch.tensor(processor_seconds, dtype=torch.float64)))
    energy = summed_energy(learner)
    if world.rank == 0:
        emit(
            **about,
            figure="seconds_to_1e-3",
            value=seconds if reached else None,
            steps=step,
            seconds=seconds,
            processor_seconds=processor_seconds,
            smoothed_error=error,
            least_smoothed_error=least,
            exact_sum_error=abs(energy - system.exact) / abs(system.exact),
            acceptance=metrics["acceptance"],
            parameters=sum(parameter.numel() for parameter in learner.network.parameters()),
        )


@torch.no_grad()
def summed_energy(learner: VmcLearner) -> float:
    """The state's energy by summation over all configurations, without a chain."""
    occupied_DM = learner.sector.all()
    log_abs_D, _ = learner.psi(occupied_DM)
    energy_D = local_energy(learner.hubbard, learner.psi, occupied_DM).real
    return float(torch.softmax(2 * log_abs_D, dim=0) @ energy_D.nan_to_num())


def run(rank: int, arguments: argparse.Namespace, meeting: str) -> None:
    torch.set_num_threads(1)
    if arguments.workers > 1:
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=arguments.workers)
    torch.manual_seed(arguments.seed)
    system, world = SYSTEMS[arguments.system], make_world(arguments.seed)
    about = {
        "tool": "orchard",
        "version": version("orchard"),
        "system": arguments.system,
        "variant": f"{arguments.variant}-{arguments.workers}",
        "workers": arguments.workers,
    }
    if arguments.figures == "speed":
        measure_speed(world, system, arguments.variant, arguments.repeats, **about)
    else:
        measure_accuracy(
            world, system, arguments.variant, arguments.steps, arguments.seed, arguments.limit,
            **about, seed=arguments.seed,
        )  # fmt: skip
    if dist.is_initialized():
        dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--system", choices=SYSTEMS, default="4x2")
    parser.add_argument("--figures", choices=["speed", "accuracy"], default="speed")
    parser.add_argument("--variant", choices=MOVES, default="trained")
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread; they divide the 512 walkers")
    parser.add_argument("--repeats", type=int, default=15, help="timed calls of each part")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for an optimisation")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        meeting = str(Path(folder) / "meeting")
        if arguments.workers == 1:
            run(0, arguments, meeting)
        else:
            processes.spawn(run, (arguments, meeting), nprocs=arguments.workers)  # pyright: ignore[reportPrivateImportUsage]


if __name__ == "__main__":
    main()
