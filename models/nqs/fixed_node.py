"""Green-function Monte Carlo with the nodes of a real state held fixed.

The projection exp(-time H_eff) of the trained state psi samples the ground state of an effective Hamiltonian without
a sign problem (ten Haaf, van Bemmel, van Leeuwen, van Saarloos and Ceperley, PRB 51, 13039 (1995)):

    H_eff(n, n') = H(n, n')                                   where psi(n) H(n, n') psi(n') < 0, and 0 where it is > 0
    H_eff(n, n)  = H(n, n) + sum_{n' of sign > 0} H(n, n') psi(n') / psi(n)

Its lowest energy lies between the exact one and psi's own. It is exact where psi is, and where no element has the wrong
sign, as on an open chain: there the amplitudes of psi do not matter. Elsewhere they do, through the diagonal.

W walkers   M = 2N spin-orbitals   D directed hops   C connected configurations   A walkers that still move   K steps
"""

from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.common.errors import ConfigError, TrainingError
from models.nqs import streams
from models.nqs.hamiltonian import Hubbard, Psi

FEWEST_BLOCKS = 16  # that an error bar is taken from


@dataclass(frozen=True)
class FixedNodeEnergy:
    """The energy of the fixed-node ground state, total."""

    energy: float  # with the correction for the constant number of walkers
    error: float  # standard error, by blocking
    uncorrected: float  # without that correction
    survivors: float  # share of walkers that leave a descendant at a branching, mean over steps
    hops: float  # of a walker in a step, mean


