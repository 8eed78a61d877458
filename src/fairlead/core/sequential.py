"""Sequential tests: decisions on live traffic that stay right however often somebody looks.

Every `log_e_*` is the natural logarithm of an e-process: under its null hypothesis the expected
value of ``exp(log_e)`` never exceeds 1, so by Ville's inequality the chance that it EVER reaches
``log(1 / alpha)`` is at most alpha (Ville 1939; Ramdas, Grünwald, Vovk, Shafer 2023). Each is a pure
function of counters: replicas add their counters and every poll may read.
"""

from collections.abc import Callable, Sequence
from math import exp, inf, lgamma, log
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Window", "alternatives", "culprits", "log_e_above", "log_e_below", "log_e_discordant", "log_e_harm",
           "log_e_mean_above", "log_e_mean_below", "log_e_mismatch", "log_e_safe", "log_mean",
           "mean_interval", "rate_interval", "ratio_interval"]  # fmt: skip

Window = tuple[int, int, int, int]
"""Candidate events, candidate n, baseline events, baseline n, of one window of time."""

Vector = NDArray[np.float64]

_TINY = 1e-12


def _normal(grid: Vector, center: float, sd: float) -> Vector:
    """Logarithms of weights that sum to 1, bell-shaped around `center`."""
    weights = np.exp(-0.5 * ((grid - center) / sd) ** 2)
    return np.asarray(np.log(weights / weights.sum()), dtype=np.float64)


def _log_sum(values: Vector) -> float:
    top = float(values.max())
    return top if top == -inf else top + float(np.log(np.exp(values - top).sum()))


_UP = np.linspace(log(1.05), log(20.0), 40)
_UP_WEIGHT = _normal(_UP, log(2.0), 1.0)
_GROSS = np.linspace(log(25.0), log(200.0), 8)
_HARM = np.concatenate([_UP, _GROSS])
_HARM_WEIGHT = np.log(np.concatenate([0.9 * np.exp(_UP_WEIGHT), np.full(8, 0.1 / 8)]))
"""Nine bets in ten on ratios around 2, one in ten on gross harm: where the candidate has a small
share, the first two failures convict it if both are its own. It costs slight harm a 50th more."""

_DOWN = np.linspace(log(1 / 3), log(0.97), 30)
_ANY = np.geomspace(0.002, 3.0, 40)
_ANY_WEIGHT = np.full(40, -log(40))
_ODDS_DOWN = np.linspace(log(0.01), log(0.97), 40)
_BETS = np.geomspace(0.002, 0.9, 12)
_BETS_WEIGHT = np.log(np.sqrt(_BETS) / np.sqrt(_BETS).sum())
_ODDS_DOWN_WEIGHT = np.full(40, -log(40))


def alternatives(
    kind: Literal["harm", "safe", "below"], exclude: float = 2.0
) -> tuple[Vector, Vector]:
    """What `log_e_harm`, `log_e_safe` or `log_e_below` mix: logarithms of ratios (of odds for
    "below") relative to the bound, and of their weights. For those who compute many at once."""
    if kind == "harm":
        return _HARM, _HARM_WEIGHT
    if kind == "safe":
        return _DOWN, _normal(_DOWN, -log(exclude), 0.35)
    return _ODDS_DOWN, _ODDS_DOWN_WEIGHT


def log_e_harm(windows: Sequence[Window], ratio: float = 1.0) -> float:
    """Evidence that the candidate's event rate exceeds `ratio` times the baseline's.

    Null: in every window, rate of the candidate <= `ratio` * rate of the baseline; the rates
    themselves may be anything and change from window to window (an incident that hits both arms
    is no evidence). Windows that lack one of the arms say nothing and are skipped.

    Formula (statistics.md 3.1), with the OBSERVED odds o = n_c / n_t of exposure and alternatives
    r > ratio:  E = sum_r weight(r) * prod_windows (r / ratio)^x_c * ((1 + o ratio) / (1 + o r))^(x_c + x_t).

    Guarantee: exact for windows of any size and events of any frequency; the conditional 2x2
    test (statistics.md 3.2) is therefore not needed. Proof: let a, b be the factor of one event
    in the candidate and in the baseline. Given n_c, n_t the expected factor of a window is
    (1 + p_c (a - 1))^n_c (1 + p_t (b - 1))^n_t <= exp(n_c p_c (a - 1) + n_t p_t (b - 1)), and the
    exponent is a positive number times (p_c / ratio - p_t), which is <= 0 under the null. The
    price is power for frequent events: about 1 / (1 - rate) times the fewest requests.
    Exposures must be independent: count one event per unit where units are sticky.
    Events that are delayed: `core.cohort` makes windows of those still at risk.
    """
    return _log_e_share(windows, ratio, _HARM, _HARM_WEIGHT)


