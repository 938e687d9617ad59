"""Writes what peers make of random inputs, for `tests/models/busgen/statistics/test_peers.py`.

    python3 -m venv VENV && VENV/bin/pip install torch==2.13.0 prdc==0.2 torchmetrics==1.9.0 scikit-learn==1.9.1 \
        scikit-image==0.26.0
    OMP_NUM_THREADS=1 VENV/bin/python benchmarks/busgen_peers.py

The inputs stand beside the results. All are float64, or small integers.
"""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from prdc import compute_prdc
from skimage.feature import graycomatrix, graycoprops
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_auc_score, roc_curve
from torchmetrics.functional.classification import binary_calibration_error, binary_sensitivity_at_specificity
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.kid import poly_mmd

FILE = Path(__file__).resolve().parent.parent / "tests" / "models" / "busgen" / "statistics" / "peers.json"
DIRECTIONS = (0, np.pi / 4, np.pi / 2, 3 * np.pi / 4)


def main() -> None:
    packages = ("torch", "prdc", "torchmetrics", "scikit-learn", "scikit-image", "numpy")
    told = {
        "versions": {name: version(name) for name in packages},
        "sets": sets(np.random.default_rng(0)),
        "scores": scores(np.random.default_rng(1)),
        "images": images(np.random.default_rng(2)),
    }
    FILE.write_text(json.dumps(told) + "\n")


def sets(rng: np.random.Generator) -> dict[str, Any]:
    """Two sets of features that overlap in part."""
    real = rng.standard_normal((48, 5)).round(3)
    generated = (0.8 * rng.standard_normal((40, 5)) + 0.4).round(3)
    as_tensors = [torch.from_numpy(features) for features in (real, generated)]
    moments = [part for features in as_tensors for part in (features.mean(dim=0), features.T.cov())]
    return {
        "real": real.tolist(),
        "generated": generated.tolist(),
        "prdc": {
            str(k): {name: float(share) for name, share in compute_prdc(real, generated, k).items()} for k in (1, 5)
        },
        "frechet": float(_compute_fid(*moments)),
        "kernel": float(poly_mmd(as_tensors[0][:40], as_tensors[1], degree=3)),  # of equal numbers only
    }


def scores(rng: np.random.Generator) -> dict[str, Any]:
    """Probabilities with ties, too sure of themselves."""
    positive = (np.arange(90) % 3 == 0).astype(int)
    logit = 2.0 * positive - 1.5 + 1.8 * rng.standard_normal(90)
    probability = (1 / (1 + np.exp(-logit))).round(2).clip(
        0.01, 0.98
    ) + 0.003  # off the bins' edges, which torchmetrics rounds to float32
    false_rate, true_rate, _ = roc_curve(positive, probability, drop_intermediate=False)
    inputs = np.log(probability / (1 - probability))[:, None]
    line = LogisticRegression(C=np.inf, tol=1e-12, max_iter=10_000).fit(inputs, positive)
    as_tensors = torch.from_numpy(probability), torch.from_numpy(positive)
    return {
        "probability": probability.tolist(),
        "positive": positive.tolist(),
        "auc": float(roc_auc_score(positive, probability)),
        "false_positive_rate": false_rate.tolist(),
        "true_positive_rate": true_rate.tolist(),
        "brier": float(brier_score_loss(positive, probability)),
        "slope": float(line.coef_[0, 0]),
        "intercept": float(line.intercept_[0]),
        "calibration_error_10": float(binary_calibration_error(*as_tensors, n_bins=10, norm="l1")),
        "sensitivity_at_0.8": float(binary_sensitivity_at_specificity(*as_tensors, min_specificity=0.8)[0]),
    }


def images(rng: np.random.Generator) -> dict[str, Any]:
    """Smooth and rough greys; the co-occurrence of 8 levels, over four directions."""
    rough = rng.integers(0, 256, size=(2, 9, 11))
    smooth = (rough.cumsum(axis=1) / np.arange(1, 10)[:, None]).astype(int)
    pixels = np.concatenate([rough, smooth, np.full((1, 9, 11), 77)])
    properties = {name: [] for name in ("contrast", "homogeneity", "energy", "correlation")}
    for image in pixels:
        matrix = graycomatrix((image // 32).astype(np.uint8), [1], DIRECTIONS, levels=8, symmetric=True, normed=True)
        for name, values in properties.items():
            values.append(float(graycoprops(matrix, name).mean()))
    return {"pixels": pixels.tolist(), "levels": 8, **properties}


if __name__ == "__main__":
    main()
