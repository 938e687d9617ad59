"""Natural gradients solved among the samples: MinSR, SPRING and MARCH, and Adam beside them.

There are far more parameters than samples, so that the update is solved for in as many equations as there are
samples. Its matrix T = O D O^T is a sum over parameters and is added up block by block (`derivatives.py`); the update
D O^T x + phi is one backward pass with the solution as weights, and then elementwise (`natural_step.py`).
"""

# W walkers of a rank   M spin-orbitals   K parts of log psi: 1, or 2 where psi is complex   A walkers of all ranks
# R rows: for each rank in order, for each part, its walkers   C columns of a block, P all parameters

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.common.contract import LearnerState, Metrics, World
from models.common.errors import TrainingError
from models.nqs.derivatives import Block, WeightedLogPsi, blocks, derivatives, is_complex, width
from models.nqs.natural_step import NaturalStep, march_metric, normalised_variance
from models.nqs.optimizer_config import OptimizerConfig


def weighted_median(values_A: Tensor, weights_A: Tensor) -> Tensor:
    """The value that half of the weight is below; between two, their mean, as for numbers of equal weight."""
    sorted_A, order_A = values_A.sort()
    below_A = weights_A[order_A].cumsum(0) / weights_A.sum()
    rounding = 1e-12
    lower, upper = (below_A < 0.5 - rounding).sum(), (below_A <= 0.5 + rounding).sum()
    return (sorted_A[lower] + sorted_A[upper.clamp(max=len(values_A) - 1)]) / 2


def clip_energies(energies_A: Tensor, weights_A: Tensor, factor: float) -> Tensor:
    """E, brought to within `factor` mean deviations |E - median| of the median.

    Median and mean are weighted, over all samples. Real and imaginary part on their own (bytedance/laqx,
    utils/march.py; Gu et al. 2025, Table S7).
    """
    if energies_A.is_complex():
        parts = (clip_energies(part, weights_A, factor) for part in (energies_A.real, energies_A.imag))
        return torch.complex(*parts)
    median = weighted_median(energies_A, weights_A)
    deviation = ((energies_A - median).abs() * weights_A).sum() / weights_A.sum()
    return energies_A.clamp(median - factor * deviation, median + factor * deviation)


def residuals(energies_A: Tensor, weights_A: Tensor) -> Tensor:
    """eps = -sqrt(w) (E - mean E), the right side of the samples' equations (Gu et al. 2025, S17)."""
    return -weights_A.sqrt() * (energies_A - (weights_A * energies_A).sum())


def centre_(rows_RC: Tensor, root_R: Tensor, null_RK: Tensor) -> Tensor:
    """sqrt(w) (O - mean O), in place: rows times the root of the weights, less their part along the null vectors."""
    rows_RC.mul_(root_R[:, None])
    return rows_RC.addmm_(null_RK, null_RK.T @ rows_RC, alpha=-1.0)


def centre_transposed(x_R: Tensor, root_R: Tensor, null_RK: Tensor) -> Tensor:
    """y such that O^T y over plain O is O^T x over centred O: y = sqrt(w) (x - sqrt(w) sum sqrt(w) x)."""
    return root_R * (x_R - null_RK @ (null_RK.T @ x_R))


def add_gram_(gram_RR: Tensor, centred_RC: Tensor, metric_C: Tensor) -> None:
    """T += O D O^T over these columns (Gu et al. 2025, S23). Overwrites O, which saves a copy of it."""
    centred_RC.mul_(metric_C.sqrt())
    gram_RR.addmm_(centred_RC, centred_RC.T)


@dataclass(frozen=True)
class Solution:
    """x of the samples' equations; how much of eps the update leaves over, |O d - eps| / |eps|; a condition number.

    The condition is (|T| + lambda) / lambda: the largest eigenvalue is the null vectors', the smallest is lambda
    where T is singular beyond them, as it is where a configuration occurs twice, and else is larger.
    """

    x_R: Tensor
    residual: float
    condition: float


def solve_samples(gram_RR: Tensor, overlap_R: Tensor, residual_R: Tensor, null_RK: Tensor, damping: float) -> Solution:
    """x = (T + |T| null null^T + lambda)^-1 (eps - O phi), by Cholesky in float64 (Gu et al. 2025, S23).

    |T| is Frobenius' norm. Centring leaves T without the directions in null (sqrt(w), where all weights are equal
    1/sqrt(B)), which its term makes regular, as in SPRING (Goldshlager et al. 2024). gram_RR is overwritten.
    Raises TrainingError where T is not finite or not positive.
    """
    size = torch.linalg.matrix_norm(gram_RR)
    if not bool(torch.isfinite(size)):
        raise TrainingError(
            "natural gradient: the derivatives of log psi are not finite\n"
            "a sample has psi = 0, or the weights have overflowed; try a smaller squared_length"
        )
    gram_RR.addmm_(size * null_RK, null_RK.T).diagonal().add_(damping)
    factor_RR, failed_at = torch.linalg.cholesky_ex(gram_RR)
    if int(failed_at):
        raise TrainingError(
            f"natural gradient: T + {damping:g} is not positive at row {int(failed_at)} of {len(gram_RR)}, where "
            f"|T| is {float(size):.3g}\nrounding outweighs the damping; try damping={float(size) * 1e-12:.1g} or more"
        )
    right_R = residual_R - overlap_R
    x_R = torch.cholesky_solve(right_R[:, None], factor_RR)[:, 0]
    not_solved_R = right_R - gram_RR @ x_R + damping * x_R + size * (null_RK @ (null_RK.T @ x_R))
    all_of_it = float(torch.linalg.vector_norm(residual_R))
    return Solution(
        x_R=x_R,
        residual=float(torch.linalg.vector_norm(not_solved_R)) / all_of_it if all_of_it else 0.0,
        condition=float(size) / damping + 1.0,
    )


