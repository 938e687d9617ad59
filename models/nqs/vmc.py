"""Variational Monte Carlo: Markov chains sample the state, local energies judge it, a natural gradient moves it.

W walkers of this rank   B walkers of all ranks   U different configurations of this rank   M spin-orbitals
"""

from typing import NamedTuple

import torch
from torch import Tensor

from models.common.contract import LearnerState, Metrics, World
from models.common.errors import TrainingError
from models.nqs.amplitudes import Amplitudes, distinct
from models.nqs.bounds import lower_bound
from models.nqs.config import VmcConfig
from models.nqs.guards import ChainWatch, EnergyGuard, GroupMixing, require_steady_norm
from models.nqs.hamiltonian import Hubbard, local_energy
from models.nqs.low_rank import quickest
from models.nqs.natural_gradient import NaturalGradient
from models.nqs.sampling import Chains
from models.nqs.sector import Sector
from models.nqs.start import begin_with, make_state


class Samples(NamedTuple):
    """What all ranks drew, on every rank: log weights |psi|^(2 - alpha), real parts of local energies, acceptance."""

    weights_B: Tensor  # sum 1
    energies_B: Tensor
    acceptance: float
    different: float  # share of the walkers that stand on a configuration of their own, on their rank

    @property
    def energy(self) -> float:
        return float(self.weights_B @ self.energies_B)

    @property
    def variance(self) -> float:
        return float(self.weights_B @ (self.energies_B - self.energy).square())

    @property
    def effective(self) -> float:
        """Kish's effective sample size, 1 / sum w^2."""
        return float(1.0 / self.weights_B.square().sum())


def merge(sector: Sector, occupied_WM: Tensor) -> tuple[Tensor, Tensor]:
    """Different configurations [U, M], and for each walker which of them it stands on [W].

    Equal configurations have equal derivatives and energies: computed once, with the sum of their weights. A sector
    that cannot be numbered is so large that hardly two walkers meet.
    """
    if not sector.indexable:
        return occupied_WM, torch.arange(len(occupied_WM), device=occupied_WM.device)
    row_U, place_W = distinct(sector.index(occupied_WM))
    return occupied_WM[row_U], place_W


