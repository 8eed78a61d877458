"""Drift: how far traffic has moved from its reference, and when that is an alarm."""

from collections.abc import Sequence
from functools import reduce
from math import inf, log, nan, sqrt
from statistics import NormalDist

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import ArrayLike, NDArray

from fairlead.core.intervals import newcombe
from fairlead.core.profile import ColumnProfile, merge
from fairlead.errors import Invalid

__all__ = ["Detector", "Distance", "Margin", "alarms", "breaches", "distance", "js", "psi",
           "psi_noise", "restart", "step", "wasserstein", "watch"]  # fmt: skip

Vector = NDArray[np.float64]

_BETS = ((0.05, 0.95), (0.1, 0.95), (0.2, 0.5))
"""(q, l) of each bet e = 1 - l + l [p <= q] / q: two for shifts that put every window at the end of
the ranking, one for weak ones. Simulated: `make bench-drift`."""


class Distance(Struct, frozen=True, kw_only=True):
    """How far a window lies from its reference.

    `psi`, `js` (bits), `wasserstein` (standard deviations of the reference; NaN for labels);
    `nulls`: change of the share of rows without a value; `unseen`: rise of the share of values
    outside the range, or outside the labels, of the reference.
    """

    psi: float
    js: float
    wasserstein: float
    nulls: float
    unseen: float


class Margin(Struct, frozen=True, kw_only=True):
    """From where on a distance matters, beyond what chance explains."""

    psi: float = 0.1
    nulls: float = 0.05
    unseen: float = 0.05


class Detector(Struct, frozen=True, kw_only=True):
    """State of the drift watch of one column; `watch` makes it, `step` moves it.

    `history`: the statistics of every window so far, the `start` reference windows first.
    `least`: rows that make a window; smaller ones wait in `pending` for more.
    `log_parts`: logarithms of the Shiryaev-Roberts sums, one per bet.
    """

    reference: ColumnProfile
    start: int
    least: int
    history: tuple[tuple[float, ...], ...]
    pending: ColumnProfile | None = None
    log_parts: tuple[float, ...] = ()

    @property
    def log_m(self) -> float:
        """Logarithm of the e-detector M: the average of its parts; -inf before the first window."""
        return float(np.logaddexp.reduce(self.log_parts)) - log(len(self.log_parts) or 1)


def watch(windows: Sequence[ColumnProfile]) -> Detector:
    """A detector for windows that should look like these reference windows.

    All must share edges (numbers) or labels. The windows to come should cover about as many rows:
    30 days of reference for a daily watch, say. (Windows under 0.8 of the median are put together;
    larger ones only make the watch more careful.) Raises Invalid for fewer than two with rows.
    """
    filled = [w for w in windows if w.n]
    if len(filled) < 2:
        raise Invalid(f"{len(filled)} reference windows have rows, a watch needs two",
                      hint="cut the reference into more windows; 30 detect far sooner than 5")  # fmt: skip
    pooled = reduce(merge, filled)
    total, own = _counts(pooled, pooled), [_counts(pooled, w) for w in filled]
    # each reference window against the OTHERS, as a later window is: else it would look too close
    history = tuple(_statistics(total - o, o, w) for o, w in zip(own, filled, strict=True))
    least = round(0.8 * float(np.median([w.n for w in filled])))
    return Detector(reference=pooled, start=len(filled), least=least, history=history)