def log_e_safe(windows: Sequence[Window], exclude: float) -> float:
    """Evidence that the candidate's event rate stays below `exclude` times the baseline's.

    Null: in every window, rate of the candidate >= `exclude` * rate of the baseline.
    The formula and the proof of `log_e_harm` with alternatives r < `exclude`, weighted around a
    candidate as good as the baseline (statistics.md 3.1, PROMOTE).
    """
    return _log_e_share(windows, exclude, *alternatives("safe", exclude))


def _log_e_share(
    windows: Sequence[Window], ratio: float, steps: Vector, log_weights: Vector
) -> float:
    odds, events, total = _shares(windows)
    return _log_e_odds(odds, events, total, ratio, steps, log_weights)


def _shares(windows: Sequence[Window]) -> tuple[Vector, Vector, float]:
    """Odds of exposure and events of both arms, of windows with both arms and any event."""
    flat = np.array(windows, dtype=np.float64).reshape(-1, 4)
    x_c, n_c, x_t, n_t = flat[(flat[:, 1] > 0) & (flat[:, 3] > 0)].T
    events = x_c + x_t
    some = events > 0
    return n_c[some] / n_t[some], events[some], float(x_c.sum())


def _log_e_odds(
    odds: Vector, events: Vector, total: float, ratio: float, steps: Vector, log_weights: Vector
) -> float:
    if not len(odds):
        return 0.0
    base = float(events @ np.log1p(odds * ratio))
    against = np.array([events @ np.log1p(odds * r) for r in ratio * np.exp(steps)])
    return _log_sum(log_weights + total * steps + base - against)


def ratio_interval(windows: Sequence[Window], alpha: float = 0.05) -> tuple[float, float]:
    """Confidence sequence (low, high) of candidate rate / baseline rate.

    Guarantee: the chance that it ever leaves out a ratio that holds in all windows is at most
    `alpha`. It holds the ratios that neither `log_e_harm` nor its mirror image (arms swapped)
    rejects at alpha / 2; both are monotone in the ratio, so bisection finds the ends.
    """
    odds, events, total = _shares(windows)
    low = _lower_ratio(odds, events, total, alpha / 2)
    upside = _lower_ratio(1 / odds, events, float(events.sum()) - total, alpha / 2)
    return low, inf if upside == 0 else 1 / upside


def _lower_ratio(odds: Vector, events: Vector, total: float, alpha: float) -> float:
    """The smallest ratio that is not rejected; 0 when all are."""

    def rejected(log_ratio: float) -> bool:
        log_e = _log_e_odds(odds, events, total, exp(log_ratio), _ANY, _ANY_WEIGHT)
        return log_e >= log(1 / alpha)

    return exp(_edge(rejected, -20.0, 20.0)) if rejected(-20.0) else 0.0


def _edge(rejected: Callable[[float], bool], low: float, high: float) -> float:
    """Where values from `low` on, which is rejected, cease to be rejected, to a millionth."""
    while high - low > 1e-6 * max(1.0, abs(low)):
        middle = (low + high) / 2
        low, high = (middle, high) if rejected(middle) else (low, middle)
    return low


def rate_interval(counts: Sequence[tuple[int, int]], alpha: float = 0.05) -> tuple[float, float]:
    """Confidence sequence (low, high) of an event rate, from (events, n) per window.

    Guarantee: the chance that it ever leaves out a rate that holds for every exposure is at most
    `alpha`. It holds the bounds that neither `log_e_above` nor `log_e_below`, with alternatives
    near and far, rejects at alpha / 2; both are monotone in the bound.
    """
    misses = [(n - k, n) for k, n in counts]
    return _lower_rate(counts, alpha / 2), 1 - _lower_rate(misses, alpha / 2)


