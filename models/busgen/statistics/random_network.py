"""Features of a convolutional network that was never trained: no weights to load, no domain to favour."""

# N, B images   C channels   H height   W width   F features, two for each channel

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.busgen.images.dataset import as_network_input
from models.busgen.statistics.estimate import Array
from models.busgen.statistics_config import RandomNetworkConfig
from models.common.errors import DataError

_KERNEL = 3


class RandomNetwork:
    """Mean and deviation over the image of each channel after each layer; every layer halves the image.

    The weights are numpy's, from the seed, so that they are the same with any version of torch.
    """

    def __init__(self, config: RandomNetworkConfig, device: torch.device | str) -> None:
        self.name = "random" if config.seed == 0 else f"random{config.seed}"
        self.config, self.device = config, device
        rng = np.random.default_rng([config.seed, 0xB05])
        self.layers = [_he_weights(fan, out, rng).to(device) for fan, out in pairwise((1, *config.channels))]

    def features(self, pixels_NHW: np.ndarray, masks_NHW: np.ndarray | None) -> Array:
        """[N, F]; the masks are not looked at."""
        least = 2 ** len(self.layers)
        if min(pixels_NHW.shape[1:]) < least:
            raise DataError(f"images are {pixels_NHW.shape[1:]}\nfits: {least} pixels or more, or fewer channels")
        at_once = self.config.images_at_once
        batches = (pixels_NHW[start : start + at_once] for start in range(0, len(pixels_NHW), at_once))
        return np.concatenate([self._features(batch).double().cpu().numpy() for batch in batches])

    @torch.inference_mode()
    def _features(self, pixels_BHW: np.ndarray) -> Tensor:
        x_BCHW = torch.from_numpy(as_network_input(pixels_BHW)).to(self.device)
        found = []
        for weight in self.layers:
            x_BCHW = F.relu(F.conv2d(F.pad(x_BCHW, (1, 1, 1, 1), mode="replicate"), weight))
            found += [x_BCHW.mean(dim=(2, 3)), x_BCHW.std(dim=(2, 3), correction=0)]
            x_BCHW = F.avg_pool2d(x_BCHW, 2)
        return torch.cat(found, dim=1)


def _he_weights(inputs: int, outputs: int, rng: np.random.Generator) -> Tensor:
    """Normal with variance 2 / fan-in, which keeps the size of what passes through ReLUs (He et al. 2015, eq. 10)."""
    weight = rng.standard_normal((outputs, inputs, _KERNEL, _KERNEL)) * np.sqrt(2 / (inputs * _KERNEL**2))
    return torch.from_numpy(weight.astype(np.float32))