class Population:
    """Walkers that move in continuous time and branch after every `time_step`.

    A walker waits at n for a time from an exponential law with rate sum_n' max(0, -H(n, n') psi(n') / psi(n)) and then
    hops to n' with a chance in proportion to its term (Becca and Sorella, Quantum Monte Carlo Approaches);
    its weight is exp(-integral (E_L - reference)), with E_L the local energy, which psi and H_eff share. There is no
    error from a finite time step. Random numbers depend on the seed, the step and the walker.
    """

    def __init__(
        self, hubbard: Hubbard, psi: Psi, occupied_WM: Tensor, *, time_step: float, seed: int, chunk: int = 8192
    ) -> None:
        self.hubbard, self.psi, self.time_step, self.seed, self.chunk = hubbard, psi, time_step, seed, chunk
        self.occupied_WM = occupied_WM.clone()
        walkers, device = len(occupied_WM), occupied_WM.device
        self.rate_WD = torch.zeros(walkers, len(hubbard.from_D), dtype=torch.float64, device=device)
        self.energy_W = torch.zeros(walkers, dtype=torch.float64, device=device)
        self.steps = 0
        self._look_around(torch.arange(walkers, device=device))
        self.reference = float(self.energy_W.mean())  # constant, so that weights of different steps can be multiplied

    def step(self) -> tuple[float, float, float, float]:
        """(energy, log of the mean weight, share of survivors, hops of a walker) of one time step, then branches."""
        log_weight_W, hops = self._propagate()
        largest = float(log_weight_W.max())
        weight_W = (log_weight_W - largest).exp()
        energy = float((weight_W * self.energy_W).sum() / weight_W.sum())
        log_mean = largest + float(weight_W.mean().log())
        if not np.isfinite(energy + log_mean):
            raise TrainingError(
                f"fixed-node step {self.steps}: the walkers' energy is {energy}\n"
                "fits: a state whose local energies are finite, and walkers drawn from it; a shorter time_step"
            )
        survivors = self._branch(weight_W)
        self.steps += 1
        return energy, log_mean, survivors, hops / len(weight_W)

    def _propagate(self) -> tuple[Tensor, int]:
        """log_weight_W that a time step gives, and the number of hops; moves the walkers."""
        walkers, device = len(self.occupied_WM), self.occupied_WM.device
        left_W = torch.full((walkers,), self.time_step, dtype=torch.float64, device=device)
        log_weight_W = torch.zeros_like(left_W)
        moving_A = torch.arange(walkers, device=device)
        hops = 0
        for turn in count():
            random_W2 = torch.from_numpy(
                streams.uniforms(self.seed, streams.NODE_HOPS, self.steps, 0, walkers, 2, part=turn)
            )
            waiting_A, hop_A = self._draw(moving_A, random_W2.to(device)[moving_A])
            spent_A = torch.minimum(waiting_A, left_W[moving_A])
            log_weight_W[moving_A] -= spent_A * (self.energy_W[moving_A] - self.reference)
            hops_now_A = waiting_A < left_W[moving_A]
            left_W[moving_A] -= spent_A
            moving_A, hop_A = moving_A[hops_now_A], hop_A[hops_now_A]
            if not len(moving_A):
                break
            hops += len(moving_A)
            self.occupied_WM[moving_A] = self.hubbard.after(self.occupied_WM, moving_A, hop_A)
            self._look_around(moving_A)
        return log_weight_W, hops

    def _draw(self, moving_A: Tensor, random_A2: Tensor) -> tuple[Tensor, Tensor]:
        """(waiting_A, hop_A): how long each walker stays, infinity where nothing is allowed, and where it goes."""
        up_to_AD = self.rate_WD[moving_A].cumsum(dim=1)
        total_A = up_to_AD[:, -1]
        waiting_A = -torch.log1p(-random_A2[:, 0]) / total_A
        waiting_A = torch.where(total_A > 0, waiting_A, torch.inf)
        below_A = torch.nextafter(total_A, torch.zeros_like(total_A))  # rounding cannot lead past the last hop
        chosen_A = torch.minimum(random_A2[:, 1] * total_A, below_A)
        # The first hop whose running sum exceeds the draw: one of rate 0 never does first.
        hop_A = (up_to_AD <= chosen_A[:, None]).sum(dim=1).clamp(max=up_to_AD.shape[1] - 1)
        return waiting_A, hop_A

    @torch.no_grad()
    def _look_around(self, walker_A: Tensor) -> None:
        """Local energies and rates of these walkers.

        rate(n -> n') = max(0, -H(n, n') psi(n') / psi(n)),    E_L(n) = H(n, n) + sum_n' H(n, n') psi(n') / psi(n)
        """
        occupied_AM = self.occupied_WM[walker_A]
        log_A, sign_A = self._amplitudes(occupied_AM)
        if not bool(log_A.isfinite().all()):
            zeros = int((~log_A.isfinite()).sum())
            raise TrainingError(
                f"{zeros} of {len(log_A)} fixed-node walkers are where the state is zero or not finite\n"
                "fits: walkers that were drawn from |psi|^2 of this state"
            )
        moves = self.hubbard.moves(occupied_AM)
        energy_A = self.hubbard.diagonal(occupied_AM)
        rate_AD = torch.zeros(len(walker_A), self.rate_WD.shape[1], dtype=torch.float64, device=occupied_AM.device)
        for row_C, hop_C, element_C in zip(*(part.split(self.chunk) for part in moves), strict=True):
            log_C, sign_C = self._amplitudes(self.hubbard.after(occupied_AM, row_C, hop_C))
            term_C = element_C * (log_C - log_A[row_C]).exp() * sign_C * sign_A[row_C]
            energy_A.index_add_(0, row_C, term_C)
            rate_AD[row_C, hop_C] = (-term_C).clamp(min=0)
        self.rate_WD[walker_A], self.energy_W[walker_A] = rate_AD, energy_A

    def _amplitudes(self, occupied_CM: Tensor) -> tuple[Tensor, Tensor]:
        """psi, refused where it is complex: a phase has no sign to hold fixed."""
        log_C, sign_C = self.psi(occupied_CM)
        if self.hubbard.is_complex or sign_C.is_complex():
            raise ConfigError(
                "the fixed-node projection is for real states, and this one is complex\n"
                "fits: no twist, ansatz.complex=false, real characters; or measurement.fixed_node.walkers=0"
            )
        return log_C, sign_C

    def _branch(self, weight_W: Tensor) -> float:
        """Draws the same number of walkers in proportion to their weights; returns the share that had descendants.

        All draws come from one random number and a comb of equal teeth, which leaves walkers of equal weight alone
        (Calandra Buonaura and Sorella, PRB 57, 11446 (1998)).
        """
        walkers = len(weight_W)
        offset = float(streams.uniforms(self.seed, streams.NODE_BRANCHES, self.steps, 0, 1, 1)[0, 0])
        up_to_W = weight_W.cumsum(dim=0)
        teeth_W = (torch.arange(walkers, device=weight_W.device) + offset) / walkers * up_to_W[-1]
        parent_W = torch.searchsorted(up_to_W, teeth_W, right=True).clamp(max=walkers - 1)
        self.occupied_WM = self.occupied_WM[parent_W]
        self.rate_WD, self.energy_W = self.rate_WD[parent_W], self.energy_W[parent_W]
        return len(parent_W.unique()) / walkers


