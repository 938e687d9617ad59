"""What stops a training that has gone wrong, and what is tried before: chains, energy, parameters.

G groups of walkers   S steps of the window
"""

from collections import deque
from typing import Any

import numpy as np

from models.common.errors import TrainingError
from models.nqs.config import GuardConfig, SamplerConfig
from models.nqs.diagnostics import group_means, r_hat

GROUPS = 8  # of walkers with consecutive numbers, compared with each other
_MOST_FACTOR = 8  # times the proposals that a step was given
_FEWEST_STEPS = 4  # halves of two steps each are the least that can differ
_LEAST_ALPHA, _ALPHA_STEP = 0.5, 0.25


class ChainWatch:
    """Looks after the chains: more proposals where they hardly move, another density where few of them count.

    `factor` multiplies the proposals of a step, `alpha` is the exponent of the sampled density |psi|^alpha. Chains that
    stay bad for `patience` steps stop the training.
    """

    def __init__(self, config: SamplerConfig) -> None:
        self.config = config
        self.factor = 1
        self.alpha = config.alpha
        self.bad_steps = 0
        self.since_remedy = 0

    def take(self, step: int, acceptance: float, effective_share: float, unique_share: float) -> None:
        """Judges a step's chains, applies a remedy where one is due; raises TrainingError when none has helped."""
        config = self.config
        faults = [
            f"{name} {value:.3g}, which should be {least:g} or more"
            for name, value, least in (
                ("acceptance", acceptance, config.least_acceptance),
                ("effective share of the samples", effective_share, config.least_effective),
                ("share of different samples", unique_share, config.least_unique),
            )
            if value < least
        ]
        self.since_remedy += 1
        if not faults:
            self.bad_steps = 0
            return
        self.bad_steps += 1
        if self.bad_steps > config.patience:
            raise TrainingError(
                f"the Markov chains have been frozen for {config.patience} steps, at step {step}: {'; '.join(faults)}\n"
                f"tried: {self.factor} times the proposals, alpha {self.alpha:g}\n"
                "try more walkers (training.batch_size), moves that include 'swap', or a smaller step norm"
            )
        if self.since_remedy > config.patience // 4:
            self._remedy(acceptance, effective_share, unique_share)

    def _remedy(self, acceptance: float, effective_share: float, unique_share: float) -> None:
        self.since_remedy = 0
        if acceptance < self.config.least_acceptance:
            self.factor = min(_MOST_FACTOR, 2 * self.factor)
        if effective_share < self.config.least_effective:  # the weights |psi|^(2-alpha) are too uneven
            self.alpha = min(2.0, self.alpha + _ALPHA_STEP)
        elif unique_share < self.config.least_unique:  # the density is too peaked
            self.alpha = max(_LEAST_ALPHA, self.alpha - _ALPHA_STEP)

    def state_dict(self) -> dict[str, Any]:
        return {
            "factor": self.factor,
            "alpha": self.alpha,
            "bad_steps": self.bad_steps,
            "since_remedy": self.since_remedy,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.factor, self.alpha = state["factor"], state["alpha"]
        self.bad_steps, self.since_remedy = state["bad_steps"], state["since_remedy"]


class EnergyGuard:
    """Stops a training whose energy lies below a lower bound of the ground state's: its samples are then not fair."""

    def __init__(self, config: GuardConfig, lower_bound: float) -> None:
        self.config = config
        self.lower_bound = lower_bound
        self.energies: deque[float] = deque(maxlen=config.window)
        self.variances_of_mean: deque[float] = deque(maxlen=config.window)

    def take(self, step: int, energy: float, error: float) -> None:
        """Judges the window that ends with this step; raises TrainingError."""
        self.energies.append(energy)
        self.variances_of_mean.append(error**2)
        if len(self.energies) < self.config.window:
            return
        mean = float(np.mean(self.energies))
        # Steps share their walkers: the error of the window is taken as large as that of one step.
        error = float(np.sqrt(np.mean(self.variances_of_mean)))
        if mean < self.lower_bound - self.config.below_bound * error - 1e-9 * abs(self.lower_bound):
            raise TrainingError(
                f"step {step}: the energy {mean:.6f} +- {error:.6f} lies below {self.lower_bound:.6f}, which no state "
                f"can do\nthe chains do not sample the state: acceptance, R-hat and the effective samples say how\n"
                "try more proposals (training.sampler.proposals_per_site), more walkers, or alpha closer to 1"
            )

    def state_dict(self) -> dict[str, Any]:
        return {"energies": list(self.energies), "variances_of_mean": list(self.variances_of_mean)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.energies.extend(state["energies"])
        self.variances_of_mean.extend(state["variances_of_mean"])


class GroupMixing:
    """Whether groups of walkers agree: split R-hat of their energies over a window, common drift taken out.

    The parameters move, and with them all energies; what is compared is each group's difference from the mean.
    """

    def __init__(self, window: int) -> None:
        self.deviations: deque[list[float]] = deque(maxlen=window)

    def take(self, energies_W: np.ndarray) -> float:
        """R-hat of the window that ends with these energies of all walkers; 1.0 until there are enough steps."""
        means_G = group_means(energies_W[None], min(GROUPS, len(energies_W)))[0]
        self.deviations.append((means_G - means_G.mean()).tolist())
        if len(self.deviations) < _FEWEST_STEPS or len(means_G) < 2:
            return 1.0
        return r_hat(np.array(self.deviations))

    def state_dict(self) -> dict[str, Any]:
        return {"deviations": list(self.deviations)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.deviations.extend(state["deviations"])


def require_steady_norm(step: int, norm: float, first_norm: float, most_growth: float) -> None:
    """Raises TrainingError where the parameters have grown beyond all measure."""
    if not norm <= most_growth * first_norm:
        raise TrainingError(
            f"step {step}: the norm of the parameters is {norm:.3g}, {norm / first_norm:.3g} times what it began with\n"
            f"fits: up to {most_growth:g} times\ntry a smaller step norm or a larger damping"
        )
