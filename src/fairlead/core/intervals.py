"""Confidence intervals of rates, their differences and their ratios, right for small groups too."""

from math import inf, sqrt
from statistics import NormalDist

__all__ = ["mover_difference", "mover_ratio", "newcombe", "wilson", "z_score"]

Interval = tuple[float, float]


def z_score(level: float) -> float:
    """The two-sided normal quantile: 1.96 for level 0.95."""
    return NormalDist().inv_cdf((1 + level) / 2)


def wilson(k: float, n: float, level: float = 0.95) -> Interval:
    """Score interval of the rate k / n (Wilson 1927); (0, 1) when nothing was seen.

    (p + z^2/2n -+ z sqrt(p q / n + z^2 / 4 n^2)) / (1 + z^2 / n).
    """
    if n <= 0:
        return 0.0, 1.0
    z, p = z_score(level), k / n
    middle = p + z * z / (2 * n)
    half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if k <= 0 else max(0.0, (middle - half) / scale)
    high = 1.0 if k >= n else min(1.0, (middle + half) / scale)
    return low, high


def newcombe(a: tuple[float, float], b: tuple[float, float], level: float = 0.95) -> Interval:
    """Interval of the difference of two rates a - b, each (k, n) (Newcombe 1998, method 10).

    d -+ square root of the summed squares of the half-widths of the two Wilson intervals.
    (-1, 1) when one of the groups is empty.
    """
    if a[1] <= 0 or b[1] <= 0:
        return -1.0, 1.0
    (k, n), (j, m) = a, b
    return mover_difference((k / n, *wilson(k, n, level)), (j / m, *wilson(j, m, level)))


def mover_difference(a: tuple[float, float, float], b: tuple[float, float, float]) -> Interval:
    """Interval of a - b, each (value, low, high) (MOVER, Zou, Donner 2008; of Wilson's: Newcombe's)."""
    (p, la, ua), (q, lb, ub) = a, b
    return p - q - sqrt((p - la) ** 2 + (ub - q) ** 2), p - q + sqrt((ua - p) ** 2 + (q - lb) ** 2)


def mover_ratio(a: tuple[float, float, float], b: tuple[float, float, float]) -> Interval:
    """Interval of a / b, each (value, low, high) of something that is never negative.

    MOVER-R (Donner, Zou 2012), written so that no finite end divides by zero. The upper end is
    infinite when b may be 0; a value of b of 0 says nothing: (0, infinity).
    """
    (x, xl, xu), (y, yl, yu) = a, b
    if y <= 0:
        return 0.0, inf
    xl, yl = max(xl, 0.0), max(yl, 0.0)
    product = x * y
    below = xl * (2 * x - xl)
    spread = sqrt(max(product**2 - below * yu * (2 * y - yu), 0.0))
    low = 0.0 if below <= 0 else below / (product + spread)
    floor = yl * (2 * y - yl)
    if floor <= 0:
        return low, inf
    spread = sqrt(max(product**2 - xu * (2 * x - xu) * floor, 0.0))
    return low, (product + spread) / floor
