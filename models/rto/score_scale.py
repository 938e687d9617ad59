"""How scores lie over the responses of a set of pairs: what they are normalised by."""

# B pairs

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from models.rto.ragged import Ragged


def measure_scores(scores_B2: Tensor, prompts: Ragged) -> dict[str, float]:
    """Mean, standard deviation and pooled standard deviation within a prompt of the scores of pairs.

        scale_within_prompt^2 = sum over prompts p and their scores of (score - mean of p)^2 / (scores - prompts)

    Pairs of one prompt are taken together. Pairs fix no offset of a prompt: between prompts scores may differ by more
    than within one, which is all that a policy can change.
    """
    names = [prompt.tobytes() for prompt in prompts]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    prompt_of_score = np.repeat([numbers[name] for name in names], 2)
    scores = scores_B2.detach().double().cpu().numpy().reshape(-1)
    counts = np.bincount(prompt_of_score)
    means = np.bincount(prompt_of_score, weights=scores) / counts
    within = ((scores - means[prompt_of_score]) ** 2).sum() / (len(scores) - len(counts))
    return {
        "mean": float(scores.mean()),
        "scale": float(scores.std()),
        "scale_within_prompt": float(np.sqrt(within)),
    }


def score_weights(measured: dict[str, float]) -> dict[str, Tensor]:
    """The same as weights, to be published with a reward model's own: 'score.NAME'."""
    return {f"score.{name}": torch.tensor([value], dtype=torch.float32) for name, value in measured.items()}
