"""A diagnosis that can be read: a logistic regression of what probes say of each descriptor, monotone in suspicion.

TAILOR's rule of combination is not published; this is one that a reader can check line by line.
"""

# N images   P columns of the regression   A attributes   V values of an attribute

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, softmax

from models.busgen.images.descriptors import DESCRIPTORS
from models.busgen.tailor_config import CombinationConfig
from models.common.errors import DataError, TrainingError

OVERALL = "overall"  # the attribute of the classifier's own logit

# +1: makes cancer likelier than the descriptor's first value does, -1: less likely; a value not listed may do either.
# As the BI-RADS atlas groups them (ACR, 5th edition), the first value being the least suspicious one.
SUSPICION: dict[str, dict[str, int]] = {
    "shape": {"irregular": 1},
    "orientation": {"not_parallel": 1},
    "margin": {"indistinct": 1, "microlobulated": 1, "angular": 1, "spiculated": 1},
    "echo_pattern": {"hypoechoic": 1, "complex": 1, "heterogeneous": 1},
    "posterior": {"enhancement": -1, "shadowing": 1},
    "calcifications": {"in_mass": 1, "intraductal": 1},
    "halo": {"present": 1},
}


@dataclass(frozen=True)
class Column:
    """One column: the probability that a probe gives this value, or the overall logit, which has no value."""

    attribute: str
    value: str = ""

    @property
    def sign(self) -> int:
        """+1: its weight may not be negative, -1: not positive, 0: anything."""
        return 1 if self.attribute == OVERALL else SUSPICION[self.attribute].get(self.value, 0)


@dataclass(frozen=True)
class Explanation:
    """How a case's logit comes about: baseline + sum of contributions = logit.

    baseline: of a case with the mean of every column over the images that the combination was fitted on.
    """

    logit: float
    baseline: float
    contributions: dict[str, float]


@dataclass(frozen=True)
class Combination:
    """logit = intercept + sum_p w_p x_p."""

    columns: tuple[Column, ...]
    weights_P: np.ndarray
    intercept: float
    means_P: np.ndarray  # of the columns over the images it was fitted on

    def logits(self, logits: Mapping[str, np.ndarray]) -> np.ndarray:
        """The diagnosis of each image, [N], from the logits of the classifier's heads."""
        return self.intercept + design_of(logits, self.columns) @ self.weights_P

    def explain(self, logits: Mapping[str, np.ndarray]) -> list[Explanation]:
        """For each image what each attribute adds, against an image that is average in it."""
        parts_NP = (design_of(logits, self.columns) - self.means_P) * self.weights_P
        baseline = float(self.intercept + self.means_P @ self.weights_P)
        attributes = list(dict.fromkeys(column.attribute for column in self.columns))
        of_attribute = {
            name: parts_NP[:, [column.attribute == name for column in self.columns]].sum(axis=1) for name in attributes
        }
        return [
            Explanation(
                baseline + float(parts_NP[row].sum()),
                baseline,
                {name: float(values[row]) for name, values in of_attribute.items()},
            )
            for row in range(len(parts_NP))
        ]


def columns_of(attributes: tuple[str, ...], *, overall: bool) -> tuple[Column, ...]:
    """A column for each value but the first of each attribute, which the others are compared with."""
    values = tuple(Column(name, value) for name in attributes for value in DESCRIPTORS[name][1:])
    return (Column(OVERALL), *values) if overall else values


def design_of(logits: Mapping[str, np.ndarray], columns: tuple[Column, ...]) -> np.ndarray:
    """[N, P]: what the heads say, as the columns have it. logits: [N] of the head 'label', [N, V] of descriptors."""
    of_head = {column.attribute: "label" if column.attribute == OVERALL else column.attribute for column in columns}
    if missing := [head for head in of_head.values() if head not in logits]:
        raise DataError(f"the classifier has no head '{missing[0]}'\nhas: {', '.join(logits)}\ntrain it with that head")
    probabilities = {name: softmax(logits[name], axis=1) for name in of_head if name != OVERALL}
    return np.stack(
        [
            logits["label"]
            if column.attribute == OVERALL
            else probabilities[column.attribute][:, DESCRIPTORS[column.attribute].index(column.value)]
            for column in columns
        ],
        axis=1,
    ).astype(np.float64)


def fit_combination(
    logits: Mapping[str, np.ndarray], positive_N: np.ndarray, attributes: tuple[str, ...], config: CombinationConfig
) -> Combination:
    """The combination fitted to these images, which the probes must not have learnt from.

    attributes: descriptors that the classifier has heads of.
    """
    columns = columns_of(attributes, overall=config.overall)
    design_NP = design_of(logits, columns)
    signs_P = np.array([column.sign if config.monotone else 0 for column in columns])
    weights_P, intercept = fit_logistic(design_NP, positive_N, signs_P, config.ridge)
    return Combination(columns, weights_P, intercept, design_NP.mean(axis=0))


def fit_logistic(
    design_NP: np.ndarray, positive_N: np.ndarray, signs_P: np.ndarray, ridge: float
) -> tuple[np.ndarray, float]:
    """The weights and intercept with the least loss, among weights whose signs are as asked (0: any).

        L = mean_n log(1 + exp(-y_n (w x_n + b))) + ridge/2 |w|^2,   y = 1 or -1

    L is convex and so is what the signs allow: there is one minimum. The intercept is free.
    """
    positive_N = np.asarray(positive_N, bool)
    if positive_N.all() or not positive_N.any():
        raise DataError(f"all {len(positive_N)} images are of one label; a combination is fitted to both")
    sided_N = np.where(positive_N, 1.0, -1.0)
    design_NQ = np.concatenate([design_NP, np.ones((len(design_NP), 1))], axis=1)
    weighs_Q = np.append(np.full(design_NP.shape[1], ridge), 0.0)

    def loss(weights_Q: np.ndarray) -> tuple[float, np.ndarray]:
        margin_N = sided_N * (design_NQ @ weights_Q)
        value = np.logaddexp(0.0, -margin_N).mean() + 0.5 * (weighs_Q * weights_Q**2).sum()
        slope_Q = -(sided_N * expit(-margin_N)) @ design_NQ / len(margin_N) + weighs_Q * weights_Q
        return float(value), slope_Q

    bounds = [(0.0 if sign > 0 else None, 0.0 if sign < 0 else None) for sign in signs_P] + [(None, None)]
    start_Q = np.zeros(design_NQ.shape[1])
    settings = {"maxiter": 10_000, "maxfun": 100_000, "ftol": 1e-15, "gtol": 1e-9, "maxcor": 30}
    found = minimize(loss, start_Q, jac=True, method="L-BFGS-B", bounds=bounds, options=settings)
    if not np.isfinite(found.fun):
        raise TrainingError(f"the combination's loss is {found.fun}\nlook at the classifier's logits")
    return found.x[:-1], float(found.x[-1])
