"""What teacher and student do alike in a step: moving a batch, adding up what is told of it, seeding dropout."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.common.contract import World
from models.common.errors import ConfigError
from models.relay.config import TrainingConfig
from models.relay.mixing import least_rows


class Tally:
    """Sums over the buckets of a batch, to be averaged over ranks all at once."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor | float] = {}

    def add(self, **values: Tensor | float) -> None:
        for name, value in values.items():
            told = value.detach().float() if isinstance(value, Tensor) else float(value)
            self.sums[name] = self.sums.get(name, 0.0) + told

    def means(self, world: World) -> dict[str, float]:
        """Each sum, as its mean over ranks."""
        values = torch.stack([torch.as_tensor(value, device=world.device).float() for value in self.sums.values()])
        return dict(zip(self.sums, world.mean(values).tolist(), strict=True))


def on_device(values: NDArray[Any], device: torch.device) -> Tensor:
    """The array as a tensor; tokens become what an embedding takes."""
    if values.dtype == np.uint16:
        values = values.astype(np.int64)
    return torch.from_numpy(np.ascontiguousarray(values)).to(device)


def seed_dropout(dropout: float, stream: int, step: int, world: World) -> None:
    """Makes this step's dropout a function of seed, step and rank, so that a resumed training drops what it would have.

    Nothing else in a step is drawn by torch.
    """
    if dropout:
        # From 1 on: numpy takes a 0 at the end for nothing, which would be the stream that draws the batch.
        seeds = np.random.SeedSequence([world.seed, stream, step, 1 + world.rank]).generate_state(1, np.uint64)
        torch.manual_seed(int(seeds[0] >> 1))


def require_rows(config: TrainingConfig, world: World) -> None:
    """Raises ConfigError where a bucket of the batch has fewer rows than there are workers."""
    rows = least_rows(config.batch_size, config.mix.buckets)
    if rows < world.size:
        fits = max(1, config.batch_size // (2 * world.size))
        raise ConfigError(
            f"batch_size {config.batch_size} in {config.mix.buckets} buckets leaves some of them {rows} rows for "
            f"{world.size} workers\nfits: at most mix.buckets={fits}"
        )
