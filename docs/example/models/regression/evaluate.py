"""How far descent came, measured where neither it nor the closed form has been."""

# N points   D dimensions   K = D + 1 coefficients, the intercept last

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.common.report import Gate, Report, Table
from models.common.weights import load_weights
from models.regression.batches import read_points


def least_squares(x_ND: NDArray[np.float32], y_N: NDArray[np.float32]) -> NDArray[np.float64]:
    """[w, b] = (X^T X)^-1 X^T y: the coefficients (K) of least squared error on these points (Legendre 1805)."""
    return np.linalg.lstsq(_with_ones(x_ND), y_N.astype(np.float64), rcond=None)[0]


def held_out_error(model: str, inputs: Mapping[str, Path]) -> float:
    """The model's mean squared error on the held-out points."""
    if model == "closed form":
        coefficients_K = least_squares(*read_points(inputs["points"], "train"))
    else:
        weights = load_weights(inputs["fit"])
        coefficients_K = np.concatenate([weights["weight"].numpy()[0], weights["bias"].numpy()]).astype(np.float64)
    x_ND, y_N = read_points(inputs["points"], "held_out")
    return float(np.square(_with_ones(x_ND) @ coefficients_K - y_N).mean())


def report_on(descent: float, closed_form: float, most_excess: float) -> Report:
    """The report on both errors, with the gate that descent has to pass."""
    excess = descent / closed_form - 1.0
    return Report(
        workload="regression",
        title="Regression: descent and closed form",
        summary=f"Descent ends {excess:.2%} above the closed form's squared error on held-out points.",
        metrics={"descent": descent, "closed_form": closed_form, "excess": excess},
        gates=(Gate(name="error above the closed form's", value=100 * excess, at_most=100 * most_excess, unit=" %"),),
        headline=Table(
            title="Mean squared error on held-out points",
            columns=("model", "error"),
            rows=(("descent", f"{descent:.4f}"), ("closed form", f"{closed_form:.4f}")),
        ),
    )


def _with_ones(x_ND: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.column_stack([x_ND, np.ones(len(x_ND))]).astype(np.float64)