@dataclass(frozen=True)
class Batch:
    """The samples of all ranks as the equations see them, and this rank's own."""

    occupied_WM: Tensor  # this rank's, padded to as many as the others have by samples of no weight
    root_R: Tensor  # sqrt(w)
    null_RK: Tensor  # sqrt(w) in the rows of one part, 0 in the others'
    residual_R: Tensor  # eps
    clipped: float  # the share of the weight whose energy was clipped

    @property
    def parts(self) -> int:
        return self.null_RK.shape[1]

    def own(self, values_R: Tensor, rank: int) -> Tensor:
        """This rank's part of something known for all rows, as [K, W]."""
        return values_R.view(-1, self.parts, len(self.occupied_WM))[rank]


class NaturalGradient:
    """Moves a network's parameters down the energy; the network is run by the frame's engine.

    samples_at_once: walkers in one pass through the network. memory_bytes: of the derivatives held at a time.
    """

    def __init__(
        self,
        config: OptimizerConfig,
        network: nn.Module,
        world: World,
        *,
        samples_at_once: int = 256,
        memory_bytes: int = 2**30,
    ) -> None:
        self.config = config
        self.network = network
        self.world = world
        self.samples_at_once = samples_at_once
        self.memory_bytes = memory_bytes
        self.optimizer: torch.optim.Optimizer | None = None
        # full_precision: bf16 would drown what the equations resolve, and derivatives are taken of whole weights.
        self.engine = world.make_engine(
            WeightedLogPsi(network, samples_at_once), self._make_optimizer, full_precision=True
        )

    def step(self, occupied_WM: Tensor, weights_W: Tensor, energies_W: Tensor, step: int) -> Metrics:
        """One update from this rank's samples; step counts from 1.

        weights_W: their sum over all ranks is 1; a configuration that was drawn several times may be there once, with
        all its weight, so that ranks have different numbers of rows. energies_W: local energies, unclipped.

        Returns gradient_norm (|O^T eps|, half the length of the energy's gradient), clipped (the share of the weight
        whose energy was clipped), and for natural gradients step_norm (the length of the change), residual
        (|O d - eps| / |eps|, of the unscaled update) and condition. Raises TrainingError where energies or
        derivatives are not finite.
        """
        batch = self._gather(occupied_WM, weights_W, energies_W, step)
        share = self.config.schedule(step)
        if self.config.kind == "adam":
            assert self.config.largest_rate is not None
            # dE/dtheta = 2 Re sum w (E - mean E) conj(O), and eps = -sqrt(w) (E - mean E)
            norm = self._apply(batch, -2.0 * batch.root_R * batch.residual_R, share * self.config.largest_rate)
            return {"gradient_norm": norm / 2.0, "clipped": batch.clipped}
        assert isinstance(self.optimizer, NaturalStep)
        gram_RR, overlap_R, force_norm = self._equations(batch, self.optimizer)
        solution = solve_samples(gram_RR, overlap_R, batch.residual_R, batch.null_RK, self.config.damping)
        coefficient_R = centre_transposed(solution.x_R, batch.root_R, batch.null_RK)
        self._apply(batch, coefficient_R, share * math.sqrt(self.config.squared_length))
        return {
            "gradient_norm": force_norm,
            "clipped": batch.clipped,
            "step_norm": self.optimizer.last_length,
            "residual": solution.residual,
            "condition": solution.condition,
        }

    def _make_optimizer(self, parameters: Any) -> torch.optim.Optimizer:
        config = self.config
        if config.kind == "adam":
            self.optimizer = torch.optim.Adam(parameters, lr=config.largest_rate or 0.0)
        else:
            length = math.sqrt(config.squared_length)
            self.optimizer = NaturalStep(
                parameters,
                momentum=config.kept_momentum,
                variance_decay=config.kept_metric,
                rate_per_length=None if config.largest_rate is None else config.largest_rate / length,
                total=self.world.sum,
            )
        return self.optimizer

    def _gather(self, occupied_WM: Tensor, weights_W: Tensor, energies_W: Tensor, step: int) -> Batch:
        most = int(self.world.gather(torch.tensor([len(occupied_WM)], device=occupied_WM.device)).max())
        missing = most - len(occupied_WM)
        occupied_WM = torch.cat([occupied_WM, occupied_WM[:1].expand(missing, -1)])
        weights_A = self.world.gather(_padded(weights_W.double(), missing))
        energies_A = self.world.gather(_padded(energies_W, missing))
        energies_A = torch.where(weights_A > 0, energies_A, 0.0)
        broken = int((~torch.isfinite(energies_A)).sum())
        if broken:
            raise TrainingError(
                f"step {step}: {broken} of {int((weights_A > 0).sum())} local energies are not finite\n"
                "samples sit where psi is 0 or has overflowed; try a smaller squared_length or more warmup_steps"
            )
        factor = self.config.clip_factor
        clipped_A = energies_A if factor is None else clip_energies(energies_A, weights_A, factor)
        parts = 2 if is_complex(self.network, occupied_WM) else 1
        residual_A = residuals(clipped_A.to(torch.complex128), weights_A)
        per_rank = [part.view(-1, most) for part in (residual_A.real, residual_A.imag)[:parts]]
        root_A = weights_A.sqrt().view(-1, 1, most)
        null = torch.einsum("rkw,kl->rkwl", root_A.expand(-1, parts, -1), torch.eye(parts).to(root_A))
        return Batch(
            occupied_WM=occupied_WM,
            root_R=root_A.expand(-1, parts, -1).reshape(-1),
            null_RK=null.reshape(-1, parts),
            residual_R=torch.stack(per_rank, dim=1).reshape(-1),
            clipped=float(weights_A[clipped_A != energies_A].sum()),
        )

    def _equations(self, batch: Batch, rule: NaturalStep) -> tuple[Tensor, Tensor, float]:
        """T, O phi and |O^T eps|, of all ranks' samples: each rank adds up its share of the columns."""
        metric_P, momentum_P = self._metric_and_momentum(rule)
        rows = len(batch.root_R)
        gram_RR = batch.root_R.new_zeros(rows, rows)
        overlap_R = batch.root_R.new_zeros(rows)
        force_squared = batch.root_R.new_zeros(())
        first = 0
        parameters = dict(self.network.named_parameters())
        for block in blocks(parameters, batch.parts * len(batch.occupied_WM), self.memory_bytes):
            centred_RC = self._columns(batch, block)
            metric_C, momentum_C = (
                values_P[first : first + width(block)].tensor_split(self.world.size)[self.world.rank]
                for values_P in (metric_P, momentum_P)
            )
            overlap_R += centred_RC @ momentum_C
            force_squared += (centred_RC.T @ batch.residual_R).square().sum()
            add_gram_(gram_RR, centred_RC, metric_C)
            del centred_RC  # before the next block is made
            first += width(block)
        force_norm = float(self.world.sum(force_squared).sqrt())
        return self.world.sum(gram_RR), self.world.sum(overlap_R), force_norm

    def _columns(self, batch: Batch, block: Block) -> Tensor:
        """This rank's columns of the block for all ranks' samples, centred, in float64."""
        own_rows = derivatives(
            self.network,
            block,
            batch.occupied_WM,
            parts=batch.parts,
            samples_at_once=self.samples_at_once,
            memory_bytes=self.memory_bytes,
        )
        rows_RC = self.world.exchange(own_rows)
        del own_rows
        return centre_(rows_RC.double(), batch.root_R, batch.null_RK)

    def _metric_and_momentum(self, rule: NaturalStep) -> tuple[Tensor, Tensor]:
        """D and phi of all parameters, flat, in float64; tells the rule how far v is from normalised."""
        count = sum(parameter.numel() for parameter in self.network.parameters())
        momentum_P = torch.zeros(count, dtype=torch.float64, device=self.world.device)
        if rule.momentum:
            momentum_P = _flat(self.engine.optimizer_state("phi"))
        if rule.variance_decay is None:
            return torch.ones_like(momentum_P), momentum_P
        variance_P = _flat(self.engine.optimizer_state("v"))
        norm = float(torch.linalg.vector_norm(variance_P))
        if not norm:  # before the first step
            return march_metric(torch.ones_like(variance_P)), momentum_P
        rule.variance_scale = math.sqrt(count) / norm
        return march_metric(normalised_variance(variance_P, rule.variance_scale)), momentum_P

    def _apply(self, batch: Batch, coefficient_R: Tensor, learning_rate: float) -> float:
        """Takes the step whose gradient is O^T coefficient over all ranks; returns that gradient's norm."""
        self.engine.set_learning_rate(learning_rate)
        # The engine averages gradients over ranks; here they are parts of one sum.
        own_KW = self.world.size * batch.own(coefficient_R, self.world.rank)
        self.engine.backward(self.engine(batch.occupied_WM, own_KW))
        return self.engine.step()

    def state_dict(self) -> LearnerState:
        return self.engine.state_dict()

    def load_state_dict(self, state: LearnerState) -> None:
        self.engine.load_state_dict(state)

    def weights(self) -> dict[str, Tensor]:
        """The network's weights by the names it gives them; called on every rank."""
        return {name.removeprefix("network."): value for name, value in self.engine.weights().items()}


def _padded(values_W: Tensor, missing: int) -> Tensor:
    return torch.cat([values_W, values_W.new_zeros(missing)])


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().reshape(-1).double() for tensor in tensors])
