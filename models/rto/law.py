"""Random laws of tokens, and drawing from them, the same on every machine."""

# ... any leading axes   K outcomes

import numpy as np
from numpy.typing import NDArray

_GRAIN = 2.0**30  # probabilities are multiples of 1 / _GRAIN: sums are exact, and a last digit of exp changes nothing


def random_law(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> NDArray[np.float64]:
    """Probabilities along the last axis: a softmax of independent normal logits of this standard deviation."""
    logits = scale * rng.standard_normal(shape)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    cumulative = np.rint(np.cumsum(weights, axis=-1) / weights.sum(axis=-1, keepdims=True) * _GRAIN) / _GRAIN
    return np.diff(cumulative, axis=-1, prepend=0.0)


def draw(law_K: NDArray[np.float64], uniform: NDArray[np.float64]) -> NDArray[np.int32]:
    """The outcome at each uniform number, by the inverse of the cumulative law; leading axes agree."""
    return (uniform[..., None] >= np.cumsum(law_K, axis=-1)).sum(axis=-1).astype(np.int32)