def step(detector: Detector, window: ColumnProfile) -> Detector:
    """The detector after one more window. A window without rows changes nothing.

    Each statistic of the window is ranked among all windows before it: conformal p-values of both
    sides (of JS the upper one only), ties counted against an alarm. Bets e = 1 - l + l [p <= q] / q
    feed sums M <- (M + 1) e (Shin, Ramdas, Rinaldo 2023; statistics.md 5).
    Null: windows are exchangeable. Then every e has mean <= 1 given the past, and M - t is a
    supermartingale.
    """
    _same_edges(detector.reference, window)
    if not window.n:
        return detector
    if detector.pending is not None:
        window = merge(detector.pending, window)
    if window.n < detector.least:
        return replace(detector, pending=window)
    reference = detector.reference
    today = _statistics(_counts(reference, reference), _counts(reference, window), window)
    past = np.array(detector.history)
    ranks = np.concatenate([(past >= today).sum(axis=0), (past <= today).sum(axis=0)[1:]])
    p = (1 + ranks) / (1 + len(past))
    log_e = np.array([
        np.log(1 - bet + bet * (p <= q + 1e-12) / q)
        for q, bet in ((max(q, 1 / (detector.start + 1)), bet) for q, bet in _BETS)
    ]).ravel()  # fmt: skip
    before = np.logaddexp(detector.log_parts, 0.0) if detector.log_parts else 0.0
    return replace(detector, history=(*detector.history, today), pending=None,
                   log_parts=tuple((before + log_e).tolist()))  # fmt: skip


def restart(detector: Detector) -> Detector:
    """The detector after its alarm was answered: evidence from nothing, all windows remembered."""
    return replace(detector, pending=None, log_parts=())


def alarms(detectors: Sequence[Detector], every: float) -> list[int]:
    """Positions of the detectors that alarm, when one false alarm in `every` windows is accepted.

    M >= K * every for K detectors. Guarantee: the mean number of windows until the first false
    alarm of ANY of them is at least `every`, if windows are exchangeable. Days that depend on
    each other alarm more often (60 columns, daily, a year, 1 accepted: 0 to 2 under weekdays and
    some weather, about 10 when each day inherits half of its movement from the day before). So act on
    an alarm that `breaches` confirms, or watch weeks.
    """
    bar = log(len(detectors) * every) if detectors else inf
    return [i for i, d in enumerate(detectors) if d.log_m >= bar]


def breaches(
    reference: ColumnProfile,
    window: ColumnProfile,
    margin: Margin = Margin(),  # noqa: B008  immutable
) -> list[str]:
    """What of the window matters, in words; [] when the shift is immaterial, or has no rows.

    A detector tells whether a shift is real; this tells whether it is large. Each margin has to be
    passed by more than chance explains 999 times in 1,000 (`psi_noise`, `newcombe`).
    """
    if not window.n or not reference.n:
        return []
    p, q = _counts(reference, reference), _counts(reference, window)
    bar = margin.psi + psi_noise(
        int(np.count_nonzero(p + q)), reference.values, window.values, 0.001
    )
    moved = psi(p, q)
    found = [f"psi {moved:.3f}, above {bar:.3f}"] if moved > bar else []
    for name, (a, m), (b, n), most in (
        ("nulls", (window.nulls, window.n), (reference.nulls, reference.n), margin.nulls),
        ("unseen", _outside(reference, q), _outside(reference, p), margin.unseen),
    ):
        low, high = newcombe((a, m), (b, n), 0.998)
        if low > most or high < -most:
            found.append(f"{name} {b / n:.1%} -> {a / m:.1%}, more than {most:.1%} apart")
    return found


def distance(reference: ColumnProfile, window: ColumnProfile) -> Distance:
    """All distances of a window from its reference (both with rows)."""
    p, q = _counts(reference, reference), _counts(reference, window)
    (a, m), (b, n) = _outside(reference, q), _outside(reference, p)
    unseen = a / (m or 1.0) - b / (n or 1.0)
    return Distance(psi=psi(p, q), js=js(p, q), wasserstein=wasserstein(reference, window),
                    nulls=window.null_rate - reference.null_rate, unseen=unseen)  # fmt: skip


def psi(reference: ArrayLike, window: ArrayLike) -> float:
    """Population stability index of two histograms: sum (q - p) ln(q / p), half a row per bin added."""
    p, q = _smooth(reference), _smooth(window)
    return float(((q - p) * np.log(q / p)).sum())


