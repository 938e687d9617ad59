"""NetKet's side of the comparison; run by a Python that has NetKet, one JSON line a figure.

    PYTHON benchmarks/nqs_netket.py --system 4x2 --figures speed --variant 512-packed-jacobian
    PYTHON benchmarks/nqs_netket.py --system 4x2 --figures accuracy --settings minsr,spring

The network is the one of models/nqs/network.py, parameter by parameter. `nqs_speed.py` makes the environment and runs
this beside our side.
"""

# W walkers   N sites   M = 2N spin-orbitals   E electrons   D width   H heads

import argparse
import faulthandler
import resource
import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from time import perf_counter, process_time

import flax.linen as nn
import jax
import jax.numpy as jnp
import netket as nk
import numpy as np
import optax
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
    emit,
    emit_speed,
    timed,
)

normal = nn.initializers.normal
dense = partial(nn.Dense, param_dtype=float, kernel_init=nn.initializers.variance_scaling(1.0, "fan_in", "normal"))


class Transformer(nn.Module):
    """The transformer backflow of Gu et al. 2025, Supp. 1.1, whose head corrects a learnt table of orbitals."""

    system: System

    @nn.compact
    def __call__(self, occupied_WM: jax.Array) -> jax.Array:
        electrons = sum(self.system.particles)
        x_WND = self.embed(occupied_WM)
        for _ in range(LAYERS):
            x_WND = x_WND + attention(x_WND)
            x_WND = x_WND + nn.silu(dense(WIDTH)(x_WND))
        head = partial(nn.Dense, use_bias=False, param_dtype=float, kernel_init=normal(HEAD_SCALE / np.sqrt(WIDTH)))
        correction_WME = jnp.concatenate([head(electrons)(x_WND), head(electrons)(x_WND)], axis=-2)
        table_ME = self.param("table", normal(TABLE_SCALE), (2 * self.system.sites, electrons), float)
        return log_determinant(correction_WME + table_ME, occupied_WM)

    def embed(self, occupied_WM: jax.Array) -> jax.Array:
        state_WN = sum(part * 2**spin for spin, part in enumerate(jnp.split(occupied_WM.astype(int), 2, axis=-1)))
        states_4D = self.param("states", normal(1.0), (4, WIDTH), float)
        return states_4D[state_WN] + self.param("positions", normal(1.0), (self.system.sites, WIDTH), float)


