"""Which noise levels a training sees: the inverse distribution function of each law, at uniform numbers."""

# B images

from __future__ import annotations

import numpy as np
import torch
from scipy.special import expit, ndtri

from models.busgen.diffusion.paths import VariancePreservingChain
from models.busgen.diffusion_config import FlowLevels, LognormalLevels, VpLevels


def stratified_uniforms(count: int, random: np.random.Generator) -> np.ndarray:
    """Uniform numbers, one in each of `count` equal parts, in random order.

    Each alone is uniform; together they cover all levels in every batch, which makes the loss less noisy (Kingma et
    al. 2021, appendix I.1).
    """
    return (random.permutation(count) + random.random(count)) / count


def draw_levels(levels: LognormalLevels | VpLevels | FlowLevels, uniform_B: np.ndarray) -> np.ndarray:
    """s of each uniform number, [B]: the law's quantiles.

    Those of levels of kind "optimal" are `models.busgen.optimal.schedule.AdaptiveSchedule`'s.
    """
    inside_B = np.clip(uniform_B, 1e-7, 1.0 - 1e-7)
    if levels.kind == "lognormal":
        return _lognormal(levels, inside_B)
    return _chain(levels, inside_B) if levels.kind == "vp" else _flow(levels, inside_B)


def _lognormal(levels: LognormalLevels, uniform_B: np.ndarray) -> np.ndarray:
    return np.exp(levels.mean + levels.std * ndtri(uniform_B))


def _chain(levels: VpLevels, uniform_B: np.ndarray) -> np.ndarray:
    chain = VariancePreservingChain(levels.steps, levels.beta_first, levels.beta_last)
    return chain.levels_T[torch.from_numpy((uniform_B * levels.steps).astype(np.int64))].numpy()


def _flow(levels: FlowLevels, uniform_B: np.ndarray) -> np.ndarray:
    t_B = uniform_B if levels.draw == "uniform" else expit(levels.mean + levels.std * ndtri(uniform_B))
    return t_B / (1.0 - t_B)