def js(reference: ArrayLike, window: ArrayLike) -> float:
    """Jensen-Shannon divergence of two histograms in bits, 0 to 1; half a row per bin added."""
    p, q = _smooth(reference), _smooth(window)
    m = (p + q) / 2
    return float(max((p * np.log2(p / m)).sum() + (q * np.log2(q / m)).sum(), 0.0) / 2)


def wasserstein(reference: ColumnProfile, window: ColumnProfile) -> float:
    """Area between the two distribution functions over the standard deviation of the reference.

    From the histograms: values spread evenly inside a bin, and from the last edge to the lowest
    or highest value outside; so it is some 10 % too large where tails are long. NaN for labels, without edges, or without values.
    """
    if not reference.edges or not window.values or not reference.values:
        return nan
    _same_edges(reference, window)
    points = np.array([min(reference.low, window.low, reference.edges[0]), *reference.edges,
                       max(reference.high, window.high, reference.edges[-1])])  # fmt: skip
    gap = np.cumsum(
        np.array(window.bins) / window.values - np.array(reference.bins) / reference.values
    )
    ends = np.abs(np.concatenate([[0.0], gap]))
    area = float(((ends[1:] + ends[:-1]) / 2 * np.diff(points)).sum())
    scale = reference.sd
    return area / scale if scale > 0 else area


def psi_noise(bins: int, n: int, m: int, alpha: float) -> float:
    """The PSI that two samples of n and m rows of one distribution exceed with chance `alpha`.

    chi2 quantile of bins - 1 degrees times (1/n + 1/m), by Wilson, Hilferty 1931.
    """
    if bins < 2 or n < 1 or m < 1:
        return 0.0
    k = bins - 1
    z = NormalDist().inv_cdf(1 - alpha)
    return float(k * max(1 - 2 / (9 * k) + z * sqrt(2 / (9 * k)), 0.0) ** 3 * (1 / n + 1 / m))


def _same_edges(reference: ColumnProfile, window: ColumnProfile) -> None:
    if window.edges != reference.edges:
        raise Invalid(f"the window of {window.name!r} has other edges than its reference",
                      hint="profile it with the edges of the reference")  # fmt: skip


def _counts(reference: ColumnProfile, window: ColumnProfile) -> Vector:
    """The window's histogram on the bins, or the labels, of the reference."""
    if reference.kind == "number":
        _same_edges(reference, window)
        return np.array(window.bins or (window.values,), dtype=np.float64)
    known = [window.labels.get(label, 0) for label in reference.labels]
    return np.array([*known, window.values - sum(known)], dtype=np.float64)


def _outside(reference: ColumnProfile, counts: Vector) -> tuple[float, float]:
    """(values outside the edges, or outside the labels, of the reference; all values)."""
    both = reference.kind == "number"
    outside = counts[-1] + (counts[0] if both else 0.0) if len(counts) > 1 else 0.0
    return float(outside), float(counts.sum())


def _smooth(counts: ArrayLike) -> Vector:
    padded = np.asarray(counts, dtype=np.float64) + 0.5
    return np.asarray(padded / padded.sum(), dtype=np.float64)


def _statistics(reference: Vector, own: Vector, window: ColumnProfile) -> tuple[float, ...]:
    """What is ranked: log JS, share of nulls; for numbers mean rank and mean distance of the rank
    from the middle (shift and spread), for labels the share of unlisted ones."""
    general = (log(js(reference, own) + 1e-12), window.null_rate)
    total = own.sum()
    if not total:
        return (*general, 0.5, 0.25) if window.kind == "number" else (*general, 0.0)
    if window.kind == "label":
        return (*general, float(own[-1] / total))
    share = _smooth(reference)
    rank = np.cumsum(share) - share / 2
    return (*general, float(own @ rank / total), float(own @ np.abs(rank - 0.5) / total))