def attention(x_WND: jax.Array) -> jax.Array:
    """Softmax attention of every site to every site, without biases; to be called within a compact module."""
    query, key, value = jnp.split(dense(3 * WIDTH, use_bias=False)(x_WND), 3, axis=-1)
    query, key, value = (part.reshape(*part.shape[:-1], HEADS, WIDTH // HEADS) for part in (query, key, value))
    logits = jnp.einsum("...ihc,...jhc->...hij", query, key) / np.sqrt(WIDTH // HEADS)
    seen = jnp.einsum("...hij,...jhc->...ihc", nn.softmax(logits), value)
    return dense(WIDTH, use_bias=False)(seen.reshape(x_WND.shape))


class NeuralBackflow(nn.Module):
    """What NetKet's users write: a perceptron that corrects the orbitals of a Slater determinant."""

    system: System
    hidden: int = 64

    @nn.compact
    def __call__(self, occupied_WM: jax.Array) -> jax.Array:
        shape = (2 * self.system.sites, sum(self.system.particles))
        hidden = nn.tanh(dense(self.hidden)(occupied_WM.astype(float)))
        correction = nn.Dense(int(np.prod(shape)), param_dtype=float, kernel_init=normal(HEAD_SCALE))(hidden)
        table_ME = self.param("table", normal(TABLE_SCALE), shape, float)
        return log_determinant(correction.reshape(*correction.shape[:-1], *shape) + table_ME, occupied_WM)


def log_determinant(orbitals_WME: jax.Array, occupied_WM: jax.Array) -> jax.Array:
    """log psi of the occupied rows in ascending order; complex, as NetKet keeps the sign in the imaginary part."""
    electrons = orbitals_WME.shape[-1]
    rows = jnp.vectorize(lambda n: n.nonzero(size=electrons)[0], signature="(m)->(e)")(occupied_WM)
    return nk.jax.logdet_cmplx(jnp.take_along_axis(orbitals_WME, rows[..., None], axis=-2))


@dataclass(frozen=True)
class Variant:
    """What of NetKet is used: chains, the kernel of local energies, and whether derivatives are kept."""

    chains: int
    packed: bool  # skips matrix elements that are zero; shipped, marked experimental
    lazy: bool  # the kernel of the natural gradient without a stored Jacobian, NetKet's default

    @staticmethod
    def named(name: str) -> "Variant":
        chains, kernel, derivatives = name.split("-")
        return Variant(
            int(chains), {"packed": True, "padded": False}[kernel], {"lazy": True, "jacobian": False}[derivatives]
        )


@dataclass(frozen=True)
class Setting:
    """A way to optimise."""

    rate: float  # NetKet's update has a factor of 2 that ours has not: 0.025 here is 0.05 there
    momentum: float | None = None  # SPRING; None: MinSR
    shift: float = 1e-3
    network: str = "transformer"
    rule: str = "hop"
    chains: int = SAMPLES
    samples: int = SAMPLES
    decay_after: int | None = None  # steps until the rate falls as 1 / (1 + (t - decay_after) / 100)
    warm_up: int = 0


SETTINGS = {
    "minsr": Setting(rate=0.05),
    "minsr-slow": Setting(rate=0.02, shift=1e-2),
    "minsr-fast": Setting(rate=0.1, shift=1e-2),
    "spring": Setting(rate=0.025, momentum=0.8),
    "spring-slow": Setting(rate=0.01, momentum=0.9),
    "spring-damped": Setting(rate=0.05, momentum=0.8, shift=1e-2),
    "spring-scheduled": Setting(rate=0.025, momentum=0.9, warm_up=50, decay_after=250),
    "spring-mixed": Setting(rate=0.025, momentum=0.8, rule="mixed"),
    "spring-16-chains": Setting(rate=0.025, momentum=0.8, rule="mixed", chains=16, samples=1024),
    "backflow-minsr": Setting(rate=0.05, network="backflow"),
    "backflow-spring": Setting(rate=0.025, momentum=0.8, network="backflow"),
    "backflow-mixed": Setting(rate=0.025, momentum=0.8, network="backflow", rule="mixed", samples=1024, chains=1024),
    "slater": Setting(rate=0.05, network="slater"),
}


def make_rule(kind: str, hilbert: nk.hilbert.SpinOrbitalFermions, graph: nk.graph.AbstractGraph) -> object:
    """Hops along bonds, hops to any site, or either with equal probability."""
    hop = nk.sampler.rules.FermionHopRule(hilbert, graph=graph)
    far = nk.sampler.rules.FermionHopRule(hilbert, graph=graph, d_max=graph.n_nodes)
    return {"hop": hop, "far": far, "mixed": nk.sampler.rules.MultipleRules([hop, far], [0.5, 0.5])}[kind]


def make_state(
    system: System, *, network: str, rule: str, chains: int, samples: int, seed: int
) -> tuple[nk.vqs.MCState, nk.operator.FermiHubbardJax]:
    """The variational state and the Hamiltonian; chains go on from step to step, without a burn-in at each."""
    graph = nk.graph.Grid(system.lattice, pbc=system.periodic)
    hilbert = nk.hilbert.SpinOrbitalFermions(system.sites, s=1 / 2, n_fermions_per_spin=system.particles)
    sampler = nk.sampler.MetropolisSampler(
        hilbert, make_rule(rule, hilbert, graph), n_chains=chains, sweep_size=system.proposals, dtype=np.int8
    )
    models: dict[str, Callable[[], nn.Module]] = {
        "transformer": lambda: Transformer(system),
        "backflow": lambda: NeuralBackflow(system),
        "slater": lambda: nk.models.Slater2nd(hilbert, restricted=False),
    }
    state = nk.vqs.MCState(
        sampler, models[network](), n_samples=samples, n_discard_per_chain=0, seed=seed, sampler_seed=seed
    )
    return state, nk.operator.FermiHubbardJax(hilbert, graph=graph, t=1.0, U=system.U)


def make_driver(state: nk.vqs.MCState, hubbard: nk.operator.FermiHubbardJax, setting: Setting, *, lazy: bool) -> object:
    def rate(step: jax.Array) -> jax.Array:
        fallen = (
            1.0 if setting.decay_after is None else 1.0 / (1.0 + jnp.maximum(0, step - setting.decay_after) / 100.0)
        )
        return setting.rate * jnp.minimum(fallen, (step + 1) / setting.warm_up if setting.warm_up else 1.0)

    return nk.driver.VMC_SR(
        hubbard,
        optax.sgd(rate),
        diag_shift=setting.shift,
        momentum=setting.momentum,
        variational_state=state,
        mode="real",
        use_ntk=True,
        on_the_fly=lazy,
    )


def measure_speed(system: System, variant: Variant, repeats: int, /, **about: object) -> None:
    """Proposals, local energies and whole steps in steady state: nothing is compiled while the clock runs."""
    nk.config.netket_experimental_packed_kernel = variant.packed
    state, hubbard = make_state(
        system, network="transformer", rule="hop", chains=variant.chains, samples=SAMPLES, seed=0
    )
    driver = make_driver(state, hubbard, Setting(rate=1e-4, momentum=0.8), lazy=variant.lazy)

    def sample() -> None:
        state.reset()
        jax.block_until_ready(state.sample())

    def step() -> None:
        driver.run(1, out=None, show_progress=False)
        jax.block_until_ready(state.parameters)

    work = {
        "proposals": (float(SAMPLES * system.proposals), timed(sample, repeats)),
        "local energies": (
            float(SAMPLES),
            timed(lambda: jax.block_until_ready(state.local_estimators(hubbard).data), repeats),
        ),
        "steps": (1.0, timed(step, repeats)),
    }
    about = {**about, "parameters": state.n_parameters}
    emit_speed(work, **about)
    emit(**about, figure="peak_rss_mib", value=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def measure_accuracy(system: System, setting: Setting, steps: int, seed: int, limit: float, /, **about: object) -> None:
    """Seconds of steps until the mean energy of the last steps is within the tolerance; compiling is not counted."""
    nk.config.netket_experimental_packed_kernel = True
    state, hubbard = make_state(
        system,
        network=setting.network, rule=setting.rule, chains=setting.chains, samples=setting.samples, seed=seed,
    )  # fmt: skip
    start = state.parameters
    make_driver(state, hubbard, setting, lazy=False).run(2, out=None, show_progress=False)
    state.parameters = start
    driver = make_driver(state, hubbard, setting, lazy=False)
    smoothed, least, seconds, processor_seconds, reached = Smoothed(system.exact), float("inf"), 0.0, 0.0, None
    error, step, energies = float("inf"), 0, []

    def keep(_step: int, logged: dict[str, nk.stats.Stats], _driver: object) -> bool:
        energies.append(logged["Energy"].mean)
        return True

    for step in range(1, steps + 1):
        begin, begin_processor = perf_counter(), process_time()
        driver.run(1, out=None, show_progress=False, callback=keep)
        jax.block_until_ready(state.parameters)
        seconds += perf_counter() - begin
        processor_seconds += process_time() - begin_processor
        energy = float(energies[-1].real)
        error = smoothed.take(energy)
        least = min(least, error)
        if error < TOLERANCE:
            reached = step
        if reached or energy != energy or seconds > limit:
            break
    energy = summed_energy(state, hubbard) if energy == energy else float("nan")
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
        acceptance=float(state.sampler_state.acceptance or 0.0),
        parameters=state.n_parameters,
    )


def summed_energy(state: nk.vqs.MCState, hubbard: nk.operator.FermiHubbardJax) -> float:
    """The state's energy by summation over all configurations, without a chain."""
    psi_D = np.asarray(state.to_array(normalize=True))
    return float(np.vdot(psi_D, hubbard.to_sparse() @ psi_D).real)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--system", choices=SYSTEMS, default="4x2")
    parser.add_argument("--figures", choices=["speed", "accuracy"], default="speed")
    parser.add_argument("--variant", default="512-packed-jacobian", help="CHAINS-(packed|padded)-(jacobian|lazy)")
    parser.add_argument("--repeats", type=int, default=15, help="timed calls of each part")
    parser.add_argument("--settings", default=",".join(SETTINGS))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for one setting")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    system = SYSTEMS[arguments.system]
    about = {"tool": "netket", "version": nk.__version__, "system": arguments.system}
    if arguments.figures == "speed":
        measure_speed(system, Variant.named(arguments.variant), arguments.repeats, **about, variant=arguments.variant)
        return
    for name in arguments.settings.split(","):
        faulthandler.dump_traceback_later(
            arguments.limit + 240, exit=True
        )  # it once stood still on two busy processors
        measure_accuracy(
            system, SETTINGS[name], arguments.steps, arguments.seed, arguments.limit,
            **about, variant=name, seed=arguments.seed,
        )  # fmt: skip


if __name__ == "__main__":
    with redirect_stdout(sys.stderr):  # NetKet prints its choices
        main()
