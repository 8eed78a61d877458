"""Amounts: money per unit, whose tail is too heavy for an exact test, compared between two arms.

A few units spend most of the money, so no test of unbounded values is exact. Two things help
(statistics.md 4): amounts are cut off at a cap frozen before the release, and the interval is
tuned to the number of units that is planned. It is right in the limit; hence FEWEST.
"""

from collections.abc import Sequence
from math import erfc, log, pi, sqrt

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike

__all__ = ["FEWEST", "Amounts", "amounts", "cap", "gap", "log_e_less"]

FEWEST = 5000
"""Units per arm below which nothing is said: the mean of fewer heavy tails is not yet normal."""


class Amounts(Struct, frozen=True):
    """Sum and sum of squares of the capped amounts of n units; replicas add them."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    def __add__(self, other: "Amounts") -> "Amounts":
        return Amounts(self.n + other.n, self.total + other.total, self.squares + other.squares)


def cap(before: ArrayLike, level: float = 0.999) -> float:
    """The quantile of amounts per unit from which on they count as this much.

    `before`: amounts (n,) of units of the time before the release, of the same length as the
    release's own. It must not depend on what is compared.
    """
    return float(np.quantile(np.asarray(before, dtype=np.float64), level, method="higher"))


def amounts(values: ArrayLike, at_most: float) -> Amounts:
    """Sums of one amount per unit (n,), each cut off at `at_most` (`cap`)."""
    cut = np.minimum(np.asarray(values, dtype=np.float64), at_most)
    return Amounts(len(cut), float(cut.sum()), float((cut * cut).sum()))


def gap(
    candidate: Amounts, baseline: Amounts, *, planned: int, alpha: float = 0.05
) -> tuple[float, float, float] | None:
    """(value, low, high) of candidate mean - baseline mean; None with fewer than FEWEST units.

    Asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas 2021), tightest
    after `planned` units of both arms: with N = n_c + n_t,
    rho^2 = (-2 ln alpha + ln(-2 ln alpha + 1)) / planned and s^2 = N (v_c / n_c + v_t / n_t),
    half-width^2 = s^2 * 2 (N rho^2 + 1) / (N rho)^2 * ln(sqrt(N rho^2 + 1) / alpha).
    Guarantee: the chance that it ever leaves out the difference of the capped means tends to at
    most `alpha`. As `Evidence` of a measure "gain:..." it feeds the rule `NoWorse` at every look.
    """
    if min(candidate.n, baseline.n) < FEWEST:
        return None
    n = candidate.n + baseline.n
    spread = n * (_variance(candidate) / candidate.n + _variance(baseline) / baseline.n)
    rho2 = _pace(alpha, planned)
    growth = n * rho2 + 1
    half = sqrt(spread * 2 * growth / (n * n * rho2) * log(sqrt(growth) / alpha))
    value = candidate.total / candidate.n - baseline.total / baseline.n
    return value, value - half, value + half


def log_e_less(
    strata: Sequence[tuple[Amounts, Amounts]], *, planned: int, ratio: float = 1.0
) -> float:
    """Evidence that the first arm's mean is less than `ratio` times the second's.

    `strata`: (first, second) per span of time in which the shares stood still, so that both arms
    of a pair are equally old; each with n >= 2. With d = mean_1 - ratio mean_2 and its variance v
    in each, weights w = n_1 n_2 / (n_1 + n_2), D = sum(w d) / sum(w), V = sum(w^2 v) / sum(w)^2,
    N units in all and Z = D sqrt(N / V) (a sum of N terms of variance 1 when nothing differs),
    E = 2 exp(rho^2 Z^2 / (2 g)) Phi(-rho Z / sqrt(g)) / sqrt(g), g = N rho^2 + 1: the half-normal
    mixture (Howard, Ramdas, McAuliffe, Sekhon 2021, one-sided), rho as in `gap`.
    Guarantee: that of `gap`, to one side: right in the limit of many units, at every look.
    """
    found = [(a, b) for a, b in strata if min(a.n, b.n) >= 2]
    weights = [a.n * b.n / (a.n + b.n) for a, b in found]
    whole = sum(weights)
    spread = sum(w * w * (_variance(a) / a.n + ratio * ratio * _variance(b) / b.n)
                 for w, (a, b) in zip(weights, found, strict=True))  # fmt: skip
    if not found or spread <= 0:
        return 0.0
    difference = sum(w * (a.total / a.n - ratio * b.total / b.n)
                     for w, (a, b) in zip(weights, found, strict=True)) / whole  # fmt: skip
    n = sum(a.n + b.n for a, b in found)
    z = difference * sqrt(n / (spread / whole**2))
    rho = sqrt(_pace(0.05, planned))
    growth = n * rho * rho + 1
    tail = -rho * z / sqrt(growth)
    return log(2) + tail * tail / 2 + _log_phi(tail) - log(growth) / 2


def _pace(alpha: float, planned: int) -> float:
    """rho^2 of the mixture that is tightest after `planned` units."""
    return (-2 * log(alpha) + log(-2 * log(alpha) + 1)) / planned


def _log_phi(x: float) -> float:
    """Logarithm of the normal distribution function, also far out in its lower tail."""
    if x > -30:
        return log(erfc(-x / sqrt(2)) / 2)
    return -x * x / 2 - log(-x) - log(2 * pi) / 2


def _variance(of: Amounts) -> float:
    return max(of.squares - of.total * of.total / of.n, 0.0) / (of.n - 1)