def _lower_rate(counts: Sequence[tuple[int, int]], alpha: float) -> float:
    def rejected(log_odds: float) -> bool:
        p = 1 / (1 + exp(-log_odds))
        return _log_e_rate(counts, p, _ANY, _ANY_WEIGHT) >= log(1 / alpha)

    if not rejected(-25.0):
        return 0.0
    return 1 / (1 + exp(-_edge(rejected, -25.0, 25.0)))


def mean_interval(
    moments: Sequence[tuple[int, float, float]], alpha: float = 0.05
) -> tuple[float, float]:
    """Confidence sequence (low, high) of the mean of values in [0, 1], from (n, sum, sum of
    squares) per window in the order of time.

    Formula: `log_e_mean_above` with c = 1 and m from 1/2 on, so that E = sum_l weight(l)
    exp(l sum(x - mu) - psi(l) sum((x - m)^2)) falls with mu; its mirror image gives the upper end.
    Guarantee: the chance that it ever leaves out the mean is at most `alpha`, exactly.
    """
    n, s, q = np.array(moments, dtype=np.float64).reshape(-1, 3).T
    m = (0.5 + np.cumsum(s) - s) / (1 + np.cumsum(n) - n)
    spread = float((q - 2 * m * s + n * m * m).sum())
    total, seen = float(s.sum()), float(n.sum())
    low = _lower_mean(total, seen, spread, alpha / 2)
    return low, 1 - _lower_mean(seen - total, seen, spread, alpha / 2)


def _lower_mean(total: float, n: float, spread: float, alpha: float) -> float:
    cost = _BETS_WEIGHT + (np.log1p(-_BETS) + _BETS) * spread

    def rejected(mu: float) -> bool:
        return _log_sum(cost + _BETS * (total - n * mu)) >= log(1 / alpha)

    return _edge(rejected, 0.0, 1.0) if rejected(0.0) else 0.0


def log_e_below(counts: Sequence[tuple[int, int]], bound: float) -> float:
    """Evidence that the event rate is below `bound`, from (events, n) per window.

    Null: given the past, each exposure is an event with probability >= `bound`.
    Formula: the likelihood ratio of Bernoulli(q) to Bernoulli(bound), mixed over q < bound.
    Guarantee: exact; the ratio falls with an event, so its mean is largest, and 1, at the bound.
    """
    return _log_e_rate(counts, bound, _ODDS_DOWN, _ODDS_DOWN_WEIGHT)


def log_e_above(counts: Sequence[tuple[int, int]], bound: float) -> float:
    """Evidence that the event rate is above `bound`, from (events, n) per window.

    Null: given the past, each exposure is an event with probability <= `bound`.
    Formula and guarantee: as `log_e_below`, with q > bound.
    """
    return _log_e_rate(counts, bound, _UP, _UP_WEIGHT)


def _log_e_rate(
    counts: Sequence[tuple[int, int]], bound: float, steps: Vector, log_weights: Vector
) -> float:
    """`steps`: logarithms of the odds of the alternatives relative to the odds of the bound."""
    p = min(max(bound, _TINY), 1 - _TINY)
    events = float(sum(k for k, _ in counts))
    n = float(sum(m for _, m in counts))
    return _log_sum(log_weights + events * steps - n * np.log1p(p * np.expm1(steps)))


