"""Error bars of measured shares."""

import math


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
