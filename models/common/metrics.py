"""Error bars of measured shares."""

import math
from collections.abc import Sequence


def wilson_interval(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """The interval that a share lies in, 95 % unless `z` says otherwise (Wilson 1927).

        (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)

    Unlike p -+ z sqrt(p(1-p)/n) it stays within 0 and 1, and has a width at p = 0 and p = 1.
    """
    assert trials > 0, "a share of nothing has no interval"
    assert 0 <= successes <= trials, f"{successes} of {trials} is no share"
    p = successes / trials
    middle = p + z * z / (2 * trials)
    half = z * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """The mean of independent values, and the ends of Student's interval for it; one value has no width.

    mean -+ t s / sqrt(n),   s^2 = sum (value - mean)^2 / (n - 1)
    """
    assert values, "no values have no mean"
    mean = sum(values) / len(values)
    if len(values) == 1:
        return mean, mean, mean
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    half = student_quantile(0.5 + confidence / 2, len(values) - 1) * math.sqrt(variance / len(values))
    return mean, mean - half, mean + half


def student_quantile(probability: float, degrees_of_freedom: int) -> float:
    """The value that Student's t stays below with this probability, at least one half, by bisection."""
    assert 0.5 <= probability < 1, f"{probability} is no probability from one half up to 1"
    low, high = 0.0, 1.0
    while _student_inside(high, degrees_of_freedom) < 2 * probability - 1:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        if _student_inside(middle, degrees_of_freedom) < 2 * probability - 1:
            low = middle
        else:
            high = middle
    return high


def _student_inside(t: float, degrees_of_freedom: int) -> float:
    """P(|T| < t) (Abramowitz and Stegun 1964, eq. 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(degrees_of_freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees_of_freedom % 2
    term = cosine if odd else 1.0
    total = 0.0
    for place in range((degrees_of_freedom - odd) // 2):
        total += term
        # cos, 2/3 cos^3, 2.4/3.5 cos^5 ...   or   1, 1/2 cos^2, 1.3/2.4 cos^4 ...
        term *= cosine**2 * (2 * place + 1 + odd) / (2 * place + 2 + odd)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