def log_e_mean_above(moments: Sequence[tuple[int, float, float]], mu: float) -> float:
    """Evidence that values in [0, 1] have a mean above `mu`.

    `moments`: (n, sum, sum of squares) per window, in the order of time. Within a window order
    does not matter, so replicas add their sums.
    Null: given the past, every value has a mean <= `mu`.
    Formula (Howard, Ramdas, McAuliffe, Sekhon 2021; Waudby-Smith, Ramdas 2024, empirical
    Bernstein), with m the mean of earlier windows, c = max(m, mu) and bets 0 < l < 1:
    E = sum_l weight(l) exp(sum(l (x - mu) / c - psi(l) ((x - m) / c)^2)), psi(l) = -ln(1 - l) - l.
    Guarantee: exact. y = (x - m) / c >= -1 gives exp(l y - psi(l) y^2) <= 1 + l y (Fan 2015), and
    with d = (m - mu) / c the expected factor is at most exp(l d) (1 - l d) <= 1. Dividing by c
    doubles the stakes around mu = 1/2 against the usual c = 1. Betting on single values would
    need their order; this needs sums only.
    """
    start = min(max(mu, _TINY), 1.0)
    n, s, q = np.array(moments, dtype=np.float64).reshape(-1, 3).T
    m = (start + np.cumsum(s) - s) / (1 + np.cumsum(n) - n)
    c = np.maximum(m, start)
    gain = float(((s - n * start) / c).sum())
    spread = float(((q - 2 * m * s + n * m * m) / c**2).sum())
    bets = _BETS * gain + (np.log1p(-_BETS) + _BETS) * spread
    return _log_sum(_BETS_WEIGHT + bets)


def log_e_mean_below(moments: Sequence[tuple[int, float, float]], mu: float) -> float:
    """Evidence that values in [0, 1] have a mean below `mu`: `log_e_mean_above` of 1 - x.

    Null: given the past, every value has a mean >= `mu`.
    """
    return log_e_mean_above([(n, n - s, n - 2 * s + q) for n, s, q in moments], 1 - mu)


def log_e_mismatch(counts: Sequence[int], shares: Sequence[float]) -> float:
    """Evidence that traffic is not split as promised (sample-ratio mismatch).

    Null: given the past, each exposure goes to arm i with probability shares[i].
    Formula (Lindon, Malek 2022): Dirichlet(k * shares) mixture of multinomials against the
    promised one, E = B(k shares + counts) / B(k shares) / prod(shares^counts), k = 100.
    Guarantee: exact. Count units, not requests, where units are sticky.
    """
    positive = [max(share, _TINY) for share in shares]
    prior = [100.0 * share / sum(positive) for share in positive]
    log_e = lgamma(sum(prior)) - lgamma(sum(prior) + sum(counts))
    for count, a in zip(counts, prior, strict=True):
        log_e += lgamma(a + count) - lgamma(a) - count * log(a / sum(prior))
    return log_e


def log_e_discordant(wins: int, losses: int) -> float:
    """Evidence that the candidate loses against the baseline on the same requests (shadow).

    `wins`: only the candidate was right; `losses`: only the baseline was right.
    Null: given the past, a discordant pair is a loss with probability <= 1/2.
    Formula: `log_e_harm` at share 1/2, a sequential McNemar test (statistics.md 3.3).
    """
    return log_e_harm([(losses, 1, wins, 1)])


def log_mean(log_es: Sequence[float], weights: Sequence[float] = ()) -> float:
    """Logarithm of the average of e-values: again an e-value, whatever their dependence, as long
    as the `weights` (() for equal ones) are fixed beforehand.

    No other way of merging e-values of unknown dependence is better everywhere (Vovk, Wang 2021).
    """
    if not log_es:
        return 0.0
    shares = np.array(weights or [1.0] * len(log_es), dtype=np.float64)
    return _log_sum(np.array(log_es, dtype=np.float64) + np.log(shares / shares.sum()))


def culprits(
    log_es: Sequence[float], alpha: float, weights: Sequence[float] = ()
) -> list[int]:
    """Which of K e-values to blame: weighted e-BH (Wang, Ramdas 2022), sorted positions.

    The largest i with the i-th largest e-value, each times its weight over the mean weight,
    >= K / (i alpha). Guarantee: false discovery rate <= alpha under any dependence.
    """
    if weights:
        mean = sum(weights) / len(weights)
        log_es = [e + log(w / mean) for e, w in zip(log_es, weights, strict=True)]
    order = sorted(range(len(log_es)), key=lambda i: -log_es[i])
    bar = log(len(log_es) / alpha) if log_es else 0.0
    ok = [i for i in range(1, len(order) + 1) if log_es[order[i - 1]] >= bar - log(i)]
    return sorted(order[: ok[-1]]) if ok else []
