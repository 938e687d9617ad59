"""Noise that belongs to a number: image 7 has the same one whoever makes it, and beside whichever others."""

# B images   C channels   H height   W width

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def noise_of(
    numbers: Sequence[int] | np.ndarray, shape: tuple[int, ...], seed: tuple[int, ...], device: torch.device
) -> Tensor:
    """Standard normal noise of each number, [B, *shape], float32, drawn on the device.

    A CPU and a GPU draw different noise.
    """
    noise_BCHW = torch.empty(len(numbers), *shape, device=device)
    generator = torch.Generator(device=device)
    for place, number in enumerate(numbers):
        generator.manual_seed(seed_of(*seed, int(number)))
        noise_BCHW[place].normal_(generator=generator)
    return noise_BCHW


def seed_of(*entropy: int) -> int:
    """One seed of several numbers, well mixed."""
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1))