def fixed_node_energy(
    hubbard: Hubbard,
    psi: Psi,
    occupied_WM: Tensor,
    *,
    time_step: float,
    steps: int,
    equilibration: int,
    seed: int,
    history: int = 100,
    chunk: int = 8192,
) -> FixedNodeEnergy:
    """The fixed-node energy of a real state, from walkers that were drawn from |psi|^2.

    `steps` are measured after `equilibration`, each of imaginary time `time_step`. Weights of the last `history` steps
    undo the bias of the constant population. Raises ConfigError where psi is complex or there are too few steps,
    TrainingError where a walker is at a zero of psi.
    """
    if steps < FEWEST_BLOCKS:
        raise ConfigError(f"{steps} fixed-node steps give no error bar\nfits: {FEWEST_BLOCKS} or more")
    population = Population(hubbard, psi, occupied_WM, time_step=time_step, seed=seed, chunk=chunk)
    for _ in range(equilibration):
        population.step()
    # The first steps of a history are measured as well, so that all energies have one of the same length.
    energy_K, log_mean_K, survivors_K, hops_K = np.array([population.step() for _ in range(history + steps)]).T
    weight_K = history_weights(log_mean_K, history)[history:]
    energy, error = weighted_mean(weight_K, energy_K[history:])
    return FixedNodeEnergy(
        energy, error, float(energy_K[history:].mean()), float(survivors_K.mean()), float(hops_K.mean())
    )


def history_weights(log_mean_K: NDArray[np.float64], history: int) -> NDArray[np.float64]:
    """weight_K = prod_{j=0}^{history-1} mean weight of step k - j, up to a common factor.

    Branching to a constant number forgets by which factor the population would have grown; this remembers it
    (Calandra Buonaura and Sorella 1998).
    """
    up_to = np.concatenate([[0.0], log_mean_K.cumsum()])
    last = np.arange(1, len(log_mean_K) + 1)
    log_weight_K = up_to[last] - up_to[np.maximum(last - history, 0)]
    return np.exp(log_weight_K - log_weight_K.max())


def weighted_mean(weight_K: NDArray[np.float64], value_K: NDArray[np.float64]) -> tuple[float, float]:
    """(sum w v / sum w, standard error) of a correlated series.

    The jackknife leaves out one block at a time; blocks are doubled as long as FEWEST_BLOCKS are left, and the largest
    error counts, as a block shorter than the correlation gives one that is too small (Flyvbjerg and Petersen 1989).
    """
    total = weight_K.sum()
    mean = float((weight_K * value_K).sum() / total)
    errors = []
    length = 1
    while len(value_K) // length >= FEWEST_BLOCKS:
        blocks = len(value_K) // length
        cut = slice(len(value_K) - blocks * length, None)
        weight_B = weight_K[cut].reshape(blocks, length).sum(axis=1)
        part_B = (weight_K * value_K)[cut].reshape(blocks, length).sum(axis=1)
        without_B = (part_B.sum() - part_B) / (weight_B.sum() - weight_B)
        errors.append(float(np.sqrt((blocks - 1) / blocks * ((without_B - without_B.mean()) ** 2).sum())))
        length *= 2
    return mean, max(errors)