class VmcLearner:
    """Trains the state. It owns its update, which the engine reduces over workers and applies."""

    def __init__(self, config: VmcConfig, world: World) -> None:
        self.config = config
        self.world = world
        system = config.state.system
        network = make_state(config.state).to(world.device)
        if world.start_from is not None:
            begin_with(network, world.start_from)
        self.natural = NaturalGradient(
            config.optimizer,
            network,
            world,
            samples_at_once=config.samples_at_once,
            memory_bytes=int(config.memory_gib * 2**30),
        )
        self.network = network
        self.hubbard = Hubbard(system, world.device)
        self.sector = Sector(system.sites, *system.particles)
        self.psi = Amplitudes(network, self.sector, chunk=config.amplitudes_at_once)
        share = world.share(config.batch_size)
        self.chains = Chains(
            self.hubbard,
            first=share.start,
            walkers=share.stop - share.start,
            seed=world.seed,
            moves=config.sampler.moves,
            alpha=config.sampler.alpha,
        )
        self.watch = ChainWatch(config.sampler)
        self.energy_guard = EnergyGuard(config.guard, lower_bound(system))
        self.mixing = GroupMixing(config.guard.window)
        self.first_norm = self._norm()
        self.steps_done = 0
        self.finished, self.sound = False, True

    def step(self) -> Metrics:
        self.steps_done += 1
        occupied_WM, log_W, accepted_W = self._advance()
        occupied_UM, place_W = merge(self.sector, occupied_WM)
        energy_U = local_energy(self.hubbard, self.psi, occupied_UM, chunk=self.config.amplitudes_at_once)
        samples = self._gather(log_W, energy_U[place_W], accepted_W, len(occupied_UM))
        weights_W = samples.weights_B[self.world.share(self.config.batch_size)]
        weights_U = torch.zeros_like(energy_U, dtype=torch.float64).index_add_(0, place_W, weights_W)

        moved = self.natural.step(occupied_UM, weights_U, energy_U, self.steps_done)
        self.psi.forget()
        return {**self._judge(samples), **moved}

    def _advance(self) -> tuple[Tensor, Tensor, Tensor]:
        """The walkers after this step's proposals, log |psi| there, and the share of proposals each accepted."""
        sampler = self.config.sampler
        proposals = max(1, round(sampler.proposals_per_site * self.config.state.system.sites)) * self.watch.factor
        if self.steps_done == 1 and sampler.burn_in:
            proposals *= 1 + sampler.burn_in
        self.chains.alpha = self.watch.alpha
        psi = quickest(self.network, self.psi, self.chains.occupied_WM)
        sweep = self.chains.advance(psi, proposals, self.steps_done)
        return sweep.occupied_WM, sweep.log_abs_W, sweep.accepted_W.double() / sweep.proposed

    def _gather(self, log_W: Tensor, energy_W: Tensor, accepted_W: Tensor, different: int) -> Samples:
        """Weights and energies of all ranks, on every rank; raises TrainingError where an amplitude is not finite."""
        log_weight_W = (2.0 - self.watch.alpha) * log_W
        own_W4 = torch.stack([log_weight_W, energy_W.real.double(), accepted_W, torch.zeros_like(log_W)], dim=1)
        own_W4[0, 3] = different
        all_B4 = self.world.gather(own_W4)
        broken = int((~torch.isfinite(all_B4[:, :2])).any(dim=1).sum())
        if broken:
            raise TrainingError(
                f"step {self.steps_done}: {broken} of {len(all_B4)} walkers stand where psi or its energy is not finite"
                "\na determinant has become singular or has overflowed\ntry a smaller step norm or a larger damping"
            )
        return Samples(
            weights_B=torch.softmax(all_B4[:, 0], dim=0),
            energies_B=all_B4[:, 1],
            acceptance=float(all_B4[:, 2].mean()),
            different=float(all_B4[:, 3].sum()) / len(all_B4),
        )

    def _judge(self, samples: Samples) -> Metrics:
        """The step in numbers; guards raise TrainingError, and may change how the next step samples."""
        step, effective = self.steps_done, samples.effective
        error = (samples.variance / effective) ** 0.5
        metrics = {
            "loss": samples.energy,
            "energy_per_site": samples.energy / self.config.state.system.sites,
            "energy_error": error,
            "variance": samples.variance,
            "acceptance": samples.acceptance,
            "effective_share": effective / len(samples.weights_B),
            "different_share": samples.different,
            "r_hat": self.mixing.take(samples.energies_B.cpu().numpy()),
            "alpha": self.watch.alpha,
            "parameter_norm": self._norm(),
        }
        require_steady_norm(step, metrics["parameter_norm"], self.first_norm, self.config.guard.most_growth)
        self.energy_guard.take(step, samples.energy, error)
        self.watch.take(step, samples.acceptance, metrics["effective_share"], samples.different)
        self.sound = self.watch.bad_steps == 0
        return metrics

    def _norm(self) -> float:
        norms = [torch.linalg.vector_norm(parameter.detach()) for parameter in self.network.parameters()]
        return float(torch.linalg.vector_norm(torch.stack(norms)))

    def state_dict(self) -> LearnerState:
        own = {
            "steps_done": self.steps_done,
            "first_norm": self.first_norm,
            "occupied_BM": self.world.gather(self.chains.occupied_WM.to(torch.uint8)).cpu(),
            "watch": self.watch.state_dict(),
            "energy_guard": self.energy_guard.state_dict(),
            "mixing": self.mixing.state_dict(),
        }
        return LearnerState.joined({"engine": self.natural.state_dict()}, vmc=own)

    def load_state_dict(self, state: LearnerState) -> None:
        self.natural.load_state_dict(state.part("engine"))
        own = state.shared["vmc"]
        self.steps_done, self.first_norm = own["steps_done"], own["first_norm"]
        mine = self.world.share(self.config.batch_size)
        self.chains.occupied_WM = own["occupied_BM"][mine].bool().to(self.world.device)
        self.watch.load_state_dict(own["watch"])
        self.energy_guard.load_state_dict(own["energy_guard"])
        self.mixing.load_state_dict(own["mixing"])
        self.psi.forget()

    def weights(self) -> dict[str, Tensor]:
        return self.natural.weights()
